"""One rank of a run that a launcher started on several: the same run, the same folder, shared.

Rank 0 reads the data and makes the folder; then the others map what it wrote. In step they stay
because each waits for the other's sums; any rank's signal stops all after the same step.
"""

from __future__ import annotations

from pathlib import Path

from minids.config import RunConfig
from minids.data.load import Data, open_data
from minids.errors import UserError
from minids.train import checkpoint, events, faults, folder
from minids.train.comm import Group
from minids.train.loop import check_data, check_same, out_of_memory
from minids.train.precision import check_fp8
from minids.train.probe import Machine, as_record, choose_gpu, measure, pick_device, usable_cores
from minids.train.sharded import Team
from minids.train.trainer import Hooks, Trainer


def train_on(
    team: Team,
    cfg: RunConfig,
    *,
    out: Path,
    resume: bool = False,
    restarted: bool = False,
    inject: str = "",
    allow_change: bool = False,
    hooks: Hooks | None = None,
) -> events.Finished:
    """As `loop.train`, called by every rank; `Finished` is whole on rank 0.

    A checkpoint fits any number of ranks. `restarted`: the launcher tries again, so the folder is
    there already. Raises UserError, with code 1 when another rank is lost.
    """
    comm, hooks, found = team.comm, hooks or Hooks(), None
    warnings: list[str] = []
    out = Path(team.first("out", str(out.absolute()) if comm.rank == 0 else None))
    if resume and not (restarted and not checkpoint.steps(out / "checkpoints")):
        found, warnings = checkpoint.load_latest(out / "checkpoints", alone=False)
        check_same(cfg, found, allow_change)
    elif comm.rank == 0 and not restarted:
        folder.check_new(out)
    machine = machine_of(cfg, team, found)
    lock = None
    try:
        if comm.rank == 0:
            data = open_data(cfg, out if found else None)
            check_data(data, found, allow_change)
            if not found:
                record = {"machine": as_record(machine), "inject": inject, "world": comm.world}
                folder.create(out, data.cfg, record)
                data.save(out)
            lock = folder.Lock(out)
            team.first("data", data.fingerprint)
        else:
            data = open_as_first(team, cfg, out)
        planned = faults.parse("" if restarted else inject, comm.rank)  # each happens once
        trainer = Trainer(data, machine, out, comm, planned, hooks, team)
        for text in warnings:
            trainer.tell(events.Warned(found.step if found else 0, text))
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


def open_as_first(team: Team, cfg: RunConfig, out: Path) -> Data:
    """The data that rank 0 has read and written. Raises UserError if this rank sees other data."""
    fingerprint, rank = team.first("data", None), team.comm.rank
    if not (out / "run.json").is_file():
        what = f"rank {rank} does not see {out}, which rank 0 made"
        raise UserError("--out", what, "a folder on a disk that all nodes share")
    data = open_data(cfg, out)
    if data.fingerprint != fingerprint:
        raise UserError("data", f"rank {rank} reads other data than rank 0", "the same data")
    return data


def machine_of(cfg: RunConfig, team: Team, found: checkpoint.Checkpoint | None) -> Machine:
    """What one rank uses: its own GPU, or an equal share of the cores; rank 0's dtype for all."""
    device = pick_device(cfg.train.device)
    if device == "cuda":
        chosen = choose_gpu(cfg.train, device)
        where = f"cuda:{team.local_rank}"
        return Machine(where, chosen.precision, chosen.threads, 1, "one GPU a rank")
    if cfg.train.precision == "fp8":
        check_fp8(device)
    precision = cfg.train.precision
    if precision == "auto" and found:
        precision = found.state["machine"]["precision"]
    elif precision == "auto":
        precision = team.first("precision", faster() if team.comm.rank == 0 else None)
    threads = cfg.train.threads or max(1, usable_cores() // team.local_world)
    return Machine(device, precision, threads, 1, f"each of {team.comm.world} ranks")


def faster() -> str:
    """The dtype in which this machine multiplies faster."""
    rates = measure()
    return "bfloat16" if rates["bfloat16"] > 1.2 * rates["float32"] else "float32"


def is_about_talking(error: RuntimeError) -> bool:
    """Whether a failure came from the words between ranks."""
    text = f"{type(error).__name__} {error}".lower()
    words = ("connection", "gloo", "nccl", "dist", "timed out", "peer")
    return any(word in text for word in words)
