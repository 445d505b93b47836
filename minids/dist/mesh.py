"""Who talks with whom: ranks that have met, laid out as the config says.

The processes meet at one address. The data ranks form a grid: a row holds all experts once, spread
over its E ranks (expert parallelism); the R rows are replicas. Everything that is no expert is
sharded over all R·E data ranks. Pipeline stages, if any, are the outermost axis: ranks of one stage
are neighbours.
"""

from __future__ import annotations

import atexit
import datetime
import hashlib
import os
import sys
from collections.abc import Callable
from threading import Thread
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from minids.config import RunConfig, to_toml
from minids.dist.place import Place, check_layout, meeting_point
from minids.errors import UserError

PREPARING = datetime.timedelta(hours=24)  # rank 0 may read and tokenize for long


class Mesh(NamedTuple):
    """The ranks of a run, in the orders that are needed; each rank sees its own stage's."""

    data: DeviceMesh  # [R·E] all data ranks of this stage
    grid: DeviceMesh  # [R E] named replica, expert
    stages: DeviceMesh  # [p] the pipeline this rank is part of


def join(cfg: RunConfig, place: Place, device: str, *, words: str = "") -> Mesh:
    """Meet all ranks and lay them out; all must have come with the same config and `words`.

    Raises UserError with code 1 if they do not meet in time, 2 if their configs differ.
    """
    check_layout(cfg, place.world)
    if device == "cuda":
        torch.cuda.set_device(place.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    text = to_toml(cfg) + words

    def meet() -> list[str]:
        dist.init_process_group(
            backend,
            store=meeting_point(place.restarts, place.world, cfg.parallel.timeout_s),
            rank=place.rank,
            world_size=place.world,
            timeout=datetime.timedelta(seconds=cfg.parallel.timeout_s),
        )
        return texts_that_differ(text, place)

    try:
        texts = in_time(meet, cfg.parallel.timeout_s + 5)
    except (RuntimeError, ValueError, TimeoutError, dist.DistError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        what = f"rank {place.rank} of {place.world} did not meet the others: {first_line(error)}"
        hint = "is every node started, and the port free?"
        raise UserError(where, what, hint=hint, code=1) from error
    if texts:
        raise UserError("--config", difference(*texts), "one config for all ranks")
    return lay_out(cfg, device)


def texts_that_differ(text: str, place: Place) -> list[str]:
    """Nothing if all ranks have the same, else what rank 0 has, what another, and which it is."""
    store = dist.distributed_c10d._get_default_store()
    store.set(f"minids config {place.rank}", text)
    mine = torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.int64)
    everyone = [torch.empty_like(mine) for _ in range(place.world)]
    dist.all_gather(everyone, mine)
    other = next((r for r, d in enumerate(everyone) if not torch.equal(d, everyone[0])), 0)
    if not other:
        return []
    return [*(store.get(f"minids config {r}").decode() for r in (0, other)), str(other)]


def in_time(work: Callable[[], list[str]], seconds: float) -> list[str]:
    """What `work` finds. Raises its errors, and TimeoutError: a stranger that answers at the
    address and says nothing is waited for without end otherwise."""
    found: list[list[str]] = []
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            found.append(work())
        except Exception as error:
            failed.append(error)

    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        atexit.register(end_at_once)
        raise TimeoutError(f"nothing was heard for {seconds:g} s")
    return found[0]


def end_at_once() -> None:
    """Leave with code 1 although a thread still waits: ending in order would wait for it."""
    sys.stdout.flush()
    os._exit(1)


def difference(first: str, mine: str, rank: str) -> str:
    """The first line that two configs do not share."""
    for a, b in zip(first.splitlines(), mine.splitlines(), strict=False):
        if a != b:
            return f"rank {rank} has {b}, rank 0 {a}"
    return f"rank {rank} has another than rank 0"


def lay_out(cfg: RunConfig, device: str) -> Mesh:
    """The meshes of a config, once all ranks have met."""
    parallel = cfg.parallel
    replicas, p = parallel.data // parallel.expert, parallel.pipeline
    flat = init_device_mesh(device, (p, parallel.data), mesh_dim_names=("stage", "data"))
    names = ("stage", "replica", "expert")
    grid = init_device_mesh(device, (p, replicas, parallel.expert), mesh_dim_names=names)
    return Mesh(flat["data"], grid["replica", "expert"], flat["stage"])


def from_first(key: str, value: str | None = None) -> str:
    """What rank 0 says, once it says it (with `value`); the others wait, also for very long."""
    store = dist.distributed_c10d._get_default_store()
    if value is not None:
        store.set(key, value)
        return value
    store.wait([key], PREPARING)
    return store.get(key).decode()


def leave() -> None:
    """End the talking, if it ever began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def first_line(error: Exception) -> str:
    """A long message's beginning."""
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
