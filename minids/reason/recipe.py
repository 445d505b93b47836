"""DeepSeek-R1's road in small: base, R1-Zero, cold start, RL, rejection sampling, RL, student.

The road is data: `road` lists the stages, each with the stage it starts from, and one function does
any of them. Every stage is a run folder of its own, so it can be sampled, chatted with, or made
alone by `minids sft` and `minids rl`; a road that was cut off goes on where it was. (R1 §2)
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from minids.config import DataConfig, ModelConfig, RunConfig, TrainConfig, load
from minids.data import tales
from minids.data.tokenizer import Tokenizer
from minids.nn.transformer import Transformer
from minids.reason.chat import Example, Turn, conversation
from minids.reason.corpus import base_text, worked_examples
from minids.reason.packed import open_examples
from minids.reason.passrate import attempt, pass_rate
from minids.reason.rl_run import reinforce_run
from minids.reason.settings import Objective, RLConfig, parse_tasks
from minids.reason.sft import tune, watch
from minids.reason.tasks import LEVELS, held_out_set
from minids.reason.teach import accepted
from minids.train import checkpoint
from minids.train.probe import pick_device
from minids.train.trainer import Hooks

DONE = "stage.json"
STORY = "tell a story"
OTHERS = 3  # one example of something else for so many of reasoning: R1's 600K and 200K


class Stage(NamedTuple):
    """One step of the road."""

    name: str  # and its folder
    kind: str  # base · rl · cold · reject · distil
    start: str  # the stage whose weights it starts from; "" from nothing
    source: str = ""  # the stage whose completions it learns from
    examples: int = 0
    steps: int = 0  # of tuning
    minutes: float = 0.0  # of RL
    lr: float = 0.0  # of RL; where little is left to learn a large one unlearns


class Interrupted(Exception):
    """A signal came; the stage has saved itself."""

    def __init__(self, code: int, stage: str) -> None:
        super().__init__(stage)
        self.code, self.stage = code, stage


class Road(NamedTuple):
    """All stages and what they share."""

    task: str
    model: ModelConfig
    student: ModelConfig
    stages: tuple[Stage, ...]
    train: TrainConfig
    rl: RLConfig
    held_out: int = 500
    seed: int = 1
    context: int = 128  # tokens of a row in tuning


class Result(NamedTuple):
    """What a stage bought."""

    stage: str
    hits: int  # of the held-out problems, one completion each
    n: int
    longer_hits: int  # of problems one level harder than any it was trained on
    longer_n: int
    tokens: float
    seconds: float  # of this stage
    parameters: int
    samples: list[list[str]]  # prompt, completion, verdict
    cpu_seconds: float = 0.0  # of all cores, measuring included


def tiny(task: str = "addition:3") -> Road:
    """Two CPU cores, about twenty minutes."""
    cfg = load("r1-tiny")
    stages = (
        Stage("1-base", "base", "", examples=60_000, steps=330),
        Stage("2-zero", "rl", "1-base", minutes=4.0, lr=8e-4),
        Stage("3-cold-start", "cold", "1-base", examples=1_500, steps=40),
        Stage("4-rl", "rl", "3-cold-start", minutes=2.0, lr=1e-4),
        Stage("5-rejection", "reject", "1-base", source="4-rl", examples=4_000, steps=120),
        Stage("6-r1", "rl", "5-rejection", minutes=2.0, lr=1e-4),
        Stage("7-student", "distil", "", source="6-r1", examples=16_000, steps=250),
    )
    rl = RLConfig(
        task=task,
        prompts=24,
        group=12,
        max_new_tokens=48,
        min_lr_ratio=0.1,
        eval_every=0,
        save_every=20,
    )
    return Road(task, cfg.model, load("r1-student").model, stages, cfg.train, rl)


def follow(road: Road, out: Path, tell: Callable[[str], None] = lambda _text: None) -> list[Result]:
    """Every stage that is not done yet, in order → what each bought; also in `out`/result.json.

    Raises Interrupted after a signal, once the stage has saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for stage in road.stages:
        mark = out / stage.name / DONE
        if not mark.is_file():
            tell(f"{stage.name}: {stage.kind}" + (f" from {stage.start}" if stage.start else ""))
            start, cpu = time.monotonic(), time.process_time()
            if code := walk(road, stage, out, tell):
                raise Interrupted(code, stage.name)
            seconds = time.monotonic() - start
            found = measure(road, stage, out / stage.name, seconds)
            found = found._replace(cpu_seconds=time.process_time() - cpu)
            mark.write_text(json.dumps(found._asdict()), encoding="utf-8")
        results.append(Result(**json.loads(mark.read_text(encoding="utf-8"))))
        r = results[-1]
        tell(
            f"{r.stage}: {r.hits / max(1, r.n):.1%} of {r.n} held-out problems, "
            f"{r.longer_hits / max(1, r.longer_n):.1%} of longer ones, {r.tokens:.0f} tokens, "
            f"{r.seconds:.0f} s"
        )
    rows = [r._asdict() for r in results]
    (out / "result.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return results


def walk(road: Road, stage: Stage, out: Path, tell: Callable[[str], None]) -> int:
    """One stage, from its beginning or from its newest checkpoint. → 0, or the signal's code"""
    folder = out / stage.name
    resume = bool((folder / "checkpoints").is_dir() and checkpoint.steps(folder / "checkpoints"))
    weights = weights_of(out / stage.start) if stage.start else None
    if stage.kind == "rl":
        cfg = load(str(out / stage.start / "config.toml"))
        tokenizer = Tokenizer.load(out / stage.start / "tokenizer")
        rl = dataclasses.replace(road.rl, max_minutes=stage.minutes, lr=stage.lr, seed=road.seed)
        assert weights is not None
        done = reinforce_run(
            cfg, weights, tokenizer, rl, Objective(), out=folder, resume=resume,
            about={"rl": dataclasses.asdict(rl), "objective": dataclasses.asdict(Objective())},
            on_event=lambda event: tell(heard(event)) if heard(event) else None,
        )  # fmt: skip
        return done.interrupted
    tokenizer = Tokenizer.shipped("tales")
    model = road.student if stage.kind == "distil" else road.model
    gentle = 1.0 if stage.kind in ("base", "distil") else 0.2
    train = dataclasses.replace(
        road.train, max_steps=stage.steps, warmup_steps=min(10, stage.steps), seed=road.seed,
        lr=road.train.lr * gentle, muon_lr=road.train.muon_lr * gentle, workers=1,
    )  # fmt: skip
    data = DataConfig(name="text", path="examples", context=road.context)
    cfg = RunConfig(name=stage.name, model=model, data=data, train=train)
    examples = list(examples_of(road, stage, out, tokenizer))
    tell(f"{stage.name}: {len(examples):,} examples")
    tuned = tune(
        cfg, open_examples(cfg, tokenizer, examples, name=stage.name), out=folder, weights=weights,
        resume=resume, hooks=Hooks(evaluate=watch),
    )  # fmt: skip
    return tuned.interrupted


def examples_of(road: Road, stage: Stage, out: Path, tokenizer: Tokenizer) -> Iterator[Example]:
    """What a stage of tuning learns from."""
    tasks, n = parse_tasks(road.task), stage.examples
    if stage.kind == "base":
        yield from base_text(tokenizer, tasks, n, road.seed)
    elif stage.kind == "cold":
        yield from worked_examples(tokenizer, tasks, n, road.seed + 1)
    else:
        teacher = model_of(out / stage.source)
        seed, longest = road.seed + 2, road.rl.max_new_tokens
        yield from accepted(teacher, tokenizer, tasks, n, seed=seed, longest=longest)
        if stage.kind == "reject":
            yield from stories(tokenizer, n // OTHERS, road.seed)


def stories(tokenizer: Tokenizer, n: int, seed: int) -> Iterator[Example]:
    """Something that is no reasoning at all, so that the model does not forget to talk."""
    for tale in tales.generate(seed, n):
        yield conversation(tokenizer, [Turn("user", STORY), Turn("assistant", tale.text)])


def measure(road: Road, stage: Stage, folder: Path, seconds: float) -> Result:
    """Held-out pass rate, and that of problems longer than any in training."""
    tokenizer, model = Tokenizer.load(folder / "tokenizer"), model_of(folder)
    tasks = parse_tasks(road.task)
    each = road.held_out // len(tasks)
    same = [p for name, level in tasks for p in held_out_set(name, level, each)]
    longer = [
        p for name, level in tasks if level < LEVELS[1]
        for p in held_out_set(name, level + 1, each)
        if p.prompt not in {q.prompt for q in same}
    ]  # fmt: skip
    rule = {"temperature": road.rl.eval_temperature, "longest": 2 * road.rl.max_new_tokens}
    tried = attempt(model, tokenizer, same, **rule)
    rate, harder = pass_rate(tried), pass_rate(attempt(model, tokenizer, longer, **rule))
    size = sum(p.numel() for p in model.parameters())
    shown = [[a.problem.prompt, a.text, a.reward.verdict.reason] for a in tried[:4]]
    return Result(
        stage.name, rate.hits, rate.n, harder.hits, harder.n, rate.tokens, seconds, size, shown
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The newest whole weights of a stage."""
    return checkpoint.load_latest(folder / "checkpoints")[0].model


def model_of(folder: Path) -> Transformer:
    """A stage's model, ready to sample, on the device it was trained on."""
    cfg = load(str(folder / "config.toml"))
    model = Transformer(cfg.model)
    model.load_state_dict(weights_of(folder))
    return model.requires_grad_(False).eval().to(pick_device(cfg.train.device))


def heard(event: Any) -> str:
    """A line of an RL stage now and then."""
    record = getattr(event, "record", None)
    if record and record["step"] % 10 == 0:
        return (
            f"  step {record['step']}: reward {record['reward']:.3f}, right "
            f"{record['accuracy']:.0%}, {record['length']:.0f} tokens"
        )
    return ""
