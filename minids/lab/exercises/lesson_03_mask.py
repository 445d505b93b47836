"""Lesson 03: who may look at whom, and a softmax over those alone.  Axes: b s t h of attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import causal_softmax, visible

CPU = torch.device("cpu")


# 03.1 visible


def sights(generator: torch.Generator) -> Iterator[Case]:
    """Whole texts, late queries, padding on either side, a row that is nothing but padding."""
    yield Case((2, 2, None, CPU), "two tokens")
    for s, t in ((1, 1), (3, 3), (1, 4), (2, 5)):
        yield Case((s, t, None, CPU), f"{s} queries, {t} keys, no padding")
    left = torch.tensor([[False, True, True], [True, True, True]])  # [b t]
    yield Case((3, 3, left, CPU), "padding on the left")
    yield Case((2, 3, ~left, CPU), "late queries, one row without real tokens in sight")
    for s, t in ((4, 4), (2, 6), (5, 7)):
        real = torch.rand(3, t, generator=generator) < 0.6  # [b t]
        real[0, 0], real[1, -1] = False, False
        yield Case((s, t, real, CPU), f"{s} queries, {t} keys, padding")


def joined(causal: Tensor, real: Tensor | None) -> Tensor:
    """[s t] and [b t] → [1 1 s t] or [b 1 s t]"""
    if real is None:
        return rearrange(causal, "s t -> 1 1 s t")
    return causal & rearrange(real, "b t -> b 1 1 t")


def everything(s: int, t: int) -> Tensor:
    """[s t], all true."""
    return torch.ones(s, t, dtype=torch.bool)


def padded_queries(s, t, real, device):  # noqa: ARG001
    if real is None:
        return joined(everything(s, t).tril(t - s), None)
    return everything(s, t).tril(t - s) & rearrange(real[:, t - s :], "b s -> b 1 s 1")


def past_alone(s, t, real, device):  # noqa: ARG001
    mask = joined(everything(s, t).tril(t - s), None)
    return mask if real is None else mask.expand(len(real), 1, s, t)


def either(s, t, real, device):  # noqa: ARG001
    if real is None:
        return joined(everything(s, t).tril(t - s), None)
    return everything(s, t).tril(t - s) | rearrange(real, "b t -> b 1 1 t")


# 03.2 causal_softmax


def score_cases(generator: torch.Generator) -> Iterator[Case]:
    """Square and late, plain causal and padded, a blind row, large scores, three dtypes."""
    sizes = [(1, 1, 2, 2), (1, 2, 3, 3), (2, 1, 2, 5), (2, 3, 4, 4), (1, 2, 1, 6), (2, 2, 3, 7)]
    for i, (b, h, s, t) in enumerate(sizes):
        dtype = (torch.float32, torch.float64, torch.bfloat16)[i % 3]
        size = 60.0 if i == 3 else 1.0
        score = size * torch.randn(b, h, s, t, generator=generator, dtype=torch.float64)
        yield Case((score.to(dtype), None), f"{s} queries, {t} keys, {dtype}".replace("torch.", ""))
    for blind in (False, True):
        score = torch.randn(2, 2, 4, 4, generator=generator)  # [b h s t]
        real = torch.tensor([[blind] * 3 + [True], [True] * 3 + [False]])  # [b t]
        real = real.logical_not() if blind else real
        yield Case((score, visible(4, 4, real, CPU)), "padding: a query that may see nothing")


def seen(score: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, or plain causality."""
    return visible(score.shape[-2], score.shape[-1], None, CPU) if mask is None else mask


def softmax_of(score: Tensor, mask: Tensor | None, hidden: float, axis: int = -1) -> Tensor:
    """In float32 at least, what is hidden gets this score before and 0 after."""
    mask = seen(score, mask)
    wide = score.to(torch.promote_types(score.dtype, torch.float32))  # [b h s t]
    attn = wide.masked_fill(~mask, hidden).softmax(axis)  # [b h s t]
    return attn.masked_fill(~mask, 0.0).to(score.dtype)


def mask_after_softmax(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return score.softmax(-1).masked_fill(~seen(score, mask), 0.0)


def over_queries(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return softmax_of(score, mask, float("-inf"), -2)


def blind_rows_nan(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return score.masked_fill(~seen(score, mask), float("-inf")).softmax(-1)


def hidden_is_zero(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return score.masked_fill(~seen(score, mask), 0.0).softmax(-1)


def turned_round(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return softmax_of(score, ~seen(score, mask), float("-inf"))


def added(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return (score + seen(score, mask).to(score.dtype)).softmax(-1)


def stays_wide(score: Tensor, mask: Tensor | None = None) -> Tensor:
    return causal_softmax(score.to(torch.promote_types(score.dtype, torch.float32)), mask)


VISIBLE = Exercise(
    "03.1",
    "visible",
    "who may look at whom",
    visible,
    sights,
    (
        Mistake(
            "late queries taken for early ones",
            "The s queries are the last of the t tokens. Counted from the first token, a model "
            "with a cache sees only the beginning of the conversation.",
            lambda s, t, real, device: joined(everything(s, t).tril(), real),  # noqa: ARG005
        ),
        Mistake(
            "nobody sees itself",
            "A token may look at itself: what it guesses is the token after it. The first one "
            "would otherwise see nothing at all.",
            lambda s, t, real, device: joined(  # noqa: ARG005
                everything(s, t).tril(t - s - 1), real
            ),
        ),
        Mistake(
            "the future instead of the past",
            "The triangle is the wrong one. The training loss falls to nearly zero, because the "
            "answer is on show, and what is sampled is noise.",
            lambda s, t, real, device: joined(everything(s, t).triu(t - s), real),  # noqa: ARG005
        ),
        *(
            Mistake(
                "padding is read",
                "Padding is no text, but here every token may look at it, so a prompt answers "
                "differently depending on its neighbours in the batch.",
                answer,
            )
            for answer in (  # [1 1 s t], and repeated for every row
                lambda s, t, real, device: joined(everything(s, t).tril(t - s), None),  # noqa: ARG005
                past_alone,
            )
        ),
        Mistake(
            "padded queries hidden, padded keys seen",
            "Padding does no harm by looking but by being looked at: the condition belongs to the "
            "axis of the keys.",
            padded_queries,
        ),
        Mistake(
            "one condition is enough",
            "A key must be in the past and be real. With 'or', every real token of the future "
            "is seen.",
            either,
        ),
        Mistake(
            "true means hidden",
            "Here True stands for 'may look', as in torch's fused attention. Elsewhere in torch "
            "it is the other way round, which is why this happens to everybody once.",
            lambda s, t, real, device: ~visible(s, t, real, device),
        ),
    ),
    (
        "Write the answer for two queries and four keys on paper: which of the tokens is the "
        "first query?",
        "A lower triangle of ones has an argument that moves its diagonal. By how much must it "
        "move so that the last query sees the last key?",
        "Begin with s × t times True, cut off what lies right of the moved diagonal, and give it "
        "two leading axes. If there is padding, both conditions must hold, and `real` goes where "
        "the keys are.",
    ),
)

SOFTMAX = Exercise(
    "03.2",
    "causal_softmax",
    "a softmax over the keys that may be seen",
    causal_softmax,
    score_cases,
    (
        Mistake(
            "mask after softmax",
            "The weights were shared out before the future was removed, so those that are left "
            "do not add up to one, and their size tells how well the future would have fitted.",
            mask_after_softmax,
        ),
        Mistake(
            "softmax over the queries",
            "Every query shares out one whole among the keys. Here every key shares out one among "
            "the queries.",
            over_queries,
        ),
        Mistake(
            "blind rows become NaN",
            "A query that may see nothing has only −∞, and softmax divides zero by zero. One such "
            "row of padding makes the whole loss NaN.",
            blind_rows_nan,
        ),
        Mistake(
            "hidden scores set to zero",
            "exp(0) is 1: a score of zero is an ordinary score, and the future gets its share.",
            hidden_is_zero,
        ),
        Mistake(
            "the mask is turned round",
            "True means 'may look'. What should be seen is hidden, and the future is all there is.",
            turned_round,
        ),
        Mistake(
            "the mask is added",
            "Adding True adds one: visible keys are merely preferred by a factor of e.",
            added,
        ),
        Mistake(
            "stays in float32",
            "The sums belong in float32, the result in the dtype that came in; otherwise the "
            "product with bfloat16 values stops or doubles the memory.",
            stays_wide,
        ),
    ),
    (
        "Which score makes exp vanish? And along which of the axes b h s t must the weights add "
        "up to one?",
        "Hide first, share out afterwards. Then think of a row in which all is hidden.",
        "Widen the dtype, fill what is not in the mask with −∞, softmax along the keys, fill the "
        "same places once more, with 0, and go back to the dtype of the scores.",
    ),
    gradients=True,
)
