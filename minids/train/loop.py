"""A training run from its config to its last checkpoint: decide once, then let the trainer go.

`train` looks at everything that can be wrong (config, data, folder, memory, what is resumed) before
the first file is written; `trainer.Trainer` repeats the step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minids.config import SECTIONS, RunConfig, load, to_dict
from minids.data.load import Data, open_data
from minids.errors import UserError
from minids.train import checkpoint, events, faults, folder
from minids.train.comm import Solo
from minids.train.probe import Machine, as_record, choose, pick_device
from minids.train.trainer import Hooks, Trainer
from minids.train.workers import Crew

MAY_CHANGE = {  # on resume: what does not touch the mathematics of the steps already taken
    "train.max_steps",
    "train.max_minutes",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "train.eval_every",
    "train.eval_documents",
    "train.sample_every_seconds",
    "train.activation_checkpointing",
}


def train(
    cfg: RunConfig,
    *,
    out: Path,
    resume: bool = False,
    inject: str = "",
    allow_change: bool = False,
    hooks: Hooks | None = None,
) -> events.Finished:
    """Train a new run in the new folder `out`, or go on with the one in it.

    Raises UserError: code 2 before anything is written, 1 while running, 3 when the guard stops,
    4 when no checkpoint is usable. An interrupted run saves, then returns with `interrupted` set.
    """
    hooks = hooks or Hooks()
    planned = faults.parse(inject)
    found, warnings, machine = None, [], None
    if resume:
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        if "machine" not in found.state:
            what = f"{out} was imported; it has weights and no optimizer state"
            raise UserError("--resume", what, "a run that minids train began", code=4)
        machine = Machine(**found.state["machine"])
        check_same(cfg, found, allow_change)
    else:
        folder.check_new(out)
    machine = machine or choose(cfg.train)
    check_memory(cfg)
    crew = Crew(machine.workers)
    lock = None
    try:
        data = open_data(cfg, out if resume else None)
        check_data(data, found, allow_change)
        if not resume:
            folder.create(out, data.cfg, {"machine": as_record(machine), "inject": inject})
            data.save(out)
        lock = folder.Lock(out)
        comm = crew.begin(out, found.folder if found else None, inject)
        trainer = Trainer(data, machine, out, comm, planned, hooks)
        for text in warnings:
            hooks.on_event(events.Warned(found.step if found else 0, text))
        return trainer.run(found)
    except RuntimeError as error:
        raise out_of_memory(error, cfg) or error from None
    finally:
        crew.dismiss()
        if lock:
            lock.release()


def work(order: dict[str, Any], comm: Solo) -> None:
    """The same run as `train` prepared, on another rank."""
    out = Path(order["folder"])
    data = open_data(load(str(out / "config.toml")), out)
    found = checkpoint.load(Path(order["resume_from"])) if order["resume_from"] else None
    record = (
        found.state["machine"] if found else json.loads((out / "run.json").read_text())["machine"]
    )
    planned = faults.parse(order["faults"], comm.rank)
    Trainer(data, Machine(**record), out, comm, planned, Hooks()).run(found)


def check_same(cfg: RunConfig, found: checkpoint.Checkpoint, allow_change: bool) -> None:
    """A resumed run is the same run. Raises UserError naming every field that differs.

    A field that came into the config after the run was made had the value of its default.
    """
    now, usual, saved = to_dict(cfg), to_dict(RunConfig()), found.state["config"]
    before = {name: usual[name] | saved.get(name, {}) for name in SECTIONS}
    differs = [
        f"{section}.{name} {before[section][name]!r} → {value!r}"
        for section in ("model", "data", "train")
        for name, value in now[section].items()
        if before[section][name] != value and f"{section}.{name}" not in MAY_CHANGE
    ]
    if differs and not allow_change:
        raise UserError(
            "--resume",
            f"the config differs: {', '.join(differs)}",
            "the saved config",
            hint="--allow-change goes on anyway",
        )


def check_data(data: Data, found: checkpoint.Checkpoint | None, allow_change: bool) -> None:
    """A resumed run reads what it read before. Raises UserError."""
    if found and not allow_change and found.manifest["data"] != data.fingerprint:
        raise UserError(
            "data",
            "is not what this run was trained on",
            "the same data",
            hint="--allow-change goes on anyway",
        )


def check_memory(cfg: RunConfig) -> None:
    """A run that cannot fit into this machine's memory is refused before anything is allocated."""
    from minids.train.memory import available_bytes, needed_bytes

    if cfg.train.device != "cpu" and (cfg.train.device != "auto" or pick_device("auto") != "cpu"):
        return
    needed, available = needed_bytes(cfg), available_bytes()
    if available and needed > available:
        raise UserError(
            "model",
            f"needs {needed / 1e9:,.1f} GB, available {available / 1e9:,.1f} GB",
            "a run that fits",
            hint="a smaller model, train.batch_size or data.context",
        )


def out_of_memory(error: RuntimeError, cfg: RunConfig) -> UserError | None:
    """torch's ways of saying that memory ran out, in one line; None for anything else."""
    text = str(error)
    if "can't allocate memory" not in text and "out of memory" not in text.lower():
        return None
    size, context = cfg.train.batch_size, cfg.data.context
    return UserError(
        "memory",
        f"ran out at train.batch_size={size}, data.context={context}",
        hint=f"--set train.batch_size={max(1, size // 2)}, with twice the train.grad_accum",
        code=1,
    )
