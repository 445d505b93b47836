"""Text from a model, one token at a time, with everything already read kept in the latent cache.

Prompts of different length are padded on the left, so that every row's newest token stands in the
last column and one step serves all rows. RoPE sees distances only: padding shifts nothing and needs
no positions of its own. Samples of one prompt share its prefill. A step costs one forward pass
over b tokens and one copy to the host; a small model at batch 1 is bound by the start of operators
and by reading weights, so float32 on one thread is fastest on a CPU.

Axes: b rows (prompt by prompt, its samples side by side), s new columns, t all columns, V
vocabulary, d hidden_size.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.generate.fast import FastStep
from minids.generate.sample import logprob_of, pick
from minids.generate.settings import Sampling, check_counts
from minids.nn.cache import Cache
from minids.nn.transformer import Transformer


class Step(NamedTuple):
    """One new token for every row still running; the four lists run along those rows."""

    rows: list[int]  # which of the b rows of the call these are
    tokens: list[int]
    logprobs: list[float]  # nats, of the whole distribution at temperature 1
    stops: list[str]  # "" goes on · eos · length (max_new_tokens) · context (no position left)


class Completion(NamedTuple):
    """All that followed one prompt."""

    prompt: list[int]
    tokens: list[int]  # the end token included
    logprobs: list[float]  # nats, one per token
    text: str  # of the tokens; the end token has none
    stop: str  # eos · length · context


class Engine:
    """Completes batches of prompts; holds nothing between calls."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, use_cache: bool = True) -> None:
        self.model, self.tokenizer, self.use_cache = model, tokenizer, use_cache

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        max_new_tokens: int,
        num_samples: int = 1,
    ) -> Iterator[Step]:
        """Steps until every row has met the end token, `max_new_tokens` or the end of the context.

        Equal prompts, rule, seed and machine give equal tokens. Raises UserError for a prompt that
        fills the context, and with code 3 for logits that are not finite.
        """
        check_counts(max_new_tokens, num_samples)
        device = self.model.embed_tokens.weight.device
        generator = torch.Generator(device).manual_seed(sampling.seed)
        prompt_of = [p for p in range(len(prompts)) for _ in range(num_samples)]
        room = [room_after(prompts[p], self.model.cfg.max_position_embeddings) for p in prompt_of]
        rows = Rows(room, max_new_tokens, self.tokenizer.eos)
        tokens, mask = pad_left(prompts, self.tokenizer.pad, device)
        context = Context(self.model, mask, use_cache=self.use_cache, dtype=decoding_in(self.model))
        logits = context.read(tokens)  # [b V], b prompts
        if num_samples > 1:
            copies = torch.tensor(prompt_of, device=device)
            context.select(copies)
            logits = logits[copies]  # [b V], b rows
        while True:
            ids = pick(logits, sampling, generator)  # [b]
            step = rows.take(*to_host(ids, logprob_of(logits, ids)))
            if not all(map(math.isfinite, step.logprobs)):
                raise not_finite(self.model)
            yield step
            if not rows.running:
                return
            if (keep := rows.compact()) is not None:
                index = torch.tensor(keep, device=device)
                context.select(index)
                ids = ids[index]
            logits = context.read(rearrange(ids, "b -> b 1"))

    def complete(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        max_new_tokens: int,
        num_samples: int = 1,
    ) -> list[Completion]:
        """`generate` to the end: one Completion per prompt and sample, prompt by prompt."""
        done = [Completion(p, [], [], "", "") for p in prompts for _ in range(num_samples)]
        for step in self.generate(prompts, sampling, max_new_tokens, num_samples):
            for row, token, logprob, stop in zip(*step, strict=True):
                done[row].tokens.append(token)
                done[row].logprobs.append(logprob)
                done[row] = done[row]._replace(stop=stop)
        return [c._replace(text=self.tokenizer.decode(c.tokens)) for c in done]

    def stream(self, prompt: list[int], sampling: Sampling, max_new_tokens: int) -> Iterator[str]:
        """One completion as text while it grows: a character comes once all its bytes are there."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for step in self.generate([prompt], sampling, max_new_tokens):
            if text := decoder.decode(self.tokenizer.decode_bytes(step.tokens)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text


class Context:
    """What b rows have read: latents in the cache or, for comparison, ids that are read anew.

    Speculative decoding reads several columns at once and crops the cache where a draft failed.
    """

    def __init__(
        self,
        model: Transformer,
        mask: Tensor | None,
        *,
        use_cache: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.mask = model, mask  # [b t], or None while no row is padded
        self.dtype = dtype or model.compute_dtype
        self.cache = Cache(model.cfg.num_hidden_layers) if use_cache else None
        self.fast = FastStep(model) if use_cache and FastStep.serves(model, self.dtype) else None
        self.past: Tensor | None = None  # [b t] ids, kept without a cache only
        self.n_columns = 0

    def read(self, tokens: Tensor) -> Tensor:
        """New columns [b s], each seeing all before it → logits [b V] of what follows the last."""
        if self.fast and self.cache and tokens.shape[1] == 1 and self.cache.length:
            self.widen(1)
            return self.fast.logits(tokens[:, 0], self.mask, self.cache)
        return self.model.logits(self.states(tokens)[:, -1])

    def states(self, tokens: Tensor) -> Tensor:
        """New columns [b s] → their states behind the final norm [b s d], for any s."""
        s = tokens.shape[1]
        self.widen(s)
        if self.cache is None:
            tokens = tokens if self.past is None else torch.cat([self.past, tokens], dim=1)
            self.past = tokens  # [b t]
        training_in, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        try:
            return self.model.hidden(tokens, mask=self.mask, cache=self.cache)[:, -s:]
        finally:
            self.model.compute_dtype = training_in

    def widen(self, s: int) -> None:
        """Let the mask cover `s` more columns: what follows a prompt is never padding."""
        self.n_columns += s
        if self.mask is not None:
            self.mask = F.pad(self.mask, (0, self.n_columns - self.mask.shape[1]), value=True)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; a row may repeat."""
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.cache is not None:
            self.cache.select(rows)
        if self.past is not None:
            self.past = self.past[rows]


class Rows:
    """Who is still running. `running` names rows of the call; the batch may hold others too.

    Rows that are done leave the batch when they are half of it: leaving costs a copy of the cache,
    staying a wasted row.
    """

    def __init__(self, room: list[int], max_new_tokens: int, eos: int) -> None:
        self.batch = list(range(len(room)))  # the row of the call in each row of the batch
        self.running = list(self.batch)
        self.room, self.max_new_tokens, self.eos = room, max_new_tokens, eos
        self.n_tokens = 0

    def take(self, ids: list[int], logprobs: list[float]) -> Step:
        """What the batch chose → the Step of the rows that run; those that end now run no more."""
        self.n_tokens += 1
        running = set(self.running)
        at = [i for i, row in enumerate(self.batch) if row in running]
        stops = [self.stop(self.batch[i], ids[i]) for i in at]
        step = Step(self.running, [ids[i] for i in at], [logprobs[i] for i in at], stops)
        self.running = [row for row, stop in zip(self.running, stops, strict=True) if not stop]
        return step

    def stop(self, row: int, token: int) -> str:
        """Why this row ends with this token, or "" if it goes on."""
        if token == self.eos:
            return "eos"
        if self.n_tokens == self.max_new_tokens:
            return "length"
        return "context" if self.n_tokens == self.room[row] else ""

    def compact(self) -> list[int] | None:
        """Rows of the batch to keep, once at most half of them run; None: leave it as it is."""
        if len(self.running) > len(self.batch) // 2:
            return None
        running = set(self.running)
        keep = [i for i, row in enumerate(self.batch) if row in running]
        self.batch = list(self.running)
        return keep


def pad_left(
    prompts: Sequence[list[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Token lists → tokens [b t] and mask [b t], True for real ones; None if none is padded."""
    t = max(len(prompt) for prompt in prompts)
    rows = [[pad] * (t - len(prompt)) + prompt for prompt in prompts]
    tokens = torch.tensor(rows, device=device)  # [b t]
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # [b]
    if lengths.min() == t:
        return tokens, None
    return tokens, torch.arange(t, device=device) >= t - rearrange(lengths, "b -> b 1")


def room_after(prompt: list[int], context: int) -> int:
    """Tokens that fit behind a prompt; a prompt needs one itself (BOS) and must leave one."""
    if not prompt:
        raise UserError("prompt", "no tokens", "at least the start token")
    if len(prompt) >= context:
        raise UserError(
            "prompt",
            f"{len(prompt):,} tokens, the model reads {context:,}",
            f"up to {context - 1:,} tokens",
        )
    return context - len(prompt)


def decoding_in(model: Transformer) -> torch.dtype:
    """float32 on a CPU, where a few rows gain nothing from bfloat16; else as the model is set."""
    on_cpu = model.embed_tokens.weight.device.type == "cpu"
    return (
        torch.promote_types(model.compute_dtype, torch.float32) if on_cpu else model.compute_dtype
    )


def to_host(ids: Tensor, logprobs: Tensor) -> tuple[list[int], list[float]]:
    """Both [b] in one transfer, the only wait of a step; float64 holds any id exactly."""
    chosen, values = torch.stack([ids.double(), logprobs.double()]).tolist()
    return [int(i) for i in chosen], values


def not_finite(model: Transformer) -> UserError:
    """Names the first weight that is not finite, or says that none is."""
    bad = (n for n, w in model.state_dict().items() if not w.isfinite().all())
    where = next(bad, None)
    cause = f"{where} holds NaN or infinity" if where else "all weights are finite"
    return UserError("model", f"its logits are not finite; {cause}", "finite numbers", code=3)
