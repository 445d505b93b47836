"""Who is there and who talks with whom: ranks that a launcher started, laid out as the config says.

torchrun starts N processes and tells each its number; they meet at one address. The data ranks
form a grid: a row holds all experts once, spread over its E ranks (expert parallelism); the R rows
are replicas. Everything that is no expert is sharded over all R·E data ranks.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from minids.config import RunConfig, to_toml
from minids.count.plan import layout_of
from minids.errors import UserError

TIMEOUT_S = 300  # a rank that says nothing for so long is lost
NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """What the launcher told this process."""

    rank: int
    world: int
    local_rank: int  # on this machine: the number of its GPU


class Mesh(NamedTuple):
    """The ranks of a run, in the two orders that are needed."""

    data: DeviceMesh  # [R·E] all data ranks
    grid: DeviceMesh  # [R E] named replica, expert


def launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun (or a scheduler that sets the same variables) started several processes."""
    return environ.get("WORLD_SIZE", "1") != "1"


def place_of(environ: Mapping[str, str] = os.environ) -> Place:
    """Rank and world from the environment. Raises UserError naming a variable that is missing."""
    for name in NEEDED:
        if not environ.get(name):
            what = f"is not set, though WORLD_SIZE is {environ.get('WORLD_SIZE')}"
            hint = "torchrun --nproc-per-node N -m minids train … sets all of them"
            raise UserError(name, what, ", ".join(NEEDED), hint=hint)
    try:
        rank, world, local, _ = (int(environ[n]) for n in NEEDED if n != "MASTER_ADDR")
    except ValueError:
        raise UserError("RANK, WORLD_SIZE", "are not whole numbers", "whole numbers") from None
    if not 0 <= rank < world:
        raise UserError("RANK", f"{rank} of {world} processes", f"0 … {world - 1}")
    return Place(rank, world, local)


def check_layout(cfg: RunConfig, world: int) -> None:
    """Raises UserError for a layout that cannot be laid over so many processes."""
    parallel = cfg.parallel
    if parallel.data * parallel.pipeline != world:
        what = f"{parallel.data} data ranks × {parallel.pipeline} stages on {world} processes"
        hint = f"--set parallel.data={world // parallel.pipeline}"
        raise UserError("parallel.data", what, f"a product of {world}", hint=hint)
    layout_of(cfg, world)
    replicas, model = parallel.data // parallel.expert, cfg.model
    for width in (model.hidden_size, 2 * model.moe_intermediate_size):
        if parallel.expert > 1 and width % replicas:
            what = f"{replicas} replicas of experts {width} wide"
            raise UserError("parallel.expert", what, f"replicas that divide {width}")


def join(cfg: RunConfig, place: Place, device: str, timeout_s: float = TIMEOUT_S) -> Mesh:
    """Meet all ranks and lay them out; all must have come with the same config.

    Raises UserError with code 1 if they do not meet in time, 2 if their configs differ.
    """
    check_layout(cfg, place.world)
    if device == "cuda":
        torch.cuda.set_device(place.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend,
            rank=place.rank,
            world_size=place.world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
        digest = hashlib.sha256(to_toml(cfg).encode()).digest()
        mine = torch.tensor(list(digest), dtype=torch.int64)
        all_of_them = [torch.empty_like(mine) for _ in range(place.world)]
        dist.all_gather(all_of_them, mine)
    except (RuntimeError, dist.DistError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        what = f"rank {place.rank} of {place.world} did not meet the others: {first_line(error)}"
        raise UserError(
            where, what, hint="is every node started, and the port free?", code=1
        ) from (error)
    other = [r for r, d in enumerate(all_of_them) if not torch.equal(d, all_of_them[0])]
    if other:
        raise UserError("--config", f"rank {other[0]} has another than rank 0", "one config")
    return lay_out(cfg, device)


def lay_out(cfg: RunConfig, device: str) -> Mesh:
    """The meshes of a config, once all ranks have met."""
    expert = cfg.parallel.expert
    replicas = cfg.parallel.data // expert
    names = ("replica", "expert")
    return Mesh(
        init_device_mesh(device, (replicas * expert,), mesh_dim_names=("data",)),
        init_device_mesh(device, (replicas, expert), mesh_dim_names=names),
    )


def first_to_speak() -> bool:
    """Whether this rank is the first that reports a failure; of the others nobody needs to hear."""
    try:
        return dist.distributed_c10d._get_default_store().add("minids failed", 1) == 1
    except (RuntimeError, ValueError, dist.DistError):  # never met, or the meeting point is gone
        return os.environ.get("RANK", "0") == "0" or dist.is_initialized()


def leave() -> None:
    """End the talking, if it ever began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def first_line(error: Exception) -> str:
    """A long message's beginning."""
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
