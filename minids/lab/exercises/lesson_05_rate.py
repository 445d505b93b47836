"""Lesson 05: how large a step is, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from minids.config import TrainConfig
from minids.lab.exercise import Case, Exercise, Mistake
from minids.train.schedule import lr_factor


def schedule_cases(generator: torch.Generator) -> Iterator[Case]:
    """Begin, plateau, decay, both shapes, and what 0 switches off."""
    share = 0.2 + 0.3 * torch.rand((), generator=generator).item()
    settings = [
        ("no decay", {"decay_share": 0.0, "warmup_steps": 4}),
        ("linear", {"decay_share": share, "warmup_steps": 5, "min_lr_ratio": 0.1}),
        ("cosine", {"decay_share": share, "decay_shape": "cosine", "warmup_steps": 3}),
        ("no warm-up", {"decay_share": share, "warmup_steps": 0, "min_lr_ratio": 0.2}),
        ("all decay", {"decay_share": 1.0, "warmup_steps": 8, "decay_shape": "cosine"}),
    ]
    for label, changes in settings:
        cfg = TrainConfig(max_steps=20, **changes)
        for step in (0, 1, 4, 10, 16, 19):
            yield Case((step, step / 20, cfg), f"{label}, step {step} of 20")
        yield Case((19, 0.99, cfg), f"{label}, at the very end")


def end_of(cfg, progress):
    left = (1.0 - progress) / cfg.decay_share if cfg.decay_share else 1.0
    if left >= 1.0:
        return 1.0
    if cfg.decay_shape == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    return cfg.min_lr_ratio + (1.0 - cfg.min_lr_ratio) * left


def warm_of(cfg, step):
    return min(1.0, (step + 1) / cfg.warmup_steps) if cfg.warmup_steps else 1.0


def first_step_lost(step, progress, cfg):
    warm = min(1.0, step / cfg.warmup_steps) if cfg.warmup_steps else 1.0
    return warm * end_of(cfg, progress)


def warm_up_never_ends(step, progress, cfg):
    warm = (step + 1) / cfg.warmup_steps if cfg.warmup_steps else 1.0
    return warm * end_of(cfg, progress)


def decay_from_the_start(step, progress, cfg):
    left = 1.0 - progress
    if cfg.decay_shape == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    return warm_of(cfg, step) * (cfg.min_lr_ratio + (1.0 - cfg.min_lr_ratio) * left)


def always_linear(step, progress, cfg):
    left = min(1.0, (1.0 - progress) / cfg.decay_share) if cfg.decay_share else 1.0
    return warm_of(cfg, step) * (cfg.min_lr_ratio + (1.0 - cfg.min_lr_ratio) * left)


def down_to_zero(step, progress, cfg):
    left = min(1.0, (1.0 - progress) / cfg.decay_share) if cfg.decay_share else 1.0
    if cfg.decay_shape == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    return warm_of(cfg, step) * left


def no_warm_up(step, progress, cfg):
    del step
    return end_of(cfg, progress)


def cut_off_at_the_end(step, progress, cfg):
    return warm_of(cfg, step) * max(cfg.min_lr_ratio, end_of(no_floor(cfg), progress))


def no_floor(cfg):
    return TrainConfig(
        max_steps=cfg.max_steps,
        warmup_steps=cfg.warmup_steps,
        decay_share=cfg.decay_share,
        decay_shape=cfg.decay_shape,
    )


SCHEDULE = Exercise(
    "05.5",
    "lr_factor",
    "warm-up, plateau, decay",
    lr_factor,
    schedule_cases,
    (
        Mistake(
            "warm-up off by one",
            "Step 0 gets a rate of zero: the first batch is read and thrown away, and every later "
            "step of the warm-up is one behind.",
            first_step_lost,
        ),
        Mistake(
            "warm-up never ends",
            "The line goes on above 1 after warmup_steps.",
            warm_up_never_ends,
        ),
        Mistake(
            "decay from the start",
            "The rate falls all the time. It should stay at its peak until only decay_share of "
            "the run is left.",
            decay_from_the_start,
        ),
        Mistake(
            "always linear",
            "decay_shape is not looked at: a cosine leaves the peak and arrives slowly.",
            always_linear,
        ),
        Mistake(
            "decay to zero",
            "The decay ends at zero. It should end at min_lr_ratio of the peak.",
            down_to_zero,
        ),
        Mistake(
            "no warm-up",
            "The first steps are as large as any, while AdamW's averages know one batch.",
            no_warm_up,
        ),
        Mistake(
            "cut off at the minimum",
            "The rate falls towards zero and stops at the minimum. The whole fall should be "
            "stretched, so that it reaches the minimum at the very end.",
            cut_off_at_the_end,
        ),
    ),
    (
        "Two factors, multiplied: one knows the step only, the other the progress only.",
        "Steps count from 0 and the rate is for the step about to be taken. For the end, ask "
        "which share of the decay is still left, from 1 down to 0.",
        "Warm-up is the smaller of 1 and (step + 1) / warmup_steps. With what is left in [0, 1], "
        "bent if cosine, the factor is minimum + (1 − minimum) · left.",
    ),
)
