"""What proves a fault: five small instruments, read from a log or from two forward passes.

A loss curve alone convicts nobody. Each instrument answers one question that has a plain answer in
a healthy run: nothing leaks, weights move as far as they did in runs that worked, all experts
work, no row comes twice, no step stands out.
Axes: b rows, s positions, V vocabulary, e experts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_SPREAD = 0.02  # share of the loss below which differences are noise, as the guard's
SIGMA = 1.4826  # median absolute deviations of a normal distribution in one standard deviation
TINY = 1e-12  # stands in for the size of a weight that is all zero


@torch.no_grad()
def future_leak(
    predict: Callable[[Tensor], Tensor], tokens: Tensor, at: int, vocab_size: int
) -> float:
    """How much what is said before position `at` depends on the tokens from there on.

    predict: tokens [b s] → logits [b s V]; tokens [b s], 0 < at < s → largest change of a logit.
    Exactly 0, or rounding, in a causal model.
    """
    changed = tokens.clone()  # [b s]
    changed[:, at:] = (changed[:, at:] + 1) % vocab_size  # every one of them is another token now
    before, after = predict(tokens)[:, :at], predict(changed)[:, :at]
    return (after - before).abs().max().item()


def update_ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """How far one step moved each weight, relative to the weight.  n tensors each → [n]

    Root mean squares, so that ups and downs do not cancel.
    """
    ratios = []
    for old, new in zip(before, after, strict=True):
        moved = (new - old).square().mean().sqrt()
        ratios.append(moved / old.square().mean().sqrt().clamp(min=TINY))
    return torch.stack(ratios)


class Health(NamedTuple):
    """How evenly experts are used over some steps."""

    evenness: float  # entropy of the load over ln e: 1 is even, 0 is one expert for all
    dead: list[int]  # experts with less than `share` of a fair load


def expert_health(load: Tensor, share: float) -> Health:
    """load [steps e], visits of one layer's experts → Health of all these steps together."""
    total = load.double().sum(0)  # [e]
    p = total / total.sum()  # [e]
    evenness = torch.special.entr(p).sum() / math.log(len(p))  # 0 · ln 0 counts as 0
    dead = (p < share / len(p)).nonzero().flatten().tolist()
    return Health(evenness.item(), dead)


def spikes(loss: Sequence[float], window: int, factor: float) -> list[int]:
    """Steps whose loss stands out above the last `window` accepted ones.

    It stands out if it lies `factor` spreads above their median. Spikes are not accepted, or the
    first would hide the second; a loss that is no number is a spike. Silent until `window` losses.
    """
    found: list[int] = []
    accepted: list[float] = []
    for step, x in enumerate(loss):
        recent = accepted[-window:]
        if len(recent) == window:
            middle = statistics.median(recent)
            spread = SIGMA * statistics.median(abs(r - middle) for r in recent)
            limit = middle + factor * max(spread, LEAST_SPREAD * middle)
            if not x <= limit:
                found.append(step)
                continue
        accepted.append(x)
    return found


def repeats(batches: Sequence[Sequence[Hashable]]) -> float:
    """Share of rows that had been trained on before.  batches: names of the rows of every step"""
    seen: set[Hashable] = set()
    again = total = 0
    for rows in batches:
        for row in rows:
            again += row in seen
            total += 1
            seen.add(row)
    return again / max(total, 1)
