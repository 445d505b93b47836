"""Take one mechanism out and train again, over seeds: a card with the sentence the data supports.

Each arm and seed is a run folder inside the new folder; called again with the same --out it goes
on where it was. Five questions: mla, moe, mtp, fp8, balance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from minids.config import coerce
from minids.errors import UserError
from minids_cli import options, show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids ablate`."""
    from minids.ablate.questions import QUESTIONS

    parser.add_argument(
        "question", metavar="QUESTION", choices=sorted(QUESTIONS), help=", ".join(sorted(QUESTIONS))
    )
    options.config_flags(parser)
    parser.add_argument("--seeds", metavar="N", default="3", help="1 … 10 (default: 3)")
    parser.add_argument(
        "--steps", metavar="N", default="120", help="of each run (default: 120, a minute of tiny)"
    )
    parser.add_argument("--out", metavar="DIR", help="default: runs/ablate-QUESTION")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, train nothing")


def run(args: argparse.Namespace) -> int:
    """Check, train what is missing, write the card."""
    from minids.ablate.questions import plan

    seeds, steps = coerce("--seeds", args.seeds, int), coerce("--steps", args.steps, int)
    if args.tiny and args.config not in (None, "tiny"):
        raise UserError("--tiny", f"given together with --config {args.config}", "one of them")
    changes = [f"train.max_steps={steps}", *options.overrides(args)]
    runs = plan(args.question, args.config or "tiny", changes, seeds)
    out = Path(args.out) if args.out else Path("runs") / f"ablate-{args.question}"
    if args.dry_run:
        rows = [(arm, cfg.train.seed, cfg.train.max_steps) for arm, cfg in runs]
        if args.json:
            show.emit_json([{"arm": a, "seed": s, "steps": n} for a, s, n in rows])
        else:
            show.table("What would run", ["arm", ">seed", ">steps"], rows)
        return 0
    if out.exists() and not out.is_dir():
        raise UserError("--out", f"{out} is a file", "a folder")
    from minids.ablate.card import card, write
    from minids.ablate.runs import Interrupted, machine_words, train_all

    tell = (lambda text: show.emit_json({"event": "said", "text": text})) if args.json else say
    try:
        records = train_all(runs, out, tell)
    except Interrupted as stopped:
        tell("stopped and saved; the same command goes on")
        return stopped.code
    found = card(args.question, runs[0][1], records, machine_words())
    path = write(found, out)
    if args.json:
        show.emit_json({"event": "finished", "card": str(path)} | found)
        return 0
    rows = [
        (r["arm"], f"{r['bpb']:.4f}", f"{r['apart']['mean']:+.2%}" if "apart" in r else "")
        for r in found["rows"]
    ]
    show.table(found["claim"], ["arm", ">bits/byte", ">against the first"], rows, note=str(path))
    for said in found["says"]:
        say(said)
    return 0


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)
