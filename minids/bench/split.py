"""One rule for the loss of a whole validation split, whoever's model it is.

Windows of the model's own context lie side by side, so every character but the first is predicted
exactly once, from whatever its window holds before it: on average half a context. That is what
nanoGPT's random crops estimate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HELD_OUT = 0.1  # the last share of the text
ROWS = 64  # windows in one pass


@torch.no_grad()
def split_loss(nats: Callable[[Tensor, Tensor], Tensor], ids: Tensor, context: int) -> float:
    """Mean nats per character.  ids [n]; nats(x [b s], y [b s]) → Σ −ln p of all its targets"""
    x, y = ids[:-1], ids[1:]
    whole = len(x) // context * context
    total = 0.0
    for first in range(0, whole, ROWS * context):
        part = slice(first, min(whole, first + ROWS * context))
        total += nats(x[part].view(-1, context), y[part].view(-1, context)).item()
    if whole < len(x):
        total += nats(x[None, whole:], y[None, whole:]).item()
    return total / len(x)
