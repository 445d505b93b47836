"""The numeric guard: no step is taken that could not be taken back.

It judges each step before the weights change. Not finite, or far above the recent losses: skipped.
Too many skips in a row: back to the last good checkpoint, behind the bad batches. Again too often:
stop. Only accepted values enter its memory, or one NaN would blind it for ever; the memory is
saved with the run, or a resumed run would be unguarded.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from minids.config import TrainConfig

WINDOW = 64  # accepted losses remembered
SPEAKS_AFTER = 16  # losses before a spike can be called one
LEAST_SPREAD = 0.02  # share of the loss below which differences are noise


Verdict = Literal["accept", "skip", "roll back", "stop"]


def spike_limit(losses: Sequence[float], factor: float) -> float:
    """The highest loss that is no spike, by the losses accepted so far.

    `factor` deviations above the middle; both by medians, which one bad value hardly moves. The
    median of distances is 1/1.4826 of a normal deviation. Never less than LEAST_SPREAD of the loss:
    after a quiet time every flutter would be a spike.
    """
    middle = statistics.median(losses)
    spread = 1.4826 * statistics.median(abs(x - middle) for x in losses)
    return middle + factor * max(spread, LEAST_SPREAD * abs(middle), 1e-6)


@dataclass
class Guard:
    """Judges losses and gradient norms; knows nothing of models."""

    cfg: TrainConfig
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    reason: str = ""

    def judge(self, loss: float, grad_norm: float) -> Verdict:
        """What to do with a step whose gradient is ready and whose weights are untouched."""
        self.reason = self.complaint(loss, grad_norm)
        if not self.reason:
            self.losses.append(loss)
            self.skipped_in_a_row = 0
            return "accept"
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row <= self.cfg.max_skips:
            return "skip"
        self.skipped_in_a_row = 0
        self.rollbacks += 1
        return "roll back" if self.rollbacks <= self.cfg.max_rollbacks else "stop"

    def complaint(self, loss: float, grad_norm: float) -> str:
        """What is wrong with these two numbers; "" if nothing is."""
        if not math.isfinite(loss):
            return f"loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"gradient norm is {grad_norm}"
        if not self.cfg.spike_factor or len(self.losses) < SPEAKS_AFTER:
            return ""
        limit = spike_limit(self.losses, self.cfg.spike_factor)
        return f"loss {loss:.3f} spikes above {limit:.3f}" if loss > limit else ""

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, for state.json."""
        return {
            "losses": [x.hex() for x in self.losses],
            "skipped_in_a_row": self.skipped_in_a_row,
            "rollbacks": self.rollbacks,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what the run knew when it was saved."""
        self.losses = deque((float.fromhex(x) for x in state["losses"]), maxlen=WINDOW)
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.rollbacks = state["rollbacks"]


@dataclass
class RouterWatch:
    """Names experts that starve and layers that collapse, once each time it begins."""

    patience: int = 50  # steps before it speaks
    limit: float = 4.0  # load of the busiest expert over the mean
    starved: dict[tuple[int, int], int] = field(default_factory=dict)
    skewed: dict[int, int] = field(default_factory=dict)

    def look(self, load: list[list[int]]) -> list[str]:
        """load [layers, experts] of one step → warnings that begin now."""
        warnings = []
        for layer, visits in enumerate(load):
            mean = sum(visits) / len(visits)
            worst = max(visits) / mean if mean else 1.0
            self.skewed[layer] = self.skewed.get(layer, 0) + 1 if worst > self.limit else 0
            if self.skewed[layer] == self.patience:
                warnings.append(
                    f"expert layer {layer}: the busiest expert took {worst:.1f} times the mean "
                    f"load for {self.patience} steps (router collapse)"
                )
            for expert, count in enumerate(visits):
                key = layer, expert
                self.starved[key] = self.starved.get(key, 0) + 1 if count == 0 else 0
                if self.starved[key] == self.patience:
                    warnings.append(
                        f"expert layer {layer}: expert {expert} saw no token for "
                        f"{self.patience} steps (dead expert)"
                    )
        return warnings
