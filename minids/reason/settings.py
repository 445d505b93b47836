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


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """How a policy is sampled, paid and moved."""

    task: str = free("addition:3", "tasks with levels, e.g. addition:3,sort:2")
    prompts: int = bounded(16, 1, 1 << 16, "B · problems sampled together")
    group: int = bounded(8, 1, 1024, "G · completions of each")
    temperature: float = bounded(1.0, 0.0, 2.0, "of sampler and learner")
    top_p: float = bounded(1.0, 0.0, 1.0, "of the sampler")
    top_k: int = bounded(0, 0, 10_000_000, "likeliest tokens kept; 0 keeps all")
    keep_mask: bool = free(True, "V3.2: the learner cuts where top-p and top-k of the sampler cut")
    keep_routing: bool = free(False, "V3.2: the learner asks the experts that the sampler asked")
    max_new_tokens: int = bounded(96, 1, 1 << 20, "longest completion, tokens")
    updates: int = bounded(1, 1, 1024, "updates made of one sampling, a share of the groups each")
    steps: int = bounded(200, 1, 1 << 40, "samplings")
    max_minutes: float = bounded(0.0, 0.0, 1e6, "stop by the clock; 0 means by steps")
    lr: float = bounded(4e-4, 0.0, 100.0, "of AdamW's parameters")
    muon_lr: float = bounded(1e-3, 0.0, 100.0, "of Muon's matrices")
    optimizer: str = one_of("adamw", "muon adamw", "muon: matrices by Muon, the rest by AdamW")
    warmup_steps: int = bounded(5, 0, 1 << 30, "samplings of linear warm-up")
    min_lr_ratio: float = bounded(1.0, 0.0, 1.0, "rate at the end, share of the peak; linear")
    max_grad_norm: float = bounded(1.0, 0.0, 1e9, "gradients are clipped to; 0 means never")
    verifier: str = one_of(
        "exact",
        "exact prefix length last math",
        "who pays; math: math-verify; prefix, length, last have a hole, for lesson 21",
    )
    pay_accuracy: float = bounded(1.0, -100.0, 100.0, "reward of a right answer")
    pay_format: float = bounded(0.1, -100.0, 100.0, "reward of a readable answer in its tags")
    pay_consistency: float = bounded(0.0, -100.0, 100.0, "reward of thinking in the task's signs")
    overlong: int = bounded(0, 0, 1 << 20, "DAPO: last tokens that cost up to 1 of reward; 0 none")
    drop_truncated: bool = free(False, "DAPO: completions without an end teach nothing")
    dynamic: int = bounded(1, 1, 64, "DAPO: samplings until every group has a signal; 1: one")
    reference_every: int = bounded(0, 0, 1 << 40, "steps until the policy is the new reference")
    eval_every: int = bounded(20, 0, 1 << 40, "steps between held-out pass rates; 0: the end")
    eval_problems: int = bounded(128, 1, 1 << 20, "held-out problems of each task")
    eval_temperature: float = bounded(0.6, 0.01, 2.0, "of their completions, one each (R1: 0.6)")
    save_every: int = bounded(50, 0, 1 << 40, "steps between checkpoints; 0 at the end only")
    keep: int = bounded(3, 2, 1 << 20, "newest checkpoints kept")
    tokens_per_pass: int = bounded(16384, 1, 1 << 30, "bounds the learner's memory")
    seed: int = bounded(1, 0, (1 << 62) - 1, "of problems and samples")

    def __post_init__(self) -> None:
        check_ranges("rl", self)
        if self.temperature < 0.01:
            raise UserError("rl.temperature", f"{self.temperature} explores nothing", "0.01 … 2.0")
        if self.top_p == 0:
            raise UserError("rl.top_p", "0 keeps no token", "above 0, up to 1.0")
        if self.updates > self.prompts:
            raise UserError(
                "rl.updates", f"{self.updates} of {self.prompts} groups", f"1 … {self.prompts}"
            )
        if self.overlong >= self.max_new_tokens:
            raise UserError(
                "rl.overlong", f"{self.overlong} of {self.max_new_tokens} tokens",
                f"0 … {self.max_new_tokens - 1}",
            )  # fmt: skip

    @property
    def tasks(self) -> list[tuple[str, int]]:
        """`addition:3,sort:2` as pairs. Raises UserError for a task or level that is not there."""
        return parse_tasks(self.task)


def parse_tasks(text: str) -> list[tuple[str, int]]:
    """NAME or NAME:LEVEL, separated by commas → pairs; the level is 1 where none is given.

    gym:NAME is a data set of reasoning-gym.
    """
    from minids.reason import tasks

    found = []
    for part in text.split(","):
        whole = part.strip()
        source = tasks.GYM if whole.startswith(tasks.GYM) else ""
        name, _, level = whole.removeprefix(source).partition(":")
        pair = source + name, coerce("level", level or 1, int)
        tasks.check(*pair)
        found.append(pair)
    return found
