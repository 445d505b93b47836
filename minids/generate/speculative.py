"""Speculative decoding: the MTP modules guess ahead, the main model reads all guesses in one pass.

A pass over u+1 columns costs a little more than a pass over one, as weights are read once. A
rejection rule decides how many guesses stay, such that the tokens are distributed exactly as if the
main model had drawn each by itself: nothing is lost, whatever the drafts are worth.
(Leviathan et al., 2023; as a use of MTP: DeepSeek-V3 §2.2, §5.4.3)

With temperature 0 both distributions are one-hot and the same rule is greedy decoding. Columns read
together and one by one round differently: where two tokens tie to the last bits, greedy may differ.
Axes: s columns, u drafts, V vocabulary, d hidden_size; one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.generate.engine import Context, Engine, Step, decoding_in, not_finite, room_after
from minids.generate.sample import draw, filter_logits, logprob_of
from minids.generate.settings import Sampling, check_counts
from minids.nn.cache import Cache
from minids.nn.mtp import MTPModule
from minids.nn.transformer import Transformer


@dataclass
class Tally:
    """What the drafts were worth."""

    passes: int = 0  # of the main model, the prompt's included
    drafted: int = 0  # tokens shown to the main model
    accepted: int = 0
    tokens: int = 0  # that came out

    @property
    def acceptance(self) -> float | None:
        """Share of drafts that stayed; None while nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else None


class Speculative(Engine):
    """An Engine that drafts. Rows run one after the other; `tally` is of the latest call."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer) -> None:
        if not len(model.mtp):
            raise UserError(
                "speculative",
                "the model has no MTP module that could draft",
                "a run with model.num_nextn_predict_layers of at least 1",
            )
        super().__init__(model, tokenizer)
        self.tally = Tally()

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        max_new_tokens: int,
        num_samples: int = 1,
    ) -> Iterator[Step]:
        """As `Engine.generate`; a pass gives up to u+1 Steps, and other draws for the same seed."""
        check_counts(max_new_tokens, num_samples)
        most = self.model.cfg.max_position_embeddings
        prompts = [prompt for prompt in prompts for _ in range(num_samples)]
        room = [room_after(prompt, most) for prompt in prompts]
        device = self.model.embed_tokens.weight.device
        generator = torch.Generator(device).manual_seed(sampling.seed)
        self.tally = Tally()
        for row, prompt in enumerate(prompts):
            left = min(max_new_tokens, room[row])
            end = "length" if left == max_new_tokens else "context"
            for token, logprob in self.follow(prompt, left, sampling, generator):
                left -= 1
                stop = "eos" if token == self.tokenizer.eos else "" if left else end
                self.tally.tokens += 1
                yield Step([row], [token], [logprob], [stop])
                if stop:
                    break

    def follow(
        self, prompt: list[int], left: int, sampling: Sampling, generator: torch.Generator
    ) -> Iterator[tuple[int, float]]:
        """Up to `left` tokens and their logprobs; the caller stops at the end token."""
        dtype, device = decoding_in(self.model), self.model.embed_tokens.weight.device
        context = Context(self.model, None, use_cache=True, dtype=dtype)
        drafter = Drafter(self.model, sampling, generator, dtype)
        known, unread, drafts = list(prompt), list(prompt), list[int]()
        q = torch.zeros(0, self.model.cfg.vocab_size, dtype=torch.float64, device=device)
        while left:
            columns = torch.tensor([unread + drafts], device=device)  # [1 s]
            state = context.states(columns)  # [1 s d]
            logits = self.model.logits(state[0, len(unread) - 1 :])  # [u+1 V]
            p = distribution(logits, sampling)  # [u+1 V]
            n_kept, last = verify(p, q, drafts, uniforms(len(drafts) + 1, generator))
            new = [*drafts[:n_kept], last]
            logprobs = logprob_of(logits[: len(new)], torch.tensor(new, device=device)).tolist()
            if not all(map(math.isfinite, logprobs)):
                raise not_finite(self.model)
            self.tally.passes += 1
            self.tally.drafted += len(drafts)
            self.tally.accepted += n_kept
            yield from zip(new, logprobs, strict=True)
            left -= len(new)
            if left:
                assert context.cache is not None
                known = known + new
                context.cache.crop(len(known) - 1)  # the last one is unread
                drafter.crop(n_kept)
                state, unread = state[:, : len(unread) + n_kept], [last]
                drafts, q = drafter.guess(known, state)
                drafts, q = drafts[: left - 1], q[: left - 1]


class Drafter:
    """The chained MTP modules with caches of their own.

    With tokens 0 … n known, all work at position n−1: module u joins the state of depth u−1 there
    with the embedding of token n−1+u, its predecessor's guess, and guesses token n+u. What was
    computed from guesses that failed is cropped and computed anew.
    """

    def __init__(
        self,
        model: Transformer,
        sampling: Sampling,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.sampling, self.generator = model, sampling, generator
        self.dtype, self.cache = dtype, Cache(len(model.mtp))
        weight = model.embed_tokens.weight
        self.state = weight.new_zeros(1, 0, weight.shape[1], dtype=dtype)  # [1 s d], the latest

    def guess(self, known: list[int], state: Tensor) -> tuple[list[int], Tensor]:
        """Tokens 0 … n, new main states [1 s d] up to n−1 → u drafts and their q [u V]"""
        start, n, device = self.cache.length, len(known) - 1, state.device
        state = torch.cat([self.state, state], dim=1)[:, start - n :]  # [1 n-start d]
        self.state = state
        tokens, q = known[start:], []
        training_in, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        try:
            rope = self.model.rope(torch.arange(start, n, device=device))
            for u, (module, cache) in enumerate(
                zip(self.model.mtp, self.cache.layers, strict=True), start=1
            ):
                assert isinstance(module, MTPModule)
                embedded = self.model.embed(torch.tensor([tokens[u:]], device=device))
                state, _ = module.look_further(state, embedded, rope, None, cache)
                q.append(distribution(self.model.logits(state[:, -1]), self.sampling))  # [1 V]
                tokens.append(int(draw(q[-1], uniforms(1, self.generator)[:, None])))
        finally:
            self.model.compute_dtype = training_in
        return tokens[-len(q) :], torch.cat(q)

    def crop(self, n_kept: int) -> None:
        """Forget what rests on drafts behind the first `n_kept` of the latest guess."""
        depth, n = len(self.cache.layers), self.cache.length
        self.cache.crop(max(0, min(n, n + n_kept + 1 - depth)))


def verify(p: Tensor, q: Tensor, drafts: list[int], uniform: Tensor) -> tuple[int, int]:
    """How many drafts stay, and the token behind them.

    p [u+1 V] the main model's distributions, q [u V] the drafts' own, uniform [u+1] in [0, 1): one
    number per draft, the last one draws. Draft x stays with probability min(1, p(x)/q(x)). At the
    first that does not, max(p − q, 0) is drawn from: what q gave too little. If all stay, p gives
    one more.
    """
    for i, x in enumerate(drafts):
        if uniform[i] * q[i, x] >= p[i, x]:
            residual = (p[i] - q[i]).clamp(min=0)  # [V]
            return i, int(draw(residual[None], uniform[None, -1:]))
    return len(drafts), int(draw(p[None, len(drafts)], uniform[None, -1:]))


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """What `pick` draws from, as probabilities: logits [s V] → [s V] float64."""
    if sampling.greedy:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    return torch.softmax(filter_logits(logits, sampling).double(), dim=-1)


def uniforms(n: int, generator: torch.Generator) -> Tensor:
    """[n] float64 in [0, 1)"""
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
