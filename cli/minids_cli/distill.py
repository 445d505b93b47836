"""Distil a run into a smaller student: from its text, its logits, or its opinion of the student.

minids distill runs/r1/6-r1 --task addition:3                   traces: right answers as text (R1)
minids distill TEACHER --task addition:3 --way logits           its distribution on that text
minids distill TEACHER --task addition:3 --way samples --set weight=1   on-policy, reverse KL (V4)
minids distill TEACHER --task addition:3 --versus rl --seeds 3  the paper's experiment
minids distill --resume runs/distill-001
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from minids import config
from minids.config import coerce
from minids.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids distill`."""
    parser.add_argument(
        "teacher", metavar="TEACHER", nargs="?", help="the run that is learned from"
    )
    parser.add_argument("--student", metavar="RUN", help="a run to start from (default: nothing)")
    parser.add_argument(
        "--config", metavar="C", help="preset or TOML file of a student from nothing (r1-student)"
    )
    parser.add_argument("--task", metavar="T", help="addition:3,sort:2 …: tasks with levels 1 … 9")
    parser.add_argument("--way", metavar="W", help="traces, logits, samples (default: traces)")
    parser.add_argument("--examples", metavar="N", help="completions of the teacher (8000)")
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="a field of distill or train"
    )
    parser.add_argument("--steps", metavar="N", help="optimizer steps (default: the config's)")
    parser.add_argument("--minutes", metavar="M", help="stop and decay by the clock")
    parser.add_argument("--seed", metavar="N", help="of weights, problems and samples")
    parser.add_argument("--out", metavar="DIR", help="a new folder (default: runs/distill-001, …)")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    parser.add_argument(
        "--inject", metavar="FAULTS", default="", help="faults on purpose, e.g. nan-grad@7"
    )
    parser.add_argument("--plain", action="store_true", help="lines, as always so far")
    group = parser.add_argument_group("the experiment")
    group.add_argument(
        "--versus", metavar="rl", choices=("rl",), help="the student distilled against the "
        "student rewarded: same start, same minutes (--minutes, default 2) each"
    )  # fmt: skip
    group.add_argument("--seeds", metavar="N", help="students, 1 … 10 (default: 3)")


def run(args: argparse.Namespace) -> int:
    """Check without torch, then teach."""
    from minids.runs import find_run
    from minids.train import faults, folder

    faults.parse(args.inject)
    if args.versus:
        from minids_cli import distill_versus

        return distill_versus.run(args, *settings(args))
    if args.seeds is not None:
        raise UserError("--seeds", "given without --versus", "--versus rl --seeds N")
    if args.resume is not None:
        return resumed(args)
    plan, changes = settings(args)
    teacher = find_run(args.teacher)
    student = find_run(args.student) if args.student else None
    cfg = student_config(args, student, changes)
    out = Path(args.out) if args.out else folder.next_folder(Path("runs"), "distill")
    folder.check_new(out)
    return teach(args, out, plan, cfg, teacher, student)


def teach(args: argparse.Namespace, out: Path, plan, cfg, teacher: Path, student, *, resume=False):
    """Everything that needs torch."""
    from minids.data.tokenizer import Tokenizer
    from minids.reason.distill_run import distill
    from minids.reason.sft import watch
    from minids.runs import open_run
    from minids.train.trainer import Hooks
    from minids_cli.sft_watch import watcher_for

    taught = open_run(teacher)
    tokenizer, weights = taught.tokenizer, None
    if resume:
        tokenizer = Tokenizer.load(out / "tokenizer")
    elif student is not None:
        begun = open_run(student)
        tokenizer, weights = begun.tokenizer, begun.model.state_dict()
    else:
        model = dataclasses.replace(cfg.model, vocab_size=tokenizer.vocab_size)
        cfg = dataclasses.replace(cfg, model=model)
    watcher = watcher_for(args)
    try:
        done = distill(
            cfg, plan, taught.model, taught.tokenizer, tokenizer,
            out=out, weights=weights, resume=resume, inject=args.inject,
            about={"teacher": str(teacher), "from": str(student) if student else None},
            hooks=Hooks(on_event=watcher, evaluate=watch),
        )  # fmt: skip
    finally:
        watcher.close()
    return done.interrupted


def settings(args: argparse.Namespace) -> tuple[Any, dict[str, str]]:
    """The plan, and the fields of train that were changed."""
    from minids.reason.distill_settings import DistillConfig
    from minids.reason.settings import build

    if args.teacher is None:
        raise UserError("TEACHER", "is missing", "a run folder", hint="minids r1 --tiny makes one")
    known = {f.name for f in dataclasses.fields(DistillConfig)}
    own: dict[str, Any] = {}
    train: dict[str, str] = {}
    for text in args.set:
        key, eq, value = text.partition("=")
        section, dot, name = key.strip().rpartition(".")
        section = section if dot else "distill" if name in known else "train"
        if not eq or section not in ("distill", "train"):
            raise UserError("--set", f"{text!r}", "distill.field=value, train.field=value")
        (own if section == "distill" else train)[name] = value.strip()
    short = {"task": args.task, "way": args.way, "examples": args.examples, "seed": args.seed}
    own |= {name: value for name, value in short.items() if value is not None}
    short = {"max_steps": args.steps, "max_minutes": args.minutes, "seed": args.seed}
    train |= {name: value for name, value in short.items() if value is not None}
    plan = build(DistillConfig, "distill", own)
    assert plan.tasks
    return plan, train


def student_config(args: argparse.Namespace, student: Path | None, changes: dict[str, str]):
    """A student's config with the changed fields of train."""
    if student is not None and args.config is not None:
        raise UserError("--config", "given together with --student", "one of them")
    name = str(student / "config.toml") if student else args.config or "r1-student"
    tables = config.to_dict(config.load(name))
    tables["data"] |= {"name": "text", "path": "examples"}
    tables["train"] |= {"workers": 1} | changes
    steps = coerce("train.max_steps", tables["train"]["max_steps"], int)
    if "warmup_steps" not in changes:
        tables["train"]["warmup_steps"] = min(10, max(0, steps - 1))
    return config.build(tables, tables["name"])


def resumed(args: argparse.Namespace) -> int:
    """Go on with the settings it was begun with; more steps may be asked for."""
    from minids.reason.distill_settings import DistillConfig
    from minids.reason.settings import build
    from minids.runs import find_run

    for name in ("teacher", "out", "student", "task", "way", "examples", "config", "seed"):
        if getattr(args, name) is not None:
            flag = "TEACHER" if name == "teacher" else f"--{name}"
            raise UserError(flag, "given together with --resume", "one of them")
    out = Path(args.resume)
    try:
        saved = json.loads((out / "run.json").read_text(encoding="utf-8"))
        plan, teacher = saved["distill"], saved["teacher"]
    except (OSError, ValueError, KeyError, TypeError):
        what = f"{args.resume!r} is no folder of a distillation"
        raise UserError("--resume", what, "a folder that minids distill made", code=4) from None
    tables = config.to_dict(config.load(str(out / "config.toml")))
    short = {"max_steps": args.steps, "max_minutes": args.minutes}
    tables["train"] |= {name: value for name, value in short.items() if value is not None}
    cfg = config.build(tables, tables["name"])
    plan = build(DistillConfig, "distill", plan)
    return teach(args, out, plan, cfg, find_run(teacher), None, resume=True)
