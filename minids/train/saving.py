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
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minids.config import RunConfig, to_dict
from minids.errors import UserError
from minids.train import checkpoint, events
from minids.train.probe import as_record
from minids.train.sharded import gathered, local, part_of

if TYPE_CHECKING:
    from minids.train.trainer import Trainer


def save(trainer: Trainer) -> None:
    """A checkpoint, written by rank 0 alone; what is sharded is gathered first, by all ranks.

    Whole tensors in the file: any number of processes can go on from it.
    """
    start = time.monotonic()
    model = gathered(trainer.model.state_dict(), trainer.team)
    optim = gathered(trainer.optimizer.state_dict(), trainer.team)
    if not trainer.leads:
        return
    path = checkpoint.save(
        trainer.out / "checkpoints",
        trainer.step,
        model=model,
        optim=optim,
        state={
            "step": trainer.step,
            "tokens": trainer.tokens,
            "elapsed_s": trainer.elapsed_s,
            "data": trainer.batches.state_dict(),
            "guard": trainer.guard.state_dict(),
            "rng": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
            "machine": as_record(trainer.machine),
            "metrics": trainer.last_metrics,
            "config": to_dict(trainer.cfg),
        },
        about={
            "config": config_hash(trainer.cfg),
            "data": trainer.data.fingerprint,
            "weights_sha256": checkpoint.weights_sha256(model),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": trainer.machine.threads,
            "world": trainer.comm.world,
            "inject": trainer.faults.text,
        },
        keep=trainer.cfg.train.keep,
        at_stage=trainer.faults.during_save,
    )
    trainer.tell(events.Saved(trainer.step, path, time.monotonic() - start))


def restore(trainer: Trainer, found: checkpoint.Checkpoint) -> None:
    """Be where the checkpoint was. Raises UserError with code 4 naming what does not fit."""
    mine = trainer.model.state_dict()
    if trainer.spread.passes:  # of a pipeline: every rank takes its stages' share
        found = found._replace(
            model=mine_of(found.model, mine),
            optim=mine_of(found.optim, trainer.optimizer.state_dict()),
        )
    for name in sorted(mine.keys() ^ found.model.keys()):
        has = "is missing" if name in mine else "is unknown"
        raise UserError(f"{found.folder.name}", f"{name} {has}", "this config's tensors", code=4)
    for name, tensor in found.model.items():
        if tensor.shape != mine[name].shape:
            raise UserError(
                f"{found.folder.name}",
                f"{name} is {list(tensor.shape)}, the config says {list(mine[name].shape)}",
                "this config's shapes",
                code=4,
            )
    with torch.no_grad():
        for name, tensor in found.model.items():
            part = local(mine[name])
            part.copy_(part_of(tensor.to(part.device), mine[name]))
    try:
        trainer.optimizer.load_state_dict(found.optim)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{found.folder.name}", f"optim.safetensors: {error}", code=4) from error
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


def mine_of(found: dict[str, Tensor], mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a saved state a rank needs."""
    return {name: tensor for name, tensor in found.items() if name in mine}


def config_hash(cfg: RunConfig) -> str:
    """sha256 of all values."""
    return hashlib.sha256(json.dumps(to_dict(cfg), sort_keys=True).encode()).hexdigest()
