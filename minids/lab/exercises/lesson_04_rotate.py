"""Lesson 04: pairs of channels turned by position, in both layouts.  Axes: b s h r p as in rope."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.rope import Rope, for_heads, rotate_halves, rotate_pairs


def turned_cases(generator: torch.Generator) -> Iterator[Case]:
    """One pair, several; positions shared and per row; dtypes of models beside float32 tables."""
    quarter = Rope(torch.zeros(1, 1), torch.ones(1, 1))
    yield Case((torch.tensor([[[[1.0, 0.0]]]]), quarter), "one pair, a quarter turn")
    sizes = [(1, 2, 1, 4), (2, 3, 3, 6), (1, 5, 2, 8), (2, 4, 1, 12), (2, 3, 2, 10)]
    for i, (b, s, h, r) in enumerate(sizes):
        dtype = (torch.float32, torch.bfloat16, torch.float64)[i % 3]
        x = torch.randn(b, s, h, r, generator=generator, dtype=torch.float64).to(dtype)
        shape = (b, s, r // 2) if i % 2 else (s, r // 2)
        angle = 6.3 * torch.rand(shape, generator=generator)  # [… s p]
        what = "positions per row" if i % 2 else "positions shared"
        kind = str(dtype).removeprefix("torch.")
        yield Case((x, Rope(angle.cos(), angle.sin())), f"{r} channels, {what}, {kind}")


def split(x: Tensor, pairs: bool) -> Tensor:
    """First and second member of every pair.  x [b s h r] → [2 b s h p]"""
    pattern = "b s h (p two) -> two b s h p" if pairs else "b s h (two p) -> two b s h p"
    return rearrange(x, pattern, two=2)


def joined(first: Tensor, second: Tensor, pairs: bool, like: Tensor) -> Tensor:
    """Back to channels.  → [b s h r]"""
    pattern = "two b s h p -> b s h (p two)" if pairs else "two b s h p -> b s h (two p)"
    return rearrange(torch.stack((first, second)), pattern).to(like.dtype)


def wrong_way(pairs: bool):
    rotate = rotate_pairs if pairs else rotate_halves
    return lambda x, rope: rotate(x, Rope(rope.cos, -rope.sin))


def exchanged(pairs: bool):
    rotate = rotate_pairs if pairs else rotate_halves
    return lambda x, rope: rotate(x, Rope(rope.sin, rope.cos))


def mirror(pairs: bool):
    def answer(x, rope):
        (first, second), (cos, sin) = split(x, pairs), for_heads(rope)
        return joined(first * cos + second * sin, first * sin + second * cos, pairs, x)

    return answer


def other_order(pairs: bool):
    def answer(x, rope):
        (first, second), (cos, sin) = split(x, pairs), for_heads(rope)
        return joined(first * cos - second * sin, first * sin + second * cos, not pairs, x)

    return answer


def one_of_two(pairs: bool):
    def answer(x, rope):
        (first, second), (cos, sin) = split(x, pairs), for_heads(rope)
        return joined(first * cos - second * sin, second + 0 * cos, pairs, x)

    return answer


def overwritten(pairs: bool):
    def answer(x, rope):
        (first, second), (cos, sin) = split(x, pairs), for_heads(rope)
        first = first * cos - second * sin
        return joined(first, first * sin + second * cos, pairs, x)

    return answer


def stays_wide(pairs: bool):
    rotate = rotate_pairs if pairs else rotate_halves
    return lambda x, rope: rotate(x.to(torch.promote_types(x.dtype, torch.float32)), rope)


def shared(pairs: bool) -> tuple[Mistake, ...]:
    """What goes wrong in both layouts."""
    return (
        Mistake(
            "turned the wrong way",
            "The turn is clockwise: a score then sees the distance with the wrong sign. A model "
            "trained so would learn as well; released weights were trained the other way.",
            wrong_way(pairs),
        ),
        Mistake(
            "a sum where a difference belongs",
            "One of the four products has a minus, or lengths change with the position: this is "
            "no rotation.",
            mirror(pairs),
        ),
        Mistake(
            "only the first of two turns",
            "A rotation moves both members of a pair; the second stayed where it was.",
            one_of_two(pairs),
        ),
        Mistake(
            "the turned first used for the second",
            "The second member is made from the first as it was before the turn. A variable was "
            "overwritten too early.",
            overwritten(pairs),
        ),
        Mistake(
            "sine and cosine exchanged",
            "At position 0 nothing may turn: there cosine is 1 and sine is 0.",
            exchanged(pairs),
        ),
        Mistake(
            "stays in float32",
            "Turning is done in the precision of the tables, but the result has the dtype of x, "
            "or queries and cached keys no longer fit together.",
            stays_wide(pairs),
        ),
    )


PAIRS = Exercise(
    "04.1",
    "rotate_pairs",
    "neighbouring channels turn together",
    rotate_pairs,
    turned_cases,
    (
        Mistake(
            "halves taken for pairs",
            "Channel i turned with channel i + r/2. That is Llama's layout; DeepSeek's weights "
            "were trained with neighbours. The shapes agree, the loss does not.",
            rotate_halves,
        ),
        Mistake(
            "written back as halves",
            "The turn is right, but all first members now stand before all second ones. (Scores "
            "survive if queries and keys do the same; transformers' V3 does this on purpose.)",
            other_order(True),
        ),
        *shared(True),
    ),
    (
        "What does a turn by 90° make of the pair (1, 0)? The smallest case of the check is that.",
        "Split the channels into first and second members, `(p two)`, turn all pairs at once by "
        "the rule of the plane, and put each pair back where it came from.",
        "The tables lack the axis of the heads: for_heads adds it. New first: the old first times "
        "cosine, less the old second times sine; new second the same with sine and cosine "
        "exchanged and a plus. Stack on a last axis, fold it, go back to the dtype of x.",
    ),
    gradients=True,
)

HALVES = Exercise(
    "04.2",
    "rotate_halves",
    "channel i turns with channel i + r/2",
    rotate_halves,
    turned_cases,
    (
        Mistake(
            "pairs taken for halves",
            "Neighbours were turned together: that is the layout of the exercise before.",
            rotate_pairs,
        ),
        Mistake(
            "written back as pairs",
            "The turn is right, but the members were interleaved on the way back. What came from "
            "the second half must go there.",
            other_order(False),
        ),
        *shared(False),
    ),
    (
        "Only the partner is another than before. For r = 8: who turns with channel 1?",
        "The pattern that splits names the same two letters in the other order.",
        "Split into a first and a second half, turn as before, and join the halves along the "
        "last axis; no interleaving.",
    ),
    gradients=True,
)
