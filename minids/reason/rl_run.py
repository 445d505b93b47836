"""An RL run from weights to its last checkpoint: check everything, then let the policy go."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minids.config import RunConfig
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason.chat import prompt_ids
from minids.reason.outside import missing
from minids.reason.rl import Policy
from minids.reason.rl_events import Event, Finished, Warned
from minids.reason.settings import Objective, RLConfig
from minids.reason.tasks import problem
from minids.train import checkpoint, faults, folder
from minids.train.probe import usable_cores


def reinforce_run(
    cfg: RunConfig,
    weights: dict[str, Tensor],
    tokenizer: Tokenizer,
    rl: RLConfig,
    objective: Objective,
    *,
    out: Path,
    resume: bool = False,
    inject: str = "",
    about: dict[str, Any] | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> Finished:
    """RL from `weights` into the new folder `out`, or go on with the run in it.

    Raises UserError with code 2 before anything is written, 3 when the guard stops, 4 when no
    checkpoint is usable.
    """
    planned, found = faults.parse(inject), None
    check_prompts(cfg, tokenizer, rl)
    if resume:
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        for text in warnings:
            on_event(Warned(found.step, text))
        check_same(found, rl, objective)
    else:
        folder.check_new(out)
        folder.create(out, cfg, {"inject": inject, **(about or {})})
        tokenizer.save(out / "tokenizer")
    torch.set_num_threads(cfg.train.threads or min(usable_cores(), 4))
    lock = folder.Lock(out)
    try:
        policy = Policy(
            cfg, weights, tokenizer, rl, objective, out, planned=planned, on_event=on_event
        )
        if found:
            policy.restore(found)
        return policy.run()
    finally:
        lock.release()


def check_prompts(cfg: RunConfig, tokenizer: Tokenizer, rl: RLConfig) -> None:
    """Prompts must leave room for a completion and have tokens for all they say."""
    if rl.verifier == "math" and importlib.util.find_spec("math_verify") is None:
        raise missing("math-verify")
    for name, level in rl.tasks:
        for i in range(8):
            ids = prompt_ids(tokenizer, problem(name, level, rl.seed, i).prompt)
            if len(ids) + 1 >= cfg.model.max_position_embeddings:
                raise UserError(
                    "rl.task",
                    f"a prompt of {name}:{level} has {len(ids)} tokens, "
                    f"the model reads {cfg.model.max_position_embeddings}",
                    "a lower level, or a model with a longer context",
                )


MAY_CHANGE = ("steps", "max_minutes", "eval_every", "eval_problems", "save_every", "keep")


def check_same(found: checkpoint.Checkpoint, rl: RLConfig, objective: Objective) -> None:
    """A resumed run is the same run. Raises UserError naming every field that differs.

    A field that is younger than the run had the value of its default.
    """
    if "rl" not in found.state:
        raise UserError("--resume", f"{found.folder} is no RL run", "a run of minids rl", code=4)
    differs = [
        f"{section}.{name} {before[name]!r} → {value!r}"
        for section, now in (("rl", rl), ("objective", objective))
        for before in (dataclasses.asdict(type(now)()) | found.state[section],)
        for name, value in dataclasses.asdict(now).items()
        if before[name] != value and name not in MAY_CHANGE
    ]
    if differs:
        raise UserError("--resume", f"the settings differ: {', '.join(differs)}", "the saved ones")
