"""Sampling: which token follows, given the model's logits.

Temperature reshapes the distribution, top-k and top-p cut its tail, one uniform number chooses.
All of it in float32 or better: half precision merges the tail that the cuts are about.

Axes: b rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minids.generate.settings import Sampling


def pick(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """One token per row: logits [b V] → ids [b]."""
    if sampling.greedy:
        return logits.argmax(-1)
    probability = torch.softmax(filter_logits(logits, sampling), dim=-1)  # [b V]
    uniform = torch.rand(
        (len(logits), 1), generator=generator, dtype=torch.float64, device=logits.device
    )
    return draw(probability, uniform)


def draw(probability: Tensor, uniform: Tensor) -> Tensor:
    """Inverse of the cumulative distribution: probability [b V], uniform [b 1] in [0, 1) → ids [b].

    Rows need not sum to 1. The first position whose cumulative mass exceeds the number always has
    mass of its own, so a token that was cut never comes.
    """
    mass = probability.double().cumsum(-1)  # [b V]
    found = torch.searchsorted(mass, uniform * mass[:, -1:], right=True)[:, 0]  # [b]
    return found.clamp(max=mass.shape[-1] - 1)  # NaN sorts behind all; logprob_of then shows it


def filter_logits(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [b V] with the tail at -inf: temperature → top-k → top-p.

    top-p keeps the smallest set whose mass reaches p, the token that crosses p included, so at
    least one always stays. Of equals at the edge exactly as many stay as are needed.
    """
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        best = logits.topk(sampling.top_k, dim=-1).indices  # [b k]
        inside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True)  # [b V]
        logits = keep_only(logits, inside)
    if sampling.top_p < 1:
        order = logits.sort(dim=-1, descending=True, stable=True).indices  # [b V] likeliest first
        probability = torch.softmax(logits, dim=-1).double().gather(-1, order)  # [b V]
        mass_before = probability.cumsum(-1) - probability  # [b V]
        inside = mass_before < sampling.top_p  # [b V]
        logits = keep_only(logits, torch.zeros_like(inside).scatter(-1, order, inside))
    return logits


def keep_only(logits: Tensor, keep: Tensor) -> Tensor:
    """Everything outside `keep` gets probability zero."""
    return logits.masked_fill(~keep, -torch.inf)


def logprob_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The model's own log-probability of each chosen token: logits [b V], ids [b] → [b].

    Of the whole distribution at temperature 1, whatever rule chose the token.
    """
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, ids[:, None])[:, 0]
