"""Lesson 05: Newton–Schulz, the heart of Muon.  Axes: N matrices, m and n their sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from minids.lab.exercise import Case, Exercise, Mistake
from minids.train.muon import FIVE_STEPS, orthogonalize


def orthogonalize_cases(generator: torch.Generator) -> Iterator[Case]:
    """Wide, tall, square; one and several; other coefficients."""
    quick = ((2.0, -1.5, 0.5),) * 3
    sizes = [(1, 2, 3), (1, 12, 3), (2, 4, 4), (3, 4, 20), (2, 24, 4)]
    for i, size in enumerate(sizes):
        x = torch.randn(size, generator=generator, dtype=torch.float64) * 10.0 ** (i - 2)
        steps = quick if i == 3 else FIVE_STEPS
        yield Case((x, torch.float64, steps), f"{'tall' if size[1] > size[2] else 'wide'}")
    x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    yield Case((x, torch.float32, FIVE_STEPS), "to float32")


def call_orthogonalize(answer: Any, case: Case) -> dict[str, Any]:
    """The result, and on which Gram matrix the work was done: the products tell."""
    x, *_ = case.args
    counter = FlopCounterMode(display=False)
    with counter:
        result = answer(*case.args)
    n, m = sorted(x.shape[-2:])[::-1]
    least = 2 * len(x) * len(case.args[2]) * (2 * m * m * n + m**3)
    which = "small" if counter.get_total_flops() <= 2 * least else "large"
    return {"result": result, "Gram matrix": which}


def newton_schulz(x, steps):
    for a, b, c in steps:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def unit_norm(x):
    return x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)


def on_small_side(x, steps):
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.mT, steps).mT
    return newton_schulz(x, steps)


def tall_side(x, dtype, steps=FIVE_STEPS):
    return newton_schulz(unit_norm(x.to(dtype)), steps)


def not_normalised(x, dtype, steps=FIVE_STEPS):
    return on_small_side(x.to(dtype), steps)


def stack_normalised(x, dtype, steps=FIVE_STEPS):
    x = x.to(dtype)
    return on_small_side(x / (torch.linalg.vector_norm(x) + 1e-7), steps)


def row_normalised(x, dtype, steps=FIVE_STEPS):
    x = x.to(dtype)
    return on_small_side(x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-7), steps)


def left_transposed(x, dtype, steps=FIVE_STEPS):
    x = unit_norm(x.to(dtype))
    return newton_schulz(x.mT if x.shape[-2] > x.shape[-1] else x, steps)


def coefficients_swapped(x, dtype, steps=FIVE_STEPS):
    return on_small_side(unit_norm(x.to(dtype)), [(a, c, b) for a, b, c in steps])


def cubic_only(x, dtype, steps=FIVE_STEPS):
    return on_small_side(unit_norm(x.to(dtype)), [(a, b, 0.0) for a, b, _ in steps])


def one_step(x, dtype, steps=FIVE_STEPS):
    return on_small_side(unit_norm(x.to(dtype)), steps[:1])


ORTHOGONALIZE = Exercise(
    "05.4",
    "orthogonalize",
    "Newton–Schulz",
    orthogonalize,
    orthogonalize_cases,
    (
        Mistake(
            "not normalised",
            "The polynomial pushes singular values to 1 only from below about 1.2; larger ones "
            "explode. So each matrix is first divided by its Frobenius norm.",
            not_normalised,
        ),
        Mistake(
            "normalised as a stack",
            "One norm for all matrices: a matrix with a small gradient beside large ones starts "
            "so low that five steps do not lift it. Each matrix is a thing of its own.",
            stack_normalised,
        ),
        Mistake(
            "normalised by rows",
            "Each row is scaled by itself, which turns the matrix into another one: the "
            "directions that were to be kept are lost.",
            row_normalised,
        ),
        Mistake(
            "Gram on the long side",
            "The result is right, but for a tall matrix the work is done on the large Gram matrix: "
            "for an expert of 7168 × 2048 that is about 8 times the arithmetic.",
            tall_side,
        ),
        Mistake(
            "left transposed",
            "A tall matrix comes back as a wide one. What was turned must be turned back.",
            left_transposed,
        ),
        Mistake(
            "coefficients swapped",
            "b belongs to X Xᵀ and c to its square.",
            coefficients_swapped,
        ),
        Mistake(
            "fifth power missing",
            "Without the squared Gram matrix the polynomial is a cubic, and with this b it throws "
            "large singular values below zero.",
            cubic_only,
        ),
        Mistake(
            "one step only",
            "One step lifts a small singular value 3.4 times. All given steps are needed.",
            one_step,
        ),
    ),
    (
        "A = X Xᵀ has the squares of X's singular values. What does (aI + bA + cA²) X do to each?",
        "Turn tall matrices so that A is small, divide each matrix by its own norm, iterate, turn "
        "back.",
        "norm over the last two axes with keepdim; per step the Gram matrix, then b times it plus "
        "c times its square, applied to X and added to a times X.",
    ),
    call=call_orthogonalize,
    atol=1e-4,
    rtol=1e-3,
)
