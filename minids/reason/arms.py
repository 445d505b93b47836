"""Runs that go wrong on purpose, as changes of the settings: `minids rl RUN --arm NAME`.

Each is a mistake that people make, with what to look at and what mends it. Their cures are arms of
their own, so that both can be run side by side from the same start; no torch.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from minids.errors import UserError


class WrongWay(NamedTuple):
    """One arm."""

    rl: dict[str, Any]
    objective: dict[str, Any]
    look: str  # what the screen shows
    cure: str  # the arm that mends it, or words


ARMS = {
    "hole": WrongWay(
        {"verifier": "length"}, {},
        "reward rises at once while the share that is right falls: any number of the right size "
        "is paid", "closed",
    ),
    "closed": WrongWay({"verifier": "exact"}, {}, "reward and what is right are one again", ""),
    "sparse": WrongWay(
        {"task": "addition:7", "pay_format": 0.0}, {},
        "no group has a right and a wrong answer: reward, loss and gradient stay at 0", "steps",
    ),
    "steps": WrongWay(
        {"task": "addition:3,addition:4", "pay_format": 0.0}, {},
        "easier problems beside the harder ones give groups that differ", "",
    ),
    "kl-large": WrongWay(
        {}, {"beta": 10.0}, "the policy stays where the reference is: KL and gain are both near 0",
        "objective.beta=0.01 or 0",
    ),
    "kl-small": WrongWay(
        {"lr": 1e-2, "warmup_steps": 0}, {"beta": 0.0},
        "nothing holds a large step back: entropy breaks down, answers become one answer",
        "a smaller rl.lr, or objective.beta=0.1",
    ),
    "length-bias": WrongWay(
        {"pay_format": 0.0}, {"loss": "grpo"},
        "a long wrong answer is punished less per token: wrong ones grow longer than right ones",
        "length-fair",
    ),
    "length-fair": WrongWay(
        {"pay_format": 0.0}, {"loss": "dr_grpo", "scale_rewards": "none"},
        "every token of every completion counts the same (Dr. GRPO)", "",
    ),
}  # fmt: skip


def arm(name: str) -> WrongWay:
    """An arm by name. Raises UserError."""
    if name not in ARMS:
        near = difflib.get_close_matches(name, ARMS, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError("--arm", f"no arm {name!r}", ", ".join(ARMS), hint=hint)
    return ARMS[name]
