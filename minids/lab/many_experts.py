"""What the processes of lesson 26 do: experts that are spread, and what their roads cost.

Axes: T tokens of a rank, k experts per token, e experts of all, E ranks, R rows, d width, f expert.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minids.dist.expert import experts_spread, plan_road
from minids.nn.experts import experts_sorted


def travel_ms(rows: int, d: int, repeats: int) -> float:
    """The median time in which every rank sends `rows` rows of d to every rank."""
    world = dist.get_world_size()
    x, got = torch.randn(world * rows, d), torch.empty(world * rows, d)
    took = []
    for _ in range(repeats + 2):
        dist.barrier()
        start = time.perf_counter()
        dist.all_to_all_single(got, x)
        took.append(1e3 * (time.perf_counter() - start))
    return statistics.median(took[2:])


def spread(T: int, e: int, k: int, d: int, f: int, groups: int, kept: int) -> dict[str, Any]:
    """The experts' answer to this rank's tokens, spread and in one process; rows on the road."""
    rank, world = dist.get_rank(), dist.get_world_size()
    generator = torch.Generator().manual_seed(26)
    size = {"generator": generator, "dtype": torch.float64}
    gate_up, down = torch.randn(e, 2 * f, d, **size) / d**0.5, torch.randn(e, d, f, **size) / f**0.5
    x = torch.randn(world * T, d, **size)[rank * T :][:T]  # [T d]
    expert, gate = choices(world * T, e, k, groups, kept, generator)
    expert, gate = expert[rank * T :][:T], gate[rank * T :][:T]
    own = e // world
    mine = slice(rank * own, (rank + 1) * own)
    group = dist.group.WORLD
    assert group is not None
    got = experts_spread(x, expert, gate, gate_up[mine], down[mine], group)  # [T d]
    load = torch.bincount(expert.flatten(), minlength=e)  # [e]
    wanted = experts_sorted(x, expert, gate, load, gate_up, down)  # [T d]
    road = plan_road(expert, own, group)
    error = ((got - wanted).abs().max() / wanted.abs().max()).item()
    return {"error": error, "sent": road.sent, "arrived": road.arrived}


def choices(
    T: int, e: int, k: int, groups: int, kept: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random choices that reach at most `kept` groups.  → expert [T k], gate [T k]"""
    score = torch.rand(T, groups, e // groups, generator=generator, dtype=torch.float64)
    best = score.amax(-1).topk(kept, dim=-1).indices  # [T kept]
    open_ones = torch.zeros(T, groups).scatter(1, best, 1.0).bool()  # [T groups]
    score = score.masked_fill(~open_ones[..., None], -1.0).flatten(1)  # [T e]
    gate, expert = score.topk(k, dim=-1)  # [T k]
    return expert, gate / gate.sum(-1, keepdim=True)


def travel_table(amounts: list[int], d: int, repeats: int) -> list[float]:
    """`travel_ms` for several numbers of rows."""
    return [travel_ms(rows, d, repeats) for rows in amounts]
