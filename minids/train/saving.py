"""All that the next step depends on, into a checkpoint and back.

Weights, moments, place in the data, the guard's memory, random streams: what is not here would
differ after a resume, and the tests would see it in the last bit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minids.config import RunConfig, to_dict
from minids.errors import UserError
from minids.train import checkpoint, events, parts
from minids.train.probe import as_record
from minids.train.sharded import gathered, local, part_of

if TYPE_CHECKING:
    from minids.train.trainer import Trainer


def save(trainer: Trainer) -> None:
    """A checkpoint: written by rank 0 alone, sharded tensors gathered first by all, or by all.

    Either way any number of processes can go on from it.
    """
    start = time.monotonic()
    folder, cfg = trainer.out / "checkpoints", trainer.cfg
    how = {"keep": cfg.train.keep, "at_stage": trainer.faults.during_save}
    if trainer.team and cfg.parallel.checkpoint == "sharded":
        words = {"state": state_of(trainer), "about": about(trainer)}
        tensors = named(trainer)
        path = checkpoint.save_parts(
            folder, trainer.step, trainer.comm, tensors=tensors, **words, **how
        )
    else:
        model = gathered(trainer.model.state_dict(), trainer.team)
        optim = gathered(trainer.optimizer.state_dict(), trainer.team)
        if not trainer.leads:
            return
        words = {"state": state_of(trainer), "about": about(trainer)}
        words["about"]["weights_sha256"] = checkpoint.weights_sha256(model)
        path = checkpoint.save(folder, trainer.step, model=model, optim=optim, **words, **how)
    trainer.tell(events.Saved(trainer.step, path, time.monotonic() - start))


def named(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, biases and moments, as far as they are here, each under one name."""
    model, optim = trainer.model.state_dict(), trainer.optimizer.state_dict()
    found = {f"model.{name}": tensor for name, tensor in model.items()}
    return found | {f"optim.{name}": tensor for name, tensor in optim.items()}


def state_of(trainer: Trainer) -> dict[str, Any]:
    """What is no tensor."""
    return {
        "step": trainer.step,
        "tokens": trainer.tokens,
        "elapsed_s": trainer.elapsed_s,
        "data": trainer.batches.state_dict(),
        "guard": trainer.guard.state_dict(),
        "rng": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
        "machine": as_record(trainer.machine),
        "metrics": trainer.last_metrics,
        "config": to_dict(trainer.cfg),
    }


def about(trainer: Trainer) -> dict[str, Any]:
    """What the manifest says of the run."""
    return {
        "config": config_hash(trainer.cfg),
        "data": trainer.data.fingerprint,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": trainer.machine.threads,
        "world": trainer.comm.world,
        "inject": trainer.faults.text,
    }


def restore(trainer: Trainer, found: checkpoint.Checkpoint) -> None:
    """Be where the checkpoint was. Raises UserError with code 4 naming what does not fit."""
    if found.model:
        take(trainer, found)
    else:
        take_parts(trainer, found.folder)
    state = found.state
    trainer.step, trainer.tokens, trainer.elapsed_s = (
        state["step"],
        state["tokens"],
        state["elapsed_s"],
    )
    trainer.batches.load_state_dict(state["data"])
    trainer.guard.load_state_dict(state["guard"])
    trainer.last_metrics = state["metrics"]
    rng = bytearray(base64.b64decode(state["rng"]))
    torch.set_rng_state(torch.frombuffer(rng, dtype=torch.uint8))


def take(trainer: Trainer, found: checkpoint.Checkpoint) -> None:
    """Whole tensors into this rank's parts."""
    mine = trainer.model.state_dict()
    if trainer.spread.passes:  # of a pipeline: every rank takes its stages' share
        found = found._replace(
            model=mine_of(found.model, mine),
            optim=mine_of(found.optim, trainer.optimizer.state_dict()),
        )
    check_fit(found.folder.name, {n: t.shape for n, t in found.model.items()}, mine)
    with torch.no_grad():
        for name, tensor in found.model.items():
            part = local(mine[name])
            part.copy_(part_of(tensor.to(part.device), mine[name]))
    try:
        trainer.optimizer.load_state_dict(found.optim)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{found.folder.name}", f"optim.safetensors: {error}", code=4) from error


def take_parts(trainer: Trainer, folder: Path) -> None:
    """From the files of all ranks that saved into what this rank holds; all ranks call."""
    mine, there = named(trainer), parts.listed(folder)
    if trainer.spread.passes:
        there = {name: about for name, about in there.items() if name in mine}
    check_fit(folder.name, {name: shape for name, (shape, _) in there.items()}, mine)
    parts.read_into(folder, mine, alone=False)
    trainer.optimizer.adamw.steps = int(mine["optim.adamw.steps"])


def check_fit(where: str, found: dict[str, torch.Size], mine: dict[str, Tensor]) -> None:
    """Names and shapes must be the config's."""
    for name in sorted(mine.keys() ^ found.keys()):
        has = "is missing" if name in mine else "is unknown"
        raise UserError(where, f"{name} {has}", "this config's tensors", code=4)
    for name, shape in found.items():
        if shape != mine[name].shape:
            what = f"{name} is {list(shape)}, the config says {list(mine[name].shape)}"
            raise UserError(where, what, "this config's shapes", code=4)


def mine_of(found: dict[str, Tensor], mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a saved state a rank needs."""
    return {name: tensor for name, tensor in found.items() if name in mine}


def config_hash(cfg: RunConfig) -> str:
    """sha256 of all values."""
    return hashlib.sha256(json.dumps(to_dict(cfg), sort_keys=True).encode()).hexdigest()
