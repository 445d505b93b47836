"""How good a model is, in units that mean something: bits per byte beside the floor, facts kept.

Bits per byte: −log2 of the probability the model gives to held-out documents, over their size in
UTF-8. Every document is scored from its own start (BOS + text + EOS), so the sum is that of the
whole documents and compares bit by bit with their exact probability, where that is known.
Documents longer than the context are read in windows that overlap by half: every token that is
scored later has at least half a context of history.

Cloze: a story is cut where a fact decides the next word (who owns the lamp?). The model is right
if the true word is likelier than every distractor.

Axes: b rows, s tokens, d hidden_size, T scored tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.data import tales
from minids.data.load import Data, Document
from minids.data.tales import Fact
from minids.data.tokenizer import Tokenizer
from minids.generate.engine import Context, pad_left
from minids.nn.loss import IGNORE
from minids.nn.transformer import Transformer

TOKENS_PER_PASS = 8192  # bounds the activations of one forward pass
TOKENS_PER_HEAD = 2048  # and of the logits, which are V wide
NATS_PER_BIT = math.log(2)
Z95 = 1.959964  # two-sided 95 % quantile of the normal distribution


class Window(NamedTuple):
    """Targets [start, end) of one document, of which those from `fresh` on are scored."""

    document: int
    start: int
    fresh: int
    end: int


class Interval(NamedTuple):
    """A share or ratio with its 95 % interval; NaN where one document says nothing about others."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.high - self.low)


class Score(NamedTuple):
    """Held-out documents under the model; the lists run along the documents."""

    bits: list[float]
    n_bytes: list[int]
    floor_bits: list[float] | None
    n_tokens: int
    n_windows: int
    context: int

    @property
    def loss(self) -> float:
        """Nats per token, end tokens included."""
        return sum(self.bits) * NATS_PER_BIT / self.n_tokens

    @property
    def bpb(self) -> Interval:
        """Bits per byte."""
        return ratio(self.bits, self.n_bytes)

    @property
    def floor_bpb(self) -> float | None:
        """The exact bits per byte of these documents."""
        return None if self.floor_bits is None else sum(self.floor_bits) / sum(self.n_bytes)

    @property
    def above_floor(self) -> Interval | None:
        """By what share the model's bits exceed the exact ones: 0.05 is 5 %."""
        if self.floor_bits is None:
            return None
        value, low, high = ratio(self.bits, self.floor_bits)
        return Interval(value - 1, low - 1, high - 1)


def bits_per_byte(model: Transformer, documents: Sequence[Document], context: int) -> Score:
    """Score whole documents, in batches of similar length."""
    spans = [w for i, d in enumerate(documents) for w in windows(i, len(d.tokens) - 1, context)]
    bits = [0.0] * len(documents)
    for batch in grouped(spans, [w.end - w.start for w in spans]):
        tokens, labels = laid_out(documents, batch)
        nats = -target_logprobs(model, tokens, labels)  # [T]
        for window, part in zip(batch, nats.split([w.end - w.fresh for w in batch]), strict=True):
            bits[window.document] += part.sum().item() / NATS_PER_BIT
    floors = [d.floor_bits for d in documents if d.floor_bits is not None]
    return Score(
        bits,
        [d.n_bytes for d in documents],
        floors if len(floors) == len(documents) else None,
        sum(len(d.tokens) - 1 for d in documents),
        len(spans),
        context,
    )


def windows(document: int, n_targets: int, context: int) -> list[Window]:
    """Cover all targets, at most `context` a window; later ones are half history, half fresh."""
    found = [Window(document, 0, 0, min(n_targets, context))]
    while (seen := found[-1].end) < n_targets:
        end = min(n_targets, seen + context // 2)
        found.append(Window(document, end - context, seen, end))
    return found


def grouped(items: Sequence, lengths: Sequence[int]) -> Iterator[list]:
    """Items of similar length together, longest first, TOKENS_PER_PASS columns at most."""
    order = sorted(range(len(items)), key=lambda i: -lengths[i])
    while order:
        n = max(1, TOKENS_PER_PASS // max(1, lengths[order[0]]))
        yield [items[i] for i in order[:n]]
        order = order[n:]


def laid_out(documents: Sequence[Document], batch: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Windows → tokens [b s], labels [b s]; padding is on the right, where nothing real sees it."""
    s = max(w.end - w.start for w in batch)
    tokens = torch.zeros(len(batch), s, dtype=torch.int64)  # [b s]
    labels = torch.full_like(tokens, IGNORE)  # [b s]
    for row, (document, start, fresh, end) in enumerate(batch):
        ids = torch.tensor(documents[document].tokens[start : end + 1])
        tokens[row, : end - start] = ids[:-1]
        labels[row, fresh - start : end - start] = ids[fresh - start + 1 :]
    return tokens, labels


@torch.inference_mode()
def target_logprobs(model: Transformer, tokens: Tensor, labels: Tensor) -> Tensor:
    """Log-probability, nats, of each label that is not IGNORE: [b s], [b s] → [T] float64."""
    device = model.embed_tokens.weight.device
    tokens, labels = tokens.to(device), labels.to(device)
    wanted = labels != IGNORE  # [b s]
    states = model.hidden(tokens)[wanted].split(TOKENS_PER_HEAD)  # [T d] in parts
    answers = labels[wanted].split(TOKENS_PER_HEAD)
    parts = [
        F.cross_entropy(model.logits(state), answer, reduction="none")
        for state, answer in zip(states, answers, strict=True)
    ]
    return -torch.cat(parts).double().cpu()


class Kept(NamedTuple):
    """How often facts of one kind were kept."""

    kind: str
    hits: int
    n: int
    chance: float  # mean of 1 / number of choices

    @property
    def share(self) -> Interval:
        """Of questions answered right."""
        return wilson(self.hits, self.n)


def cloze(model: Transformer, facts: Sequence[Fact], tokenizer: Tokenizer) -> list[Kept]:
    """Ask every fact → one line per kind, in the order they first come."""
    right = answered_right(model, facts, tokenizer)
    lines = []
    for kind in dict.fromkeys(fact.kind for fact in facts):
        mine = [i for i, fact in enumerate(facts) if fact.kind == kind]
        chance = sum(1 / (1 + len(facts[i].distractors)) for i in mine) / len(mine)
        lines.append(Kept(kind, sum(right[i] for i in mine), len(mine), chance))
    return lines


def answered_right(model: Transformer, facts: Sequence[Fact], tokenizer: Tokenizer) -> list[bool]:
    """Whether the true answer of each fact is likelier than every distractor."""
    questions = []
    for i, fact in enumerate(facts):
        texts = [fact.prefix + choice for choice in (fact.answer, *fact.distractors)]
        ids = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
        columns = zip(*ids, strict=False)  # up to the end of the shortest
        n = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
        questions.append((i, ids[0][:n], [choice[n:] for choice in ids]))
    right = [False] * len(facts)
    for batch in grouped(questions, [len(prompt) for _, prompt, _ in questions]):
        prompts, endings = [prompt for _, prompt, _ in batch], [ends for _, _, ends in batch]
        scores = ending_logprobs(model, prompts, endings, tokenizer.pad)
        for (i, _, _), (true, *others) in zip(batch, scores, strict=True):
            right[i] = all(true > other for other in others)
    return right


@torch.inference_mode()
def ending_logprobs(
    model: Transformer, prompts: list[list[int]], endings: list[list[list[int]]], pad: int
) -> list[list[float]]:
    """Log-probability, nats, of each ending of each prompt, which is read once for all of them."""
    device = model.embed_tokens.weight.device
    tokens, mask = pad_left(prompts, pad, device)
    context = Context(model, mask, use_cache=True)
    states = context.states(tokens)[:, -1:]  # [b 1 d]
    flat = [ending for ends in endings for ending in ends]
    rows = torch.tensor([i for i, ends in enumerate(endings) for _ in ends], device=device)
    context.select(rows)
    states = states[rows]
    labels = torch.full((len(flat), max(map(len, flat), default=1)), IGNORE, device=device)
    for row, ending in zip(labels, flat, strict=True):
        row[: len(ending)] = torch.tensor(ending)
    if labels.shape[1] > 1:
        more = context.states(labels[:, :-1].clamp(min=0))  # [b s-1 d]
        states = torch.cat([states, more], dim=1)  # [b s d]
    logits = model.logits(states).flatten(0, 1)  # [b*s V]
    nats = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="none")
    scores = iter((-nats.view(labels.shape).sum(-1)).tolist())
    return [[next(scores) for _ in ends] for ends in endings]


def held_out_facts(data: Data, per_kind: int) -> list[Fact]:
    """Facts of held-out tales, at most one of a kind from each, so that questions are independent.

    Empty for data whose world is not known.
    """
    if data.name != "tales":
        return []
    found: dict[str, list[Fact]] = {}
    for i, tale in enumerate(tales.generate(data.cfg.data.seed, len(data.held_out))):
        assert tale.text == data.held_out[i].text, "the held-out tales are the first of their seed"
        for kind in dict.fromkeys(fact.kind for fact in tale.facts):
            mine = [fact for fact in tale.facts if fact.kind == kind]
            found.setdefault(kind, []).append(mine[i % len(mine)])
    return [fact for kind in sorted(found) for fact in found[kind][:per_kind]]


def quick_eval(model: Transformer, data: Data) -> dict[str, float]:
    """What a training run watches: nats per token and bits per byte of its first documents."""
    documents = data.held_out[: data.cfg.train.eval_documents]
    score = bits_per_byte(model, documents, data.cfg.data.context)
    found = {"val_loss": score.loss, "bpb": score.bpb.value}
    if score.floor_bpb is not None and score.above_floor is not None:
        found |= {"floor_bpb": score.floor_bpb, "above_floor": score.above_floor.value}
    return found


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Σ / Σ with its 95 % interval over documents, from the spread around the common ratio."""
    n, total = len(numerators), sum(denominators)
    value = sum(numerators) / total
    spread = sum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    half = Z95 * math.sqrt(spread * n / (n - 1)) / total if n > 1 else math.nan
    return Interval(value, value - half, value + half)


def wilson(hits: int, n: int) -> Interval:
    """Share of hits with its 95 % interval, honest at 0, at n and for small n. (Wilson 1927)"""
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    share, z2 = hits / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
