"""One very small training run, healthy or ill, and everything its log would show.

A plan holds what a run does; an illness changes one field of it. Both runs of a case share weights,
text and order of the text, so whatever differs between their curves comes from that field.
Axes: b rows, s positions, V vocabulary, e experts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from minids.config import ModelConfig, TrainConfig
from minids.data import tales
from minids.data.tokenizer import Tokenizer
from minids.lab import evidence
from minids.nn import attention, mla
from minids.nn.loss import IGNORE
from minids.nn.rope import rotate_pairs
from minids.nn.transformer import Transformer
from minids.train import step as training
from minids.train.comm import Solo
from minids.train.optim import Optimizer
from minids.train.schedule import lr_factor
from minids.train.step import Gradients, StepReport, clip

CONTEXT = 64
ROWS = 12  # of a step
QUESTIONS = 4  # of these, in a micro-batch of their own
ANSWER = 2  # targets of a question: as in fine-tuning, its prompt is not trained on
HELD_OUT = 16  # tales
EVAL_EVERY = 10
SAMPLE = 24  # tokens
WARMUP = 15


class Plan(NamedTuple):
    """What a run does."""

    lr: float = 0.08
    warmup: int = WARMUP
    balanced: bool = True  # the router's bias is moved towards even load
    attend: Callable[..., Tensor] = attention.attend
    rotate: Callable[..., Tensor] = rotate_pairs  # of the evaluation; training uses pairs
    gradient: Callable[..., StepReport] = training.gradient
    order: str = "shuffled"  # sorted, repeated
    junk: tuple[float, int] = (0.0, 0)  # noise instead of text: from which share on, how many steps


class Row(NamedTuple):
    """A window of a tale, as a training row."""

    name: str  # "17:64", document and position of its first token
    tokens: Tensor  # [s]
    labels: Tensor  # [s]


class Curves(NamedTuple):
    """The log of a run: one entry per step unless said otherwise."""

    loss: list[float]  # nats per target, training
    grad_norm: list[float]  # before clipping
    lr: list[float]  # as a share of its peak
    update: list[float]  # median over all matrices of how far the step moved them, relative
    load: list[list[int]]  # [steps e] visits of each expert
    rows: list[list[str]]  # names of the rows trained on
    held_out: list[tuple[int, float]]  # (steps done, nats per target), every EVAL_EVERY steps
    sample: str  # written after the last step, token by token


class Micro(NamedTuple):
    """A micro-batch."""

    tokens: Tensor  # [b s]
    labels: Tensor  # [b s]


def run(plan: Plan, seed: int, steps: int) -> Curves:
    """Train for `steps` steps.  seed: of weights and text"""
    cfg = TrainConfig(
        optimizer="adamw", lr=plan.lr, warmup_steps=plan.warmup, max_steps=max(steps, WARMUP)
    )
    tokenizer = Tokenizer.shipped("tales")
    model = Transformer(model_config(tokenizer.vocab_size, balanced=plan.balanced))
    model.init_weights(torch.Generator().manual_seed(seed))
    gradients, optimizer = Gradients(model), Optimizer(model, cfg, torch.float32)
    matrices = [w for w in model.parameters() if w.ndim > 1]
    train, held_out, _ = texts(seed, steps, tokenizer)
    noise = torch.Generator().manual_seed(seed)
    log = Curves([], [], [], [], [], [], [], "")
    with swapped(mla, "attend", plan.attend):
        for step, rows in enumerate(in_order(train, plan.order, steps)):
            log.rows.append([row.name for row in rows])
            batches = micro_batches(rows)
            if 0 <= step - int(plan.junk[0] * steps) < plan.junk[1]:
                batches = [scrambled(batch, tokenizer.vocab_size, noise) for batch in batches]
            report = plan.gradient(model, gradients, batches, Solo())
            clip(gradients, report.grad_norm, cfg.max_grad_norm)
            before = [w.detach().clone() for w in matrices]
            factor = lr_factor(step, step / steps, cfg)
            optimizer.step(factor, Solo())
            model.update_biases(torch.tensor(report.load))
            log.loss.append(report.loss)
            log.grad_norm.append(report.grad_norm)
            log.lr.append(factor)
            log.update.append(evidence.update_ratio(before, matrices).median().item())
            log.load.append(report.load[0])
            if (step + 1) % EVAL_EVERY == 0 or step + 1 == steps:
                with rotating(model, plan.rotate):
                    log.held_out.append((step + 1, loss_on(model, held_out)))
        with rotating(model, plan.rotate):
            sample = told(model, tokenizer)
    return log._replace(sample=sample)


def model_config(vocab_size: int, *, balanced: bool) -> ModelConfig:
    """A DeepSeek of about 200,000 numbers: one dense block, one with eight experts."""
    return ModelConfig(
        architecture="minids-clinic", vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, kv_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=16,
        v_head_dim=16, rope_theta=100.0, intermediate_size=128, first_k_dense_replace=1,
        moe_intermediate_size=16, n_routed_experts=16, num_experts_per_tok=1,
        initializer_range=0.0, norm_topk_prob=False, tie_word_embeddings=True,
        bias_update_speed=0.02 if balanced else 0.0,
        aux_loss_alpha=0.001 if balanced else 0.0, max_position_embeddings=CONTEXT,
    )  # fmt: skip


def texts(seed: int, steps: int, tokenizer: Tokenizer) -> tuple[list[Row], list[Row], float]:
    """Rows to train on, rows held out, and the exact floor of these in nats per target."""
    stories = tales.generate(seed, n=1 << 30)
    floor_bits, n_targets = 0.0, 0
    held_out: list[Row] = []
    for index in range(HELD_OUT):
        tale = next(stories)
        rows = windows(index, tale.text, tokenizer)
        floor_bits -= tale.log2_prob
        n_targets += sum(int((row.labels != IGNORE).sum()) for row in rows)
        held_out += rows
    train: list[Row] = []
    index = HELD_OUT
    while len(train) < ROWS * steps:
        train += windows(index, next(stories).text, tokenizer)
        index += 1
    floor = floor_bits * 0.6931471805599453 / n_targets
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return [train[i] for i in order[: ROWS * steps].tolist()], held_out, floor


def windows(index: int, text: str, tokenizer: Tokenizer) -> list[Row]:
    """A tale as rows; each of its tokens but the first is a target exactly once."""
    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
    rows = []
    for start in range(0, len(ids) - 1, CONTEXT):
        tokens = torch.full((CONTEXT,), tokenizer.pad)  # [s]
        labels = torch.full((CONTEXT,), IGNORE)  # [s]
        part = torch.tensor(ids[start : start + CONTEXT + 1])
        tokens[: len(part[:CONTEXT])] = part[:CONTEXT]
        labels[: len(part) - 1] = part[1:]
        rows.append(Row(f"{index}:{start}", tokens, labels))
    return rows


def in_order(rows: list[Row], order: str, steps: int) -> Iterator[list[Row]]:
    """The rows of each step. sorted: all openings first; repeated: a twentieth, over and over."""
    if order == "sorted":
        rows = sorted(rows, key=lambda row: int(row.name.partition(":")[2]))
    if order == "repeated":
        rows = rows[: max(len(rows) // 20 // ROWS, 1) * ROWS]
    for step in range(steps):
        start = step * ROWS % len(rows)
        yield rows[start : start + ROWS]


def micro_batches(rows: Sequence[Row]) -> list[Micro]:
    """Two: running text, and questions of which only the ends are targets."""
    tokens = torch.stack([row.tokens for row in rows])  # [b s]
    labels = torch.stack([row.labels for row in rows])  # [b s]
    text = Micro(tokens[:-QUESTIONS], labels[:-QUESTIONS])
    tokens, labels = tokens[-QUESTIONS:], labels[-QUESTIONS:]  # [b s], [b s]
    left = (labels != IGNORE).flip(-1).cumsum(-1).flip(-1)  # [b s] targets from here on
    return [text, Micro(tokens, labels.masked_fill(left > ANSWER, IGNORE))]


def scrambled(batch: Micro, vocab_size: int, generator: torch.Generator) -> Micro:
    """Noise where there was text."""
    labels = torch.randint(vocab_size, batch.labels.shape, generator=generator)  # [b s]
    tokens = torch.randint(vocab_size, batch.tokens.shape, generator=generator)  # [b s]
    return Micro(tokens, labels)


@torch.no_grad()
def loss_on(model: Transformer, rows: Sequence[Row]) -> float:
    """Nats per target."""
    tokens = torch.stack([row.tokens for row in rows])  # [b s]
    labels = torch.stack([row.labels for row in rows])  # [b s]
    loss = model.loss(Micro(tokens, labels))
    return (loss.main / loss.n_targets).item()


@torch.no_grad()
def told(model: Transformer, tokenizer: Tokenizer) -> str:
    """What the model writes by itself: always the likeliest token."""
    ids = [tokenizer.bos]
    for _ in range(SAMPLE):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return tokenizer.decode(ids[1:])


@contextlib.contextmanager
def swapped(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """The module uses another function for a while."""
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def rotating(model: Transformer, rotate: Callable[..., Tensor]) -> Iterator[None]:
    """All layers turn queries and keys by this rule for a while."""
    layers: list[Any] = [block.self_attn for block in model.layers]
    before = [layer.rotate for layer in layers]
    for layer in layers:
        layer.rotate = rotate
    try:
        yield
    finally:
        for layer, rule in zip(layers, before, strict=True):
            layer.rotate = rule


def attend_one_ahead(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """Attention whose causal mask is off by one: each query sees the token it is to predict."""
    del mask
    seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1] + 1)
    return attention.attend_by_hand(q, k, v, scale, rearrange(seen, "s t -> 1 1 s t"))


def mean_of_means(
    model: Transformer, gradients: Gradients, micro_batches: Sequence[Micro], comm: Solo
) -> StepReport:
    """Every micro-batch counts the same, however few targets it has."""
    del comm
    gradients.zero()
    loss, load = 0.0, torch.zeros(0)
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / part.n_targets / len(micro_batches)).backward()
        loss += (part.main / part.n_targets).item() / len(micro_batches)
        load = part.load if not load.numel() else load + part.load
    norm = torch.linalg.vector_norm(gradients.flat).item()
    return StepReport(loss, [], 0.0, norm, 0, load.tolist())
