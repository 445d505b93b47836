"""Reinforcement learning from verified rewards: GRPO and its family on one's own model.

minids rl base-001 --task addition:3                  GRPO as DeepSeek-R1-Zero has it
minids rl base-001 --task addition:3 --method dapo    what each paper changes: --method
minids rl base-001 --task sums:2 --set rl.group=16 --set objective.beta=0.01
minids rl base-001 --arm hole                         a verifier with a hole: --arm list
minids rl --resume runs/rl-001
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids_cli import show

SECTIONS = ("rl", "objective")


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids rl`."""
    parser.add_argument(
        "run_folder", metavar="RUN", nargs="?", help="where it starts: a run folder"
    )
    parser.add_argument("--task", metavar="T", help="addition:3,sort:2 …: tasks with levels 1 … 9")
    parser.add_argument(
        "--method", metavar="M", help="grpo, dr_grpo, dapo, gspo, cispo, v3.2 (default: grpo)"
    )
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="a field of rl or objective"
    )
    parser.add_argument(
        "--arm", metavar="A", help="a run that goes wrong on purpose; list shows them all"
    )
    parser.add_argument("--steps", metavar="N", help="samplings (default: 200)")
    parser.add_argument("--minutes", metavar="M", help="stop by the clock")
    parser.add_argument("--seed", metavar="N", help="of problems and samples")
    parser.add_argument("--out", metavar="DIR", help="a new folder (default: runs/rl-001, …)")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    parser.add_argument(
        "--inject", metavar="FAULTS", default="", help="faults on purpose, e.g. nan-grad@7"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live screen")
    parser.add_argument("--fields", action="store_true", help="list all fields with their ranges")


def run(args: argparse.Namespace) -> int:
    """Check without torch, then learn."""
    if args.fields:
        return list_fields(args)
    if args.arm == "list":
        return list_arms(args)
    from minids.reason.settings import RLConfig, build, objective
    from minids.runs import find_run
    from minids.train import faults, folder

    faults.parse(args.inject)
    changes = overrides(args)
    if args.resume is not None:
        out, saved = resumed(args)
        rl = build(RLConfig, "rl", saved["rl"] | changes["rl"])
        rule = objective("grpo", saved["objective"] | changes["objective"])
        source = out
    else:
        if args.run_folder is None:
            raise UserError("RUN", "is missing", "a run folder", hint="minids r1 --tiny makes one")
        rl = build(RLConfig, "rl", changes["rl"])
        rule = objective(args.method or "grpo", changes["objective"])
        out = Path(args.out) if args.out else folder.next_folder(Path("runs"), "rl")
        folder.check_new(out)
        source = find_run(args.run_folder)
    assert rl.tasks
    from minids.reason.rl_run import reinforce_run
    from minids.runs import open_run
    from minids_cli.rl_watch import watcher_for

    trained = open_run(source)
    trained.model.requires_grad_(True)
    watcher = watcher_for(args, rl, rule, out, trained.model)
    about = {
        "from": str(source),
        "rl": dataclasses.asdict(rl),
        "objective": dataclasses.asdict(rule),
    }
    try:
        done = reinforce_run(
            trained.cfg,
            trained.model.state_dict(),
            trained.tokenizer,
            rl,
            rule,
            out=out,
            resume=args.resume is not None,
            inject=args.inject,
            about=about,
            on_event=watcher,
        )
    finally:
        watcher.close()
    return done.interrupted


def overrides(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """--set and the short flags, by section."""
    from minids.reason.settings import Objective, RLConfig

    owners = {
        "rl": {f.name for f in dataclasses.fields(RLConfig)},
        "objective": {f.name for f in dataclasses.fields(Objective)},
    }
    found: dict[str, dict[str, Any]] = {"rl": {}, "objective": {}}
    for text in args.set:
        key, eq, value = text.partition("=")
        section, dot, name = key.strip().rpartition(".")
        if not eq or not name:
            raise UserError(
                "--set", f"{text!r} has no value", "rl.field=value, objective.field=value"
            )
        if not dot:
            section = next((s for s, names in owners.items() if name in names), "rl")
        if section not in found:
            raise UserError("--set", f"no section {section!r} here", "rl, objective")
        found[section][name] = value.strip()
    short = {"task": args.task, "steps": args.steps, "max_minutes": args.minutes, "seed": args.seed}
    found["rl"] |= {name: value for name, value in short.items() if value is not None}
    if args.arm is not None:
        from minids.reason.arms import arm

        chosen = arm(args.arm)
        found["rl"] = chosen.rl | found["rl"]
        found["objective"] = chosen.objective | found["objective"]
    return found


def list_arms(args: argparse.Namespace) -> int:
    """Every arm, what to look at and what mends it."""
    from minids.reason.arms import ARMS

    if args.json:
        for name, a in ARMS.items():
            show.emit_json({"arm": name, **a._asdict()})
        return 0
    rows = [
        (name, " ".join(f"{k}={v}" for k, v in (a.rl | a.objective).items()), a.look, a.cure)
        for name, a in ARMS.items()
    ]
    show.table("Runs that go wrong on purpose", ["--arm", "changes", "look at", "cure"], rows)
    return 0


def resumed(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder to go on in and the settings it was begun with."""
    for name in ("run_folder", "out", "method", "task", "arm"):
        if getattr(args, name) is not None:
            flag = "RUN" if name == "run_folder" else f"--{name}"
            raise UserError(flag, "given together with --resume", "one of them")
    out = Path(args.resume)
    try:
        saved = json.loads((out / "run.json").read_text(encoding="utf-8"))
        return out, {"rl": saved["rl"], "objective": saved["objective"]}
    except (OSError, ValueError, KeyError, TypeError):
        what = f"{args.resume!r} is no folder of an RL run"
        raise UserError("--resume", what, "a folder that minids rl made", code=4) from None


def list_fields(args: argparse.Namespace) -> int:
    """Every field, its default, range and meaning."""
    from minids.config import span
    from minids.reason.settings import Objective, RLConfig

    rows = []
    for section, kind in (("rl", RLConfig), ("objective", Objective)):
        for f in dataclasses.fields(kind):
            row = (f"{section}.{f.name}", f.default, span(f.metadata), f.metadata["meaning"])
            rows.append(row)
    if args.json:
        for name, value, allowed, meaning in rows:
            show.emit_json(
                {"field": name, "default": value, "allowed": allowed, "meaning": meaning}
            )
    else:
        show.table("Fields of --set", ["field", ">default", "allowed", "meaning"], rows)
    return 0
