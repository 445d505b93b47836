"""The paper's experiment in small: the same student distilled, and rewarded, for the same time.

R1 §4.1 reports that a small model distilled from R1 beats the same small model after large-scale
RL. Here a student is pre-trained once per seed; from that start one copy gets RL for so many
minutes, the other learns from the teacher's accepted text for as many, the teacher's writing
included. What the teacher cost before is not counted: it exists. Intervals are over seeds, paired,
and the sentence follows from the interval.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from minids.config import RunConfig, load
from minids.data.tokenizer import Tokenizer
from minids.nn.transformer import Transformer
from minids.reason.corpus import base_text
from minids.reason.distill_run import distill
from minids.reason.distill_settings import DistillConfig
from minids.reason.packed import open_examples
from minids.reason.passrate import attempt, pass_rate
from minids.reason.rl_run import reinforce_run
from minids.reason.settings import Objective, RLConfig
from minids.reason.sft import tune, watch
from minids.reason.tasks import held_out_set
from minids.train import checkpoint
from minids.train.trainer import Hooks

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, 1 … 9 degrees
ARMS = ("start", "rl", "distilled")
DONE = "arm.json"


class Contest(NamedTuple):
    """What both arms share."""

    cfg: RunConfig  # of the student, its first steps included
    plan: DistillConfig
    rl: RLConfig
    minutes: float  # of each arm
    seeds: int
    base_examples: int = 30_000
    held_out: int = 500


class Arm(NamedTuple):
    """One student, measured."""

    arm: str
    seed: int
    hits: int
    n: int
    tokens: float
    steps: int
    seconds: float
    cpu_seconds: float


class Interrupted(Exception):
    """A signal came; the run has saved itself."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def contest(
    rules: Contest,
    teacher: Transformer,
    tokenizer: Tokenizer,
    out: Path,
    tell: Callable[[str], None] = lambda _text: None,
) -> list[Arm]:
    """Every arm of every seed that is not done yet; all of them also in `out`/versus.json."""
    found = []
    for seed in range(1, rules.seeds + 1):
        for arm in ARMS:
            folder = out / f"{arm}-seed{seed}"
            mark = folder / DONE
            if not mark.is_file():
                tell(f"{arm}, seed {seed}")
                one = measured(rules, arm, seed, teacher, tokenizer, out)
                mark.write_text(json.dumps(one._asdict()), encoding="utf-8")
            found.append(Arm(**json.loads(mark.read_text(encoding="utf-8"))))
            a = found[-1]
            tell(f"{arm}, seed {seed}: {a.hits / a.n:.1%} in {a.steps} steps, {a.seconds:.0f} s")
    rows = [a._asdict() for a in found]
    record = {"arms": rows, "says": verdict(found).says, "minutes": rules.minutes}
    (out / "versus.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return found


def measured(
    rules: Contest, arm: str, seed: int, teacher: Transformer, tokenizer: Tokenizer, out: Path
) -> Arm:
    """Run one arm, then count what it gets right."""
    folder, began, cpu = out / f"{arm}-seed{seed}", time.monotonic(), time.process_time()
    steps = ARM_OF[arm](rules, seed, teacher, tokenizer, out, folder)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    model = Transformer(rules.cfg.model)
    model.load_state_dict(weights_of(folder))
    tasks = rules.plan.tasks
    problems = [
        p for name, level in tasks for p in held_out_set(name, level, rules.held_out // len(tasks))
    ]
    tried = attempt(
        model.requires_grad_(False).eval(), tokenizer, problems,
        temperature=rules.rl.eval_temperature, longest=2 * rules.plan.max_new_tokens,
    )  # fmt: skip
    rate = pass_rate(tried)
    return Arm(arm, seed, rate.hits, rate.n, rate.tokens, steps, seconds, cpu_seconds)


def start(rules, seed, _teacher, tokenizer, _out, folder: Path) -> int:
    """The student's own pre-training, on text that is seldom right."""
    train = dataclasses.replace(rules.cfg.train, seed=seed)
    cfg = dataclasses.replace(rules.cfg, train=train)
    examples = list(base_text(tokenizer, rules.plan.tasks, rules.base_examples, seed))
    data = open_examples(cfg, tokenizer, examples, name="base")
    return ended(tune(cfg, data, out=folder, resume=begun(folder), hooks=Hooks(evaluate=watch)))


def rewarded(rules, seed, _teacher, tokenizer, out, folder: Path) -> int:
    """RL from the start for the minutes of an arm."""
    rl = dataclasses.replace(rules.rl, seed=seed, max_minutes=rules.minutes)
    weights = weights_of(out / f"start-seed{seed}")
    about = {"rl": dataclasses.asdict(rl), "objective": dataclasses.asdict(Objective())}
    return ended(
        reinforce_run(
            rules.cfg, weights, tokenizer, rl, Objective(), out=folder, resume=begun(folder),
            about=about,
        )
    )  # fmt: skip


def distilled(rules, seed, teacher, tokenizer, out, folder: Path) -> int:
    """The teacher writes, the student reads, together for the minutes of an arm."""
    plan = dataclasses.replace(rules.plan, seed=rules.plan.seed + seed)
    train = dataclasses.replace(rules.cfg.train, seed=seed, max_minutes=rules.minutes)
    cfg, resume = dataclasses.replace(rules.cfg, train=train), begun(folder)
    if resume:
        cfg = load(str(folder / "config.toml"))  # with the minutes that the writing left
    done = distill(
        cfg, plan, teacher, tokenizer, tokenizer, out=folder, resume=resume, writing_counts=True,
        weights=weights_of(out / f"start-seed{seed}"), hooks=Hooks(evaluate=watch),
    )  # fmt: skip
    return ended(done)


ARM_OF = {"start": start, "rl": rewarded, "distilled": distilled}


def begun(folder: Path) -> bool:
    """Whether there is something to go on with."""
    return (folder / "checkpoints").is_dir() and bool(checkpoint.steps(folder / "checkpoints"))


def ended(done: Any) -> int:
    """Its steps. Raises Interrupted after a signal."""
    if done.interrupted:
        raise Interrupted(done.interrupted)
    return done.step


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The newest whole weights."""
    return checkpoint.load_latest(folder / "checkpoints")[0].model


# What it says


class Verdict(NamedTuple):
    """Mean lead of the distilled student over the rewarded one, in points, over seeds."""

    mean: float
    low: float
    high: float
    seeds: list[float]
    says: str


def verdict(arms: Sequence[Arm]) -> Verdict:
    """The paired difference with Student's interval; one seed has none and supports nothing."""
    share = {(a.arm, a.seed): a.hits / a.n for a in arms}
    seeds = sorted({a.seed for a in arms})
    lead = [100 * (share["distilled", s] - share["rl", s]) for s in seeds]
    n, mean = len(lead), sum(lead) / len(lead)
    if n == 1:
        says = f"Distilled {mean:+.1f} points against rewarded in one seed: that supports nothing."
        return Verdict(mean, -math.inf, math.inf, lead, says)
    spread = math.sqrt(sum((x - mean) ** 2 for x in lead) / (n - 1))
    half = STUDENT[n - 2] * spread / math.sqrt(n)
    low, high = mean - half, mean + half
    within = f"{mean:+.1f} points, 95 % {low:+.1f} … {high:+.1f} over {n} seeds"
    if low > 0:
        says = f"Distilled, the student gets more right than rewarded for as long ({within})."
    elif high < 0:
        says = f"Distilled, the student gets fewer right than rewarded for as long ({within})."
    else:
        says = f"Distilled and rewarded students are not told apart ({within})."
    return Verdict(mean, low, high, lead, says)
