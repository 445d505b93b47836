"""DeepSeek-R1's road in small, from nothing: what each stage buys, on two CPU cores.

base → R1-Zero (reward alone) → cold start → RL → rejection sampling and SFT → RL → a student.
Each stage is a run folder inside the new folder; called again with the same --out it goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from minids.config import coerce
from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids r1`."""
    parser.add_argument("--tiny", action="store_true", help="a million parameters, two CPU cores")
    parser.add_argument(
        "--task", metavar="T", default="addition:3", help="tasks with levels (default: addition:3)"
    )
    parser.add_argument("--seed", metavar="N", default="1", help="of everything (default: 1)")
    parser.add_argument(
        "--stages", metavar="N", help="only the first N stages (2: base and R1-Zero)"
    )
    parser.add_argument("--threads", metavar="N", help="CPU threads (default: measured)")
    parser.add_argument("--out", metavar="DIR", default="runs/r1", help="default: runs/r1")


def run(args: argparse.Namespace) -> int:
    """Check, follow the road, report."""
    from minids.reason.settings import parse_tasks

    if not args.tiny:
        raise UserError("r1", "has one size so far", "--tiny")
    parse_tasks(args.task)
    seed = coerce("--seed", args.seed, int)
    if not 0 <= seed < 1 << 31:
        raise UserError("--seed", f"{seed} is out of range", f"0 … {(1 << 31) - 1:,}")
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or foreign(out)):
        raise UserError("--out", f"{out} holds something else", "a new folder, or one of minids r1")
    from minids.reason.recipe import Interrupted, follow, tiny

    road = tiny(args.task)._replace(seed=seed)
    if args.threads is not None:
        train = dataclasses.replace(road.train, threads=coerce("--threads", args.threads, int))
        road = road._replace(train=train)
    if args.stages is not None:
        n = coerce("--stages", args.stages, int)
        if not 1 <= n <= len(road.stages):
            raise UserError("--stages", f"{n} is out of range", f"1 … {len(road.stages)}")
        road = road._replace(stages=road.stages[:n])
    tell = (lambda text: show.emit_json({"event": "said", "text": text})) if args.json else say
    try:
        results = follow(road, out, tell)
    except Interrupted as stopped:
        tell(f"stopped in {stopped.stage}, saved; the same command goes on")
        return stopped.code
    rows = [described(r) for r in results]
    text = report(args.task, seed, rows, results)
    (out / "report.md").write_text(text, encoding="utf-8")
    if args.json:
        show.emit_json({"event": "finished", "report": str(out / "report.md"), "stages": rows})
        return 0
    show.table(
        f"What each stage bought: {args.task}, seed {seed}",
        ["stage", ">held out", ">95 % interval", ">longer", ">tokens", ">seconds"],
        [list(r.values())[:6] for r in rows],
        note=f"report: {out / 'report.md'}",
    )
    return 0


def foreign(out: Path) -> bool:
    """Whether a folder holds files that no road made."""
    known = ("result.json", "report.md")
    return any(p.name not in known and not p.name[:2].rstrip("-").isdigit() for p in out.iterdir())


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def described(result: Any) -> dict[str, Any]:
    """One row of the table."""
    from minids.evaluate import wilson

    found, longer = wilson(result.hits, result.n), wilson(result.longer_hits, result.longer_n)
    return {
        "stage": result.stage,
        "right": f"{found.value:.1%}",
        "interval": f"{found.low:.1%} – {found.high:.1%}",
        "longer": f"{longer.value:.1%}",
        "tokens": f"{result.tokens:.0f}",
        "seconds": f"{result.seconds:.0f}",
        "parameters": show.count(result.parameters),
    }


def report(task: str, seed: int, rows: list[dict[str, Any]], results: list[Any]) -> str:
    """The story as Markdown."""
    names = ("stage", "right", "interval", "longer", "tokens", "seconds", "parameters")
    lines = [
        f"# minids r1 --tiny: {task}, seed {seed}",
        "",
        f"One completion of each of {results[0].n} problems that no stage trained on, at "
        "temperature 0.6; 95 % intervals by Wilson. *longer*: problems one level above training.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(r[n] for n in names) + " |" for r in rows),
        "",
        "The base's text holds worked solutions, one document in ten. Reward chooses that habit "
        "and makes it reliable; it does not invent it. What is shown is the selection of a "
        "behaviour by reward, on one narrow task, with a verifier that cannot be argued with.",
    ]
    for result in results:
        lines += ["", f"## {result.stage}", ""]
        lines += [f"- `{p}` → `{show.printable(t)}` ({v})" for p, t, v in result.samples]
    return "\n".join(lines) + "\n"
