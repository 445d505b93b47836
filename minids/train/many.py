"""One rank of a run that a launcher started on several: the same run, the same folder, shared.

Every rank checks everything and reads the data; rank 0 alone writes. In step they stay because
each waits for the other's sums.
"""

from __future__ import annotations

from pathlib import Path

import torch

from minids.config import RunConfig
from minids.data.load import open_data
from minids.errors import UserError
from minids.train import checkpoint, events, faults, folder
from minids.train.comm import Group
from minids.train.loop import check_same, out_of_memory
from minids.train.precision import FP8
from minids.train.probe import Machine, as_record, choose_gpu, measure, pick_device, usable_cores
from minids.train.sharded import Team
from minids.train.trainer import Hooks, Trainer


def train_on(
    team: Team,
    cfg: RunConfig,
    *,
    out: Path,
    resume: bool = False,
    inject: str = "",
    allow_change: bool = False,
    hooks: Hooks | None = None,
) -> events.Finished:
    """As `loop.train`, called by every rank; `Finished` is whole on rank 0.

    A checkpoint fits any number of ranks. Raises UserError, with code 1 when another rank is lost.
    """
    comm, hooks, found = team.comm, hooks or Hooks(), None
    warnings: list[str] = []
    machine = machine_of(cfg, team)
    if resume:
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        check_same(cfg, found, allow_change)
    else:
        folder.check_new(out)
    lock = None
    try:
        data = open_data(cfg, out if resume else None)
        agree(comm, data.fingerprint)  # nobody writes before all have checked
        if comm.rank == 0:
            if not resume:
                record = {"machine": as_record(machine), "inject": inject, "world": comm.world}
                folder.create(out, data.cfg, record)
                data.save(out)
            lock = folder.Lock(out)
        trainer = Trainer(data, machine, out, comm, faults.parse(inject), hooks, team)
        for text in warnings:
            hooks.on_event(events.Warned(found.step if found else 0, text))
        return trainer.run(found)
    except RuntimeError as error:
        if full := out_of_memory(error, cfg):
            raise full from error
        if isinstance(comm, Group) and is_about_talking(error):
            raise comm.lost(error) from error
        raise
    finally:
        if lock:
            lock.release()


def machine_of(cfg: RunConfig, team: Team) -> Machine:
    """What one rank uses: its own GPU, or an equal share of the cores."""
    device = pick_device(cfg.train.device)
    if device == "cuda":
        chosen = choose_gpu(cfg.train, device)
        where = f"cuda:{team.local_rank}"
        return Machine(where, chosen.precision, chosen.threads, 1, "one GPU a rank")
    if cfg.train.precision in FP8:
        raise UserError("train.precision", f"{cfg.train.precision} on several ranks", "bfloat16")
    precision = cfg.train.precision
    if precision == "auto":
        rates = measure()
        precision = "bfloat16" if rates["bfloat16"] > 1.2 * rates["float32"] else "float32"
    threads = cfg.train.threads or max(1, usable_cores() // team.comm.world)
    return Machine(device, precision, threads, 1, f"rank of {team.comm.world}")


def agree(comm, fingerprint: str) -> None:
    """All ranks must have read the same data. Raises UserError."""
    mine = torch.tensor(list(fingerprint.encode()[:32]), dtype=torch.int64)
    parts = [torch.empty_like(mine) for _ in range(comm.world)]
    comm.all_gather(parts, mine)
    for rank, part in enumerate(parts):
        if not torch.equal(part, parts[0]):
            raise UserError("data", f"rank {rank} reads other data than rank 0", "the same data")


def is_about_talking(error: RuntimeError) -> bool:
    """Whether a failure came from the words between ranks."""
    text = f"{type(error).__name__} {error}".lower()
    words = ("connection", "gloo", "nccl", "dist", "timed out", "peer")
    return any(word in text for word in words)
