"""Tune a run on questions and answers; only what the assistant says is learned.

minids sft base-001 --data pairs.jsonl           lines with prompt and completion, or messages
minids sft base-001 --task addition:3            reference solutions of a task: a cold start
minids sft --base --task addition:3              from nothing: text that is seldom right
minids sft --resume runs/sft-001
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
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids sft`."""
    parser.add_argument("run_folder", metavar="RUN", nargs="?", help="the run folder to start from")
    parser.add_argument("--data", metavar="FILE", help="JSON lines: prompt, completion | messages")
    parser.add_argument("--task", metavar="T", help="addition:3,sort:2 …: tasks with levels 1 … 9")
    parser.add_argument("--examples", metavar="N", help="made of a task (default: 4000; 80000)")
    parser.add_argument("--base", action="store_true", help="a base: mixed text, from nothing")
    parser.add_argument("--config", metavar="C", help="preset or TOML file of a base (r1-tiny)")
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="a field of train or data"
    )
    parser.add_argument("--out", metavar="DIR", help="a new folder (default: runs/sft-001, …)")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    parser.add_argument("--minutes", metavar="M", help="stop and decay by the clock")
    parser.add_argument(
        "--inject", metavar="FAULTS", default="", help="faults on purpose, e.g. nan-grad@7"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live screen")


def run(args: argparse.Namespace) -> int:
    """Check without torch, make the examples, tune."""
    from minids.runs import find_run
    from minids.train import faults, folder

    faults.parse(args.inject)
    if args.resume is not None:
        out, plan = resumed(args)
        cfg = with_changes(config.load(str(out / "config.toml")), args)
        source = None
    else:
        plan = planned(args)
        source = None if plan["base"] else find_run(args.run_folder)
        name = args.config or "r1-tiny" if source is None else str(source / "config.toml")
        cfg = with_changes(tuning(config.load(name), source is not None), args)
        kind = "base" if plan["base"] else "sft"
        out = Path(args.out) if args.out else folder.next_folder(Path("runs"), kind)
        folder.check_new(out)
    return learn(args, out, plan, cfg, source)


def learn(args: argparse.Namespace, out: Path, plan: dict[str, Any], cfg, source) -> int:
    """Everything that needs torch."""
    from minids.data.tokenizer import Tokenizer
    from minids.reason.examples import made
    from minids.reason.packed import open_examples
    from minids.reason.sft import tune, watch
    from minids.runs import open_run
    from minids.train.trainer import Hooks
    from minids_cli.sft_watch import watcher_for

    weights, resuming = None, args.resume is not None
    if resuming:
        tokenizer = Tokenizer.load(out / "tokenizer")
    elif source is not None:
        trained = open_run(source)
        tokenizer, weights = trained.tokenizer, trained.model.state_dict()
    else:
        tokenizer = Tokenizer.shipped("tales")
        model = dataclasses.replace(cfg.model, vocab_size=tokenizer.vocab_size)
        cfg = dataclasses.replace(cfg, model=model)
    examples = made(tokenizer, plan)
    data = open_examples(cfg, tokenizer, examples, name=plan["data"] or plan["task"])
    if data.dropped:
        show.warn(f"{data.dropped:,} examples are longer than data.context = {cfg.data.context}")
    watcher = watcher_for(args)
    try:
        done = tune(
            cfg,
            data,
            out=out,
            weights=weights,
            about={"sft": plan, "from": str(source) if source else None},
            resume=resuming,
            inject=args.inject,
            hooks=Hooks(on_event=watcher, evaluate=watch),
        )
    finally:
        watcher.close()
    return done.interrupted


def planned(args: argparse.Namespace) -> dict[str, Any]:
    """Which examples: everything that makes them again."""
    if args.base == (args.run_folder is not None):
        what = "given together with --base" if args.base else "is missing"
        raise UserError("RUN", what, "a run folder, or --base to begin from nothing")
    if (args.data is None) == (args.task is None):
        raise UserError("--data", "and --task are both given or both missing", "one of them")
    if args.data is not None and not Path(args.data).is_file():
        raise UserError("--data", f"{args.data!r} is no file", "a file of JSON lines")
    if args.base and args.data:
        raise UserError("--base", "makes its own text", "--task")
    if args.task is not None:
        from minids.reason.settings import parse_tasks

        parse_tasks(args.task)
    default = 80_000 if args.base else 4_000
    n = coerce("--examples", args.examples, int) if args.examples is not None else default
    if not 10 <= n <= 10_000_000:
        raise UserError("--examples", f"{n} is out of range", "10 … 10,000,000")
    return {"data": args.data, "task": args.task, "examples": n, "base": args.base, "seed": 1}


def resumed(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder to go on in and the examples it was begun with."""
    for name in ("run_folder", "out", "data", "task", "examples", "config"):
        if getattr(args, name) is not None:
            flag = "RUN" if name == "run_folder" else f"--{name}"
            raise UserError(flag, "given together with --resume", "one of them")
    out = Path(args.resume)
    try:
        return out, json.loads((out / "run.json").read_text(encoding="utf-8"))["sft"]
    except (OSError, ValueError, KeyError, TypeError):
        what = f"{args.resume!r} is no folder of an SFT run"
        raise UserError("--resume", what, "a folder that minids sft made", code=4) from None


def tuning(cfg: config.RunConfig, goes_on: bool) -> config.RunConfig:
    """A base's config for a second training: gentler, shorter, other data."""
    tables = config.to_dict(cfg)
    tables["data"] |= {"name": "text", "path": "examples"}
    if goes_on:
        context = min(cfg.model.max_position_embeddings, max(cfg.data.context, 128))
        tables["data"]["context"] = context
        tables["train"] |= {"lr": cfg.train.lr / 5, "muon_lr": cfg.train.muon_lr / 5}
        tables["train"] |= {"max_steps": 100, "warmup_steps": 5, "eval_every": 50}
    tables["train"]["workers"] = 1
    return config.build(tables, tables["name"])


def with_changes(cfg: config.RunConfig, args: argparse.Namespace) -> config.RunConfig:
    """--set and --minutes."""
    tables = config.to_dict(cfg)
    for text in args.set:
        section, name, value = config.split_override(text)
        if section not in ("train", "data"):
            raise UserError(
                f"{section}.{name}", "is not changed by tuning", "fields of train, data"
            )
        tables[section][name] = value
    if args.minutes is not None:
        tables["train"]["max_minutes"] = args.minutes
    return config.build(tables, tables["name"])
