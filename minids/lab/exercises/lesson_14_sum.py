"""Lesson 14: sums with few bits, and where they are emptied.

Axes: m, n rows of the factors, k summed, i products of a group.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lowp.accumulate import add_aligned, cut, matmul_limited


def factors(generator: torch.Generator) -> Iterator[Case]:
    """Long sums and short, with intervals that end within and beyond them."""
    settings = (
        (2, 2, 12, {"bits": 8, "interval": 8, "group": 4}),
        (3, 2, 40, {"bits": 6, "interval": 0, "group": 8}),
        (2, 4, 100, {"bits": 7, "interval": 32, "group": 16}),
        (3, 3, 384, {}),
        (2, 3, 300, {"bits": 10}),
        (2, 2, 256, {"bits": 9, "interval": 64}),
        (2, 3, 26, {"bits": 6, "interval": 4, "group": 2}),
    )
    for m, n, k, how in settings:
        a = torch.rand(m, k, generator=generator) + 0.1  # [m k]
        b = torch.randn(n, k, generator=generator) + 0.4  # [n k]
        if k == 384:
            a = a.bfloat16()
        label = ", ".join(f"{name}={value}" for name, value in how.items()) or "V3's"
        yield Case((a, b), f"k={k}, {label}", how)


def summed(
    a: Tensor, b: Tensor, *, bits: int = 14, interval: int = 128, group: int = 32,
    empty: bool = True, rest: bool = True, short: bool = False, aligned: bool = True,
) -> Tensor:  # fmt: skip
    """matmul_limited with one thing done otherwise."""
    total = a.new_zeros(len(a), len(b), dtype=torch.float32)  # [m n]
    inside = torch.zeros_like(total)  # [m n]
    for start in range(0, a.shape[1], group):
        here = slice(start, start + group)
        product = a[:, None, here].float() * b[None, :, here].float()  # [m n i]
        exact = inside + product.sum(-1)  # [m n]
        inside = add_aligned(inside, product, bits) if aligned else exact
        if interval and (start + group) % interval == 0:
            total = total + inside
            total = cut(total, bits) if short else total
            inside = torch.zeros_like(inside) if empty else inside
    return total + inside if rest else total


def never_promoted(a: Tensor, b: Tensor, *, bits=14, group=32, **_: int) -> Tensor:
    return summed(a, b, bits=bits, interval=0, group=group)


def in_groups(a: Tensor, b: Tensor, *, bits=14, interval=128, group=32) -> Tensor:
    return summed(a, b, bits=bits, interval=interval * group, group=group)


def at_once(a: Tensor, b: Tensor, *, bits=14, interval=128, **_: int) -> Tensor:
    return summed(a, b, bits=bits, interval=interval, group=interval or a.shape[1])


LIMITED = Exercise(
    "14.3",
    "matmul_limited",
    "short sums, promoted at intervals",
    matmul_limited,
    factors,
    (
        Mistake(
            "never promoted",
            "The unit's sum is never emptied, whatever the interval says, so its last bits are "
            "cut off more and more.",
            never_promoted,
        ),
        Mistake(
            "promoted but not emptied",
            "What was moved out is still inside and is counted again the next time.",
            lambda a, b, **how: summed(a, b, **how, empty=False),
        ),
        Mistake(
            "the interval counted in groups",
            "The interval is a number of elements, 128 of them are four groups; here it is taken "
            "for a number of groups.",
            in_groups,
        ),
        Mistake(
            "the rest forgotten",
            "What came after the last promotion is still inside the unit when the loop ends.",
            lambda a, b, **how: summed(a, b, **how, rest=False),
        ),
        Mistake(
            "registers as short as the unit",
            "Promotion moves the sum into float32. Cut to the unit's bits there as well, nothing "
            "is won.",
            lambda a, b, **how: summed(a, b, **how, short=True),
        ),
        Mistake(
            "a whole interval in one go",
            "The unit takes `group` products at a time and cuts after each group.",
            at_once,
        ),
        Mistake(
            "nothing is cut",
            "Products are added in float32, so this is an ordinary product of matrices.",
            lambda a, b, **how: summed(a, b, **how, aligned=False),
        ),
    ),
    (
        "There are two sums: one inside the unit, with few bits, one outside, in float32.",
        "Go through k in steps of a group. After a group, look whether an interval is full; 0 "
        "means that none ever is.",
        "`add_aligned` gives the new inside. When start + group is a multiple of the interval, "
        "move the inside out and begin it at zero. At the end something may be left.",
    ),
    atol=1e-6,
    rtol=1e-6,
)
