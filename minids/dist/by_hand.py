"""Data parallel training by hand: what DDP and ZeRO do inside, on plain tensors.

Every rank has some rows of the batch. The gradient of the batch is a sum over ranks, divided once;
a ring makes that sum so that no rank moves more than twice its size. Training itself uses FSDP2
(`dist/fsdp.py`), which does the same in pieces and keeps 1/G of everything.
Axes: G ranks, n numbers of a gradient.  (ZeRO 1910.02054)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def batch_gradient(sums: Sequence[Tensor], targets: Sequence[int]) -> Tensor:
    """Sums of gradients over each rank's targets → the mean over all targets.  each [n] → [n]"""
    total = sums[0]
    for other in sums[1:]:
        total = total + other
    return total / sum(targets)


class Turn(NamedTuple):
    """What a rank does in one step of the ring."""

    send: int  # piece to the next rank
    receive: int  # piece from the rank before
    add: bool  # to the own one; otherwise it replaces it


def ring_turn(rank: int, step: int, ranks: int) -> Turn:
    """Step 0 … 2G−3 of a ring that sums G pieces: G−1 steps gather sums, G−1 hand them round.

    A piece starts with its rank and moves on each step, so what is sent was received just before.
    """
    return Turn((rank - step) % ranks, (rank - step - 1) % ranks, step < ranks - 1)


def ring_all_reduce(x: Tensor) -> Tensor:
    """The sum over all ranks, on every rank, by messages to the next rank only.  x [n] → [n]"""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if ranks == 1:
        return x.clone()
    width = -(-len(x) // ranks)
    pieces = F.pad(x, (0, width * ranks - len(x))).view(ranks, width).clone()  # [G n/G]
    got = pieces.new_empty(width)  # [n/G]
    for step in range(2 * (ranks - 1)):
        turn = ring_turn(rank, step, ranks)
        sent = dist.isend(pieces[turn.send].clone(), (rank + 1) % ranks)
        dist.recv(got, (rank - 1) % ranks)
        if sent is not None:
            sent.wait()
        pieces[turn.receive] = pieces[turn.receive] + got if turn.add else got
    return pieces.flatten()[: len(x)]


def centre_all_reduce(x: Tensor) -> Tensor:
    """The same by rank 0, which receives everything and sends it back: simple, and slow.  x [n]"""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    total = x.clone()
    if rank:
        dist.send(x, 0)
        dist.recv(total, 0)
        return total
    got = x.new_empty(len(x))
    for other in range(1, ranks):
        dist.recv(got, other)
        total += got
    for other in range(1, ranks):
        dist.send(total, other)
    return total


class Held(NamedTuple):
    """Bytes a rank keeps from step to step."""

    weights: float
    gradients: float
    moments: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def held(numbers: float, ranks: int, stage: int) -> Held:
    """Training with AdamW in float32: 4 bytes a weight, 4 its gradient, 8 its two moments.

    ZeRO stage 0: copies everywhere (DDP); 1: the moments in parts; 2: gradients too; 3: weights too
    (FSDP).
    """
    share = numbers / ranks
    return Held(
        4 * (share if stage >= 3 else numbers),
        4 * (share if stage >= 2 else numbers),
        8 * (share if stage >= 1 else numbers),
    )
