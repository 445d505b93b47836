"""Train a model, live on screen: `minids train --tiny` takes about two minutes on two CPU cores."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from minids import config
from minids.errors import UserError
from minids_cli import options, ranks, show

SAMPLE_TOKENS = 80  # four lines of the screen


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids train`."""
    options.config_flags(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="a new folder (default: runs/NAME-001, -002, …)"
    )
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    parser.add_argument("--minutes", metavar="M", help="stop and decay by the clock")
    parser.add_argument(
        "--inject", metavar="FAULTS", default="", help="faults on purpose, e.g. nan-grad@7"
    )
    parser.add_argument(
        "--allow-change", action="store_true", help="resume with another config or data"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check, print the plan, write nothing"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live screen")


def run(args: argparse.Namespace) -> int:
    """Validate without torch, then train and report."""
    if ranks.launched():
        return run_rank(args)
    out, cfg = decide(args)
    if args.dry_run:
        return dry_run(args, cfg, out)
    from minids.report import write_report
    from minids.train.loop import Hooks, train
    from minids_cli.watch import watcher_for

    watcher = watcher_for(args)
    hooks = Hooks(on_event=watcher, evaluate=quick_evaluation, sample=short_sample)
    try:
        done = train(
            cfg,
            out=out,
            resume=args.resume is not None,
            inject=args.inject,
            allow_change=args.allow_change,
            hooks=hooks,
        )
    finally:
        watcher.close()
    if done.interrupted:
        watcher.interrupted(done)
        return done.interrupted
    watcher.finished(done, write_report(done.folder))
    return 0


def run_rank(args: argparse.Namespace) -> int:
    """The same as one of several ranks: the first shows and reports."""
    place = ranks.settled(args)
    out, cfg = decide(args)
    cfg = ranks.spread(args, cfg)
    if args.dry_run:
        return 0 if place.rank else dry_run(args, cfg, out)
    from minids.train.loop import Hooks

    if place.rank:
        done = ranks.train(args, cfg, out, place, Hooks())
        return done.interrupted
    from minids.report import write_report
    from minids_cli.watch import watcher_for

    watcher = watcher_for(args)
    hooks = Hooks(on_event=watcher, evaluate=quick_evaluation, sample=short_sample)
    try:
        done = ranks.train(args, cfg, out, place, hooks)
    finally:
        watcher.close()
    if done.interrupted:
        watcher.interrupted(done)
        return done.interrupted
    watcher.finished(done, write_report(done.folder))
    return 0


def decide(args: argparse.Namespace) -> tuple[Path, config.RunConfig]:
    """Where the run lives and what it is; all that can be wrong without torch is found here."""
    from minids.train import faults, folder

    faults.parse(args.inject)
    if args.resume is not None:
        run = Path(args.resume)
        if not run.is_dir():
            raise UserError("--resume", f"{args.resume!r} is no folder", "a run folder", code=4)
        if not (run / "config.toml").is_file():
            raise UserError("--resume", f"{run} holds no config.toml", "a run folder", code=4)
        if args.out is not None:
            raise UserError("--out", "given together with --resume", "one of them")
        source = (
            str(run / "config.toml") if not (args.config or args.tiny) else args.config or "tiny"
        )
        return run, with_minutes(config.load(source, options.overrides(args)), args)
    cfg = with_minutes(options.resolve(args), args)
    if cfg.model.attention == "csa":
        raise UserError("model.attention", "csa (DeepSeek-V4) is counted, not built", "mla, gqa")
    if args.out is not None and not args.out.strip():
        raise UserError("--out", "is empty", "a new or empty folder")
    out = Path(args.out) if args.out is not None else folder.next_folder(Path("runs"), cfg.name)
    folder.check_new(out)
    return out, cfg


def with_minutes(cfg: config.RunConfig, args: argparse.Namespace) -> config.RunConfig:
    """--minutes in the words of the config."""
    if args.minutes is None:
        return cfg
    tables = config.to_dict(cfg)
    tables["train"]["max_minutes"] = args.minutes
    return config.build(tables, cfg.name)


def dry_run(args: argparse.Namespace, cfg: config.RunConfig, out: Path) -> int:
    """What would happen, in numbers."""
    from minids.data.load import open_data
    from minids.train import checkpoint, loop, memory
    from minids.train.probe import Machine, choose, devices

    layout = ranks.planned(cfg)
    if not layout:
        loop.check_memory(cfg)
    far = cfg.data.name.startswith("hf:")  # not read over the network for a plan
    data = None if far else open_data(cfg, out if args.resume else None)
    shaped = data.cfg if data else cfg
    wanted, precision = cfg.train.device, cfg.train.precision
    if devices().get(wanted, True):
        machine = choose(cfg.train)
    else:
        machine = Machine(f"{wanted} (not here)", precision, cfg.train.threads, 1, "")
    tokens = cfg.train.batch_size * cfg.train.grad_accum * cfg.data.context
    plan = {
        "folder": str(out),
        "config": cfg.name,
        "parameters": memory.parameters(shaped),
        "memory_bytes": memory.needed_bytes(shaped),
        "checkpoint_bytes": memory.checkpoint_bytes(shaped),
        "steps": cfg.train.max_steps if not cfg.train.max_minutes else None,
        "minutes": cfg.train.max_minutes or None,
        "tokens_per_step": tokens,
        "tokens": tokens * cfg.train.max_steps if not cfg.train.max_minutes else None,
        "data": data.name if data else f"{cfg.data.name} (not read)",
        "device": machine.device,
        "precision": machine.precision,
        "threads": machine.threads,
        "workers": machine.workers,
    } | layout
    if args.resume is not None:
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        plan |= {"resume_from": found.folder.name, "warnings": warnings}
    if args.json:
        show.emit_json(plan)
        return 0
    rows = [
        (name, f"{value:,}" if isinstance(value, int) else value) for name, value in plan.items()
    ]
    show.table("What would run (nothing was written)", ["", "value"], rows)
    return 0


def quick_evaluation(model, data) -> dict[str, float]:
    """Held-out loss during training."""
    from minids.evaluate import quick_eval

    return quick_eval(model, data)


def short_sample(model, data) -> str:
    """A short text, always from the same seed, so that only the model changes."""
    from minids.generate.engine import Engine
    from minids.generate.settings import Sampling

    engine = Engine(model, data.tokenizer)
    room = min(SAMPLE_TOKENS, model.cfg.max_position_embeddings - 1)
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=7)
    done = engine.complete([[data.tokenizer.bos]], sampling, max_new_tokens=room)
    cut = "" if done[0].stop == "eos" else " …"
    return show.printable(done[0].text) + cut


def nats_to_bpb(loss: float, bytes_per_token: float) -> float:
    """Nats per token → bits per byte."""
    return loss / math.log(2) / bytes_per_token
