"""The roads that can be walked, by name: two CPU cores, or one GPU for an hour.

The larger one asks for more (five tasks, 68 M parameters with experts) and has the same stages. It
was walked on a CPU cut down only: **no GPU has run it**, so its minutes are a plan.
"""

from __future__ import annotations

import dataclasses
import difflib

from minids.config import load
from minids.errors import UserError
from minids.reason.recipe import Road, Stage, tiny
from minids.reason.settings import RLConfig

GPU_TASKS = "addition:5,sums:3,countdown:2,sort:4,logic:3"
NAMES = ("tiny", "gpu")


def road_of(name: str, task: str | None = None) -> Road:
    """A road by name. Raises UserError for one that does not exist."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError("--config", f"no road {name!r}", ", ".join(NAMES), hint=hint)
    if name == "gpu":
        return gpu(task or GPU_TASKS)
    return tiny(task or "addition:3")


def gpu(task: str = GPU_TASKS) -> Road:
    """One GPU, about an hour: 40 minutes of reward by the clock, the rest tuning and measuring."""
    cfg = load("r1-gpu")
    stages = (
        Stage("1-base", "base", "", examples=400_000, steps=1_500),
        Stage("2-zero", "rl", "1-base", minutes=16.0, lr=3e-4),
        Stage("3-cold-start", "cold", "1-base", examples=8_000, steps=100),
        Stage("4-rl", "rl", "3-cold-start", minutes=12.0, lr=1e-4),
        Stage("5-rejection", "reject", "1-base", source="4-rl", examples=20_000, steps=300),
        Stage("6-r1", "rl", "5-rejection", minutes=12.0, lr=1e-4),
        Stage("7-student", "distil", "", source="6-r1", examples=60_000, steps=800),
    )
    rl = dataclasses.replace(
        RLConfig(task=task), prompts=64, group=16, max_new_tokens=192, min_lr_ratio=0.1,
        eval_every=0, save_every=50, tokens_per_pass=1 << 16,
    )  # fmt: skip
    student = load("r1-gpu-student").model
    return Road(task, cfg.model, student, stages, cfg.train, rl, 2500, context=cfg.data.context)
