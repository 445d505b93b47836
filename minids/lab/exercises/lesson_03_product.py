"""Lesson 03: scores, weights and values, by einsum and by two batched products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import attend_by_hand, attend_short, causal_softmax, visible

CPU = torch.device("cpu")


def tensors(generator: torch.Generator, b, s, t, h, n, v, dtype) -> list[Tensor]:
    """q [b s h n], k [b t h n], v [b t h v]."""
    shapes = (b, s, h, n), (b, t, h, n), (b, t, h, v)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


# 03.3 attend_by_hand


def hand_cases(generator: torch.Generator) -> Iterator[Case]:
    """One head, several; late queries; values of another width; padding."""
    sizes = [(1, 2, 2, 1, 3, 3), (1, 3, 3, 2, 4, 4), (2, 2, 5, 3, 4, 5), (1, 1, 4, 2, 5, 3)]
    sizes += [(2, 4, 4, 2, 3, 7), (2, 5, 7, 3, 8, 2)]
    for i, (b, s, t, h, n, v) in enumerate(sizes):
        args = tensors(generator, b, s, t, h, n, v, torch.float64 if i % 2 else torch.float32)
        yield Case((*args, 0.3 + 0.1 * i), f"{s} queries, {t} keys, {h} heads of {n}")
    for s in (4, 2):
        real = torch.tensor([[False, True, True, True], [True, True, True, False]])  # [b t]
        args = tensors(generator, 2, s, 4, 2, 3, 3, torch.float32)
        yield Case((*args, 0.7, visible(s, 4, real, CPU)), f"{s} queries, 4 keys, padding")


def scored(q: Tensor, k: Tensor) -> Tensor:
    """→ [b h s t]"""
    return einsum(q, k, "b s h n, b t h n -> b h s t")


def mixed(attn: Tensor, v: Tensor) -> Tensor:
    """→ [b s h v]"""
    return einsum(attn, v, "b h s t, b t h v -> b s h v")


def future_leaks(q, k, v, scale, mask=None):
    score = scored(q, k) * scale  # [b h s t]
    return mixed(score.softmax(-1) if mask is None else causal_softmax(score, mask), v)


def scale_after_softmax(q, k, v, scale, mask=None):
    return mixed(causal_softmax(scored(q, k), mask) * scale, v)


def softmax_forgotten(q, k, v, scale, mask=None):
    seen = visible(q.shape[1], k.shape[1], None, CPU) if mask is None else mask
    return mixed((scored(q, k) * scale).masked_fill(~seen, 0.0), v)


def one_opinion(q, k, v, scale, mask=None):
    score = scored(q, k).sum(1, keepdim=True) * scale  # [b 1 s t]
    return mixed(causal_softmax(score, mask).expand(-1, q.shape[2], -1, -1), v)


def divided(q, k, v, scale, mask=None):
    return attend_by_hand(q, k, v, 1 / scale, mask)


# 03.4 attend_short


def short_cases(generator: torch.Generator) -> Iterator[Case]:
    """s = t, no padding; batches and heads of every kind."""
    sizes = [(1, 2, 1, 3, 3), (1, 3, 2, 4, 4), (2, 4, 1, 3, 5), (2, 5, 3, 4, 4), (3, 4, 2, 5, 3)]
    sizes += [(2, 7, 2, 8, 6)]
    for i, (b, s, h, n, v) in enumerate(sizes):
        args = tensors(generator, b, s, s, h, n, v, torch.float64 if i % 2 else torch.float32)
        yield Case((*args, 0.3 + 0.1 * i), f"b={b}, {s} tokens, {h} heads of {n}")


def products(q: Tensor, k: Tensor, v: Tensor, scale: float, future: Tensor) -> Tensor:
    """q, k [B s n], v [B s v], future [s s] added → [B s v]"""
    score = torch.baddbmm(future, q, rearrange(k, "B t n -> B n t"), alpha=scale)  # [B s t]
    return torch.bmm(score.softmax(-1), v)


def future_of(q: Tensor, diagonal: int = 1) -> Tensor:
    """−∞ where nobody may look.  → [s s]"""
    s = q.shape[1]
    return q.new_full((s, s), float("-inf")).triu(diagonal)


def short(q, k, v, scale, future=None, back="(b h) s v -> b s h v"):
    """As the library's, with one thing changed."""
    future = future_of(q) if future is None else future
    b, _, h, _ = q.shape
    q, k, v = (rearrange(x, "b s h n -> (b h) s n") for x in (q, k, v))
    out: Any = products(q, k, v, scale, future)
    return rearrange(out, back, b=b, h=h)


def cut_without_moving(q, k, v, scale):
    b, s, h, _ = q.shape
    future = future_of(q)
    q, k, v = (x.reshape(b * h, s, -1) for x in (q, k, v))
    return products(q, k, v, scale, future).reshape(b, s, h, -1)


def glued_without_moving(q, k, v, scale):
    b, s, h, _ = q.shape
    return rearrange(short(q, k, v, scale), "b s h v -> b h s v").reshape(b, s, h, -1)


def mask_is_a_mild_number(q, k, v, scale):
    s = q.shape[1]
    return short(q, k, v, scale, q.new_full((s, s), -1.0).triu(1))


BY_HAND = Exercise(
    "03.3",
    "attend_by_hand",
    "scores, weights, a mixture of values",
    attend_by_hand,
    hand_cases,
    (
        Mistake(
            "scale forgotten",
            "Scores grow with the root of the width. Unscaled, softmax picks one key and ignores "
            "the rest, and hardly any gradient comes back.",
            lambda q, k, v, scale, mask=None: attend_by_hand(q, k, v, 1.0, mask),  # noqa: ARG005
        ),
        Mistake(
            "scale after the softmax",
            "Scaling the weights makes the output smaller. The scale is for the scores, before "
            "they are compared.",
            scale_after_softmax,
        ),
        Mistake(
            "a scale of its own",
            "The scale is given. It is 1/√n most of the time, but DeepSeek-V3 with YaRN takes "
            "1.87 times as much.",
            lambda q, k, v, scale, mask=None: attend_by_hand(  # noqa: ARG005
                q, k, v, q.shape[-1] ** -0.5, mask
            ),
        ),
        Mistake(
            "divided by the scale",
            "The scale is the factor 1/√n already; the scores are multiplied by it.",
            divided,
        ),
        Mistake(
            "the future leaks",
            "Without a mask given, causality still holds: no query may see a later key.",
            future_leaks,
        ),
        Mistake(
            "the given mask is ignored",
            "Plain causality only; the mask that was handed over also hides padding.",
            lambda q, k, v, scale, mask=None: attend_by_hand(q, k, v, scale),  # noqa: ARG005
        ),
        Mistake(
            "all heads share one opinion",
            "The scores of all heads were added. Each head compares its own channels and looks "
            "where it likes; the letter h must survive the first product.",
            one_opinion,
        ),
        Mistake(
            "softmax forgotten",
            "Raw scores are no shares: they are negative at times and do not add up to one.",
            softmax_forgotten,
        ),
    ),
    (
        "Three lines. First write the shapes of what comes in and of what goes out.",
        "Which letter disappears in the first product, and which in the second? Those are summed.",
        "Scores have the letters b h s t: the channels are gone. Multiply by the scale, share out "
        "with causal_softmax, handing the mask on, then sum the values over the keys.",
    ),
    gradients=True,
)

SHORT = Exercise(
    "03.4",
    "attend_short",
    "heads folded into the batch, two products",
    attend_short,
    short_cases,
    (
        Mistake(
            "heads cut without moving the axis",
            "In memory the heads of one token lie side by side. A reshape alone makes a 'head' of "
            "a few consecutive tokens with all their heads: each token sees only its near "
            "neighbours. Shapes fit, nothing leaks, nothing complains.",
            cut_without_moving,
        ),
        Mistake(
            "heads glued without moving back",
            "The way in was right. On the way out the axis of heads stays before that of tokens, "
            "and a reshape mixes positions: a token receives what an earlier or later one asked.",
            glued_without_moving,
        ),
        Mistake(
            "batch and heads exchanged on return",
            "What was folded as (b h) must be unfolded as (b h). With one row per batch nobody "
            "notices.",
            lambda q, k, v, scale: short(q, k, v, scale, None, "(h b) s v -> b s h v"),
        ),
        Mistake(
            "nobody sees itself",
            "The diagonal is hidden too, and the first token, which sees nothing, becomes NaN.",
            lambda q, k, v, scale: short(q, k, v, scale, future_of(q, 0)),
        ),
        Mistake(
            "the future leaks",
            "Nothing hides the later keys.",
            lambda q, k, v, scale: short(q, k, v, scale, torch.zeros_like(future_of(q))),
        ),
        Mistake(
            "the past is hidden",
            "The triangle that is hidden is the wrong one: upper is future, lower is past.",
            lambda q, k, v, scale: short(q, k, v, scale, future_of(q).mT),
        ),
        Mistake(
            "scale forgotten",
            "baddbmm multiplies the product by alpha, which is 1 unless you say otherwise.",
            lambda q, k, v, scale: short(q, k, v, 1.0),  # noqa: ARG005
        ),
        Mistake(
            "the future is merely made unlikely",
            "−1 in place of −∞: later keys get e times less weight, but they are read.",
            mask_is_a_mild_number,
        ),
    ),
    (
        "torch.bmm multiplies stacks of matrices. What is a single matrix here, and which two "
        "axes number the stack?",
        "Move the head axis beside the batch axis before the two become one; on the way back do "
        "the same steps in reverse. The future is a square of −∞ above the diagonal.",
        "rearrange folds all three tensors at once; baddbmm adds the future, multiplies and "
        "scales in one go; then softmax, bmm with the values, and unfold.",
    ),
    gradients=True,
)
