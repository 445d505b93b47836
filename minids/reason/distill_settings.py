"""What can be chosen about distillation, as checked numbers; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from minids.config import bounded, check_ranges, free, one_of
from minids.errors import UserError
from minids.reason.settings import parse_tasks


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What passes from teacher to student, and what pulls."""

    way: str = one_of(
        "traces",
        "traces logits samples",
        "traces: its right answers as text (R1) · logits: its distribution on them · "
        "samples: its distribution on what the student writes (on-policy, V4)",
    )
    task: str = free("addition:3", "tasks with levels, e.g. addition:3,sort:2")
    examples: int = bounded(8000, 40, 10_000_000, "completions of the teacher, the right ones kept")
    weight: float = bounded(0.0, 0.0, 1.0, "0 forward KL … Jensen–Shannon … 1 reverse KL")
    temperature: float = bounded(1.0, 0.01, 100.0, "divides both logits; the loss times its square")
    top_k: int = bounded(0, 0, 10_000_000, "tokens kept of the teacher, 0 keeps all")
    prompts: int = bounded(64, 1, 1 << 16, "samples: completions of the student a step")
    max_new_tokens: int = bounded(48, 1, 1 << 20, "longest completion, tokens")
    seed: int = bounded(1, 0, (1 << 62) - 1, "of problems and samples")

    def __post_init__(self) -> None:
        check_ranges("distill", self)
        if self.top_k and self.weight == 1:
            raise UserError(
                "distill.top_k",
                "with reverse KL: a token that was cut would cost infinitely much",
                "a weight below 1",
            )

    @property
    def tasks(self) -> list[tuple[str, int]]:
        """Pairs of a task and its level. Raises UserError."""
        return parse_tasks(self.task)
