"""Which of how many processes this one is, as a launcher says in its environment; no torch.

torchrun starts N processes and tells each its number; so does any scheduler that sets the same
variables. If something is wrong with a run, all of them find it: one alone says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from minids.config import RunConfig
from minids.count.plan import layout_of
from minids.dist.schedules import SCHEDULES, Schedule
from minids.errors import UserError

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what nobody but a launcher sets
SAME_FAILURE_S = 60  # ranks that fail within this time fail of the same
ASKING_S = 10  # how long to look for the meeting point once something is wrong


class Place(NamedTuple):
    """What the launcher told this process."""

    rank: int
    world: int
    local_rank: int  # on this machine: the number of its GPU
    local_world: int  # processes on this machine
    restarts: int  # how often the launcher has started them all anew


def launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started several processes, or left it open how many."""
    return environ.get("WORLD_SIZE", "") != "1" and any(name in environ for name in TOLD)


def place_of(environ: Mapping[str, str] = os.environ) -> Place:
    """Rank and world from the environment. Raises UserError naming a variable that is missing."""
    for name in NEEDED:
        if not environ.get(name):
            told = [n for n in NEEDED if environ.get(n)]
            what = f"is not set, though {', '.join(told)} {'is' if len(told) == 1 else 'are'}"
            hint = "torchrun --nproc-per-node N -m minids train … sets all of them"
            raise UserError(name, what, ", ".join(NEEDED), hint=hint)
    numbers = [n for n in NEEDED if n != "MASTER_ADDR"]
    for name in numbers:
        if not environ[name].isdecimal():
            raise UserError(name, f"{environ[name]!r} is no number", "whole numbers")
    rank, world, local, port = (int(environ[n]) for n in numbers)
    if not rank < world:
        raise UserError("RANK", f"{rank} of {world} processes", f"0 … {world - 1}")
    if not port < 1 << 16:
        raise UserError("MASTER_PORT", f"{port} is no port", f"0 … {(1 << 16) - 1}")
    here = environ.get("LOCAL_WORLD_SIZE", ""), environ.get("TORCHELASTIC_RESTART_COUNT", "")
    near, again = (int(text) if text.isdecimal() else 0 for text in here)
    return Place(rank, world, local, near or world, again)


def fitted(cfg: RunConfig, world: int) -> RunConfig:
    """The config with as many data ranks as were started; how many changes no result.

    Raises UserError if the layout cannot be laid over so many processes.
    """
    stages = cfg.parallel.pipeline
    if world % stages:
        what = f"{stages} stages on {world} processes"
        raise UserError("parallel.pipeline", what, f"divisors of {world}")
    found = dataclasses.replace(
        cfg, parallel=dataclasses.replace(cfg.parallel, data=world // stages)
    )
    check_layout(found, world)
    return found


def check_layout(cfg: RunConfig, world: int) -> None:
    """Raises UserError for a layout that cannot be laid over so many processes."""
    parallel = cfg.parallel
    if parallel.data * parallel.pipeline != world:
        what = f"{parallel.data} data ranks × {parallel.pipeline} stages on {world} processes"
        hint = f"--set parallel.data={world // parallel.pipeline}"
        raise UserError("parallel.data", what, f"a product of {world}", hint=hint)
    layout_of(cfg, world)
    if parallel.pipeline > 1:
        schedule_of(cfg)
    replicas, model = parallel.data // parallel.expert, cfg.model
    for width in (model.hidden_size, 2 * model.moe_intermediate_size):
        if parallel.expert > 1 and width % replicas:
            what = f"{replicas} replicas of experts {width} wide"
            raise UserError("parallel.expert", what, f"replicas that divide {width}")


def schedule_of(cfg: RunConfig) -> Schedule:
    """The pipeline's order, with as many micro-batches as help: up to four for each stage.

    Raises UserError if a rank's rows cannot be cut for it.
    """
    parallel = cfg.parallel
    p, rows = parallel.pipeline, cfg.train.batch_size // parallel.data
    for m in range(min(rows, 4 * p), 0, -1):
        if rows % m:
            continue
        try:
            found = SCHEDULES[parallel.schedule](p, m)
        except UserError:
            continue
        if found.stages <= cfg.model.num_hidden_layers:
            return found
        what = f"{parallel.schedule} cuts {found.stages} stages"
        raise UserError("parallel.schedule", what, f"up to {cfg.model.num_hidden_layers} (layers)")
    what = f"{rows} rows of a rank give no micro-batches for {parallel.schedule} on {p} ranks"
    raise UserError("train.batch_size", what, f"multiples of {2 * p * parallel.data}")


def first_to_speak(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first that reports a failure; the others' words add nothing.

    Where the ranks meet they count; if nobody is there to count, one of each machine speaks.
    """
    if not launched(environ):
        return True
    if not all(environ.get(name) for name in NEEDED):
        return environ.get("RANK", "0") == "0"
    number = number_at_meeting(environ)
    return number_here(environ) if number is None else number == 1


def meeting_point(
    attempt: int, world: int, patience_s: float, environ: Mapping[str, str] = os.environ
):
    """The store at the launcher's address; each new start has words of its own in it.

    torchrun keeps one store for all starts: who read there where rank 0 listened the last time
    would knock at a closed door.
    """
    import datetime

    import torch.distributed as dist

    agents = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the launcher's own
    store = dist.TCPStore(
        environ["MASTER_ADDR"],
        int(environ["MASTER_PORT"]),
        world,
        is_master=environ["RANK"] == "0" and not agents,
        timeout=datetime.timedelta(seconds=patience_s),
        multi_tenant=not agents,
    )
    return dist.PrefixStore(f"minids {attempt}", store)


def number_at_meeting(environ: Mapping[str, str]) -> int | None:
    """How many have failed so far, counted by the store that all ranks share; None without one."""
    import datetime

    import torch.distributed as dist

    try:
        if dist.is_initialized():
            store = dist.distributed_c10d._get_default_store()
            store.set_timeout(datetime.timedelta(seconds=ASKING_S))
        elif environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            attempt = int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
            store = meeting_point(attempt, int(environ["WORLD_SIZE"]), ASKING_S, environ)
        else:
            return None
        return store.add("failed", 1)
    except (RuntimeError, ValueError, dist.DistError):
        return None


def number_here(environ: Mapping[str, str]) -> bool:
    """Whether no other process of this run and machine has spoken."""
    run = f"{environ['MASTER_ADDR']} {environ['MASTER_PORT']} {os.getppid()}"
    name = f"minids-said-{hashlib.sha256(run.encode()).hexdigest()[:16]}"
    path = Path(tempfile.gettempdir()) / name
    try:
        if path.exists() and time.time() - path.stat().st_mtime > SAME_FAILURE_S:
            path.unlink(missing_ok=True)  # of an older run
        path.open("x").close()
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
