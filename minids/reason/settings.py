"""What can be chosen about reinforcement learning, as checked numbers; no torch.

One dataclass for the objective (which loss, which ratio, which mean) and one for the run. A method
is a name for a few of these values: `METHODS` holds what each paper changes against GRPO.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, get_type_hints

from minids.config import bounded, check_ranges, coerce, free, one_of
from minids.errors import UserError

LOSSES = "grpo bnpo dr_grpo dapo luspo cispo sapo vespo"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of one update; names and meanings of `loss` are TRL's."""

    loss: str = one_of("grpo", LOSSES, "gain of a token and what the sum is divided by")
    ratio: str = one_of("token", "token sequence", "π/π_old per token · GSPO: per completion")
    epsilon_low: float = bounded(0.2, 0.0, 1.0, "the ratio counts down to 1 − this")
    epsilon_high: float = bounded(0.2, 0.0, 1e6, "… up to 1 + this; cispo: up to this itself")
    delta: float = bounded(0.0, 0.0, 1e6, "largest ratio even where A < 0; 0 means none")
    beta: float = bounded(0.0, 0.0, 100.0, "weight of the KL to the reference; 0 needs none")
    unbiased_kl: bool = free(False, "V3.2: k3 times the ratio, so that its gradient is unbiased")
    off_policy: float = bounded(
        0.0, 0.0, 1e6, "V3.2: drop completions with A < 0 beyond this KL; 0 keeps all"
    )
    scale_rewards: str = one_of("group", "group batch none", "deviation that A is divided by")
    sapo_positive: float = bounded(1.0, 1e-6, 1e6, "sapo: temperature of the gate where A > 0")
    sapo_negative: float = bounded(1.05, 1e-6, 1e6, "sapo: … where A ≤ 0")
    vespo_k_positive: float = bounded(2.0, 0.0, 1e3, "vespo: power of w where A ≥ 0")
    vespo_k_negative: float = bounded(3.0, 0.0, 1e3, "vespo: … where A < 0")
    vespo_lambda_positive: float = bounded(3.0, 1e-4, 1e3, "vespo: decay of w where A ≥ 0")
    vespo_lambda_negative: float = bounded(2.0, 1e-4, 1e3, "vespo: … where A < 0")

    def __post_init__(self) -> None:
        check_ranges("objective", self)
        if self.delta and self.delta <= 1 + self.epsilon_high:
            raise UserError(
                "objective.delta",
                f"{self.delta} lies inside the clip range",
                f"0, or more than {1 + self.epsilon_high:g}",
            )
        if self.loss == "vespo" and self.ratio == "sequence":
            raise UserError(
                "objective.ratio", "vespo weighs whole completions by itself", "token with vespo"
            )


METHODS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dr_grpo": {"loss": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss": "dapo", "epsilon_high": 0.28},
    "gspo": {"ratio": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss": "cispo", "epsilon_high": 5.0},
    "v3.2": {"beta": 0.001, "unbiased_kl": True, "off_policy": 0.1},
}  # off_policy of V3.2 is not published; 0.1 nats per token is ours


def objective(method: str, changes: dict[str, Any]) -> Objective:
    """A method by name with single values changed. Raises UserError."""
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError("method", f"no method {method!r}", ", ".join(METHODS), hint=hint)
    return build(Objective, "objective", METHODS[method] | changes)


def build(kind: type, section: str, values: dict[str, Any]) -> Any:
    """A settings dataclass from typed or written values. Raises UserError for any other name."""
    kinds = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {section}.{near[0]}?" if near else ""
            raise UserError(
                f"{section}.{name}", "unknown field", ", ".join(sorted(known)), hint=hint
            )
    return kind(**{n: coerce(f"{section}.{n}", v, kinds[n]) for n, v in values.items()})
