"""DeepSeek-R1's road in small, from nothing: what each stage buys, on two CPU cores.

minids r1 --tiny                    two CPU cores, about twenty minutes
minids r1 --config gpu --dry-run    the stages of the larger road: one GPU, about an hour
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
    parser.add_argument("--config", metavar="C", help="tiny | gpu: one GPU, about an hour")
    parser.add_argument(
        "--task", metavar="T", help="tasks with levels (default: addition:3; gpu: five tasks)"
    )
    parser.add_argument("--dry-run", action="store_true", help="the stages, and stop")
    parser.add_argument("--seed", metavar="N", default="1", help="of everything (default: 1)")
    parser.add_argument(
        "--stages", metavar="N", help="only the first N stages (2: base and R1-Zero)"
    )
    parser.add_argument("--threads", metavar="N", help="CPU threads (default: measured)")
    parser.add_argument("--out", metavar="DIR", default="runs/r1", help="default: runs/r1")


def run(args: argparse.Namespace) -> int:
    """Check, follow the road, report."""
    from minids.reason.settings import parse_tasks

    if args.tiny == (args.config is not None):
        raise UserError("r1", "needs one size", "--tiny, or --config tiny | gpu")
    if args.task is not None:
        parse_tasks(args.task)
    seed = coerce("--seed", args.seed, int)
    if not 0 <= seed < 1 << 31:
        raise UserError("--seed", f"{seed} is out of range", f"0 … {(1 << 31) - 1:,}")
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or foreign(out)):
        raise UserError("--out", f"{out} holds something else", "a new folder, or one of minids r1")
    from minids.reason.recipe import Interrupted, follow
    from minids.reason.roads import road_of

    road = road_of(args.config or "tiny", args.task)._replace(seed=seed)
    if args.threads is not None:
        train = dataclasses.replace(road.train, threads=coerce("--threads", args.threads, int))
        road = road._replace(train=train)
    if args.stages is not None:
        n = coerce("--stages", args.stages, int)
        if not 1 <= n <= len(road.stages):
            raise UserError("--stages", f"{n} is out of range", f"1 … {len(road.stages)}")
        road = road._replace(stages=road.stages[:n])
    if args.dry_run:
        return planned(args, road)
    tell = (lambda text: show.emit_json({"event": "said", "text": text})) if args.json else say
    try:
        results = follow(road, out, tell)
    except Interrupted as stopped:
        tell(f"stopped in {stopped.stage}, saved; the same command goes on")
        return stopped.code
    return report(args, road, out, results)


def report(args: argparse.Namespace, road: Any, out: Path, results: list[Any]) -> int:
    """Write the report, show its table."""
    from minids import history, road_report

    machine = history.machine_words(out / road.stages[0].name)
    source = f"minids r1 · {road.task} · {machine} · seed {road.seed}"
    title = f"minids r1 --config {args.config or 'tiny'}: {road.task}, seed {road.seed}"
    path, rows = road_report.write(
        out, title, road.stages, results, source=source, rate=rate_of(road)
    )
    if args.json:
        stages = [dict(zip(road_report.HEAD, road_report.cells(r), strict=True)) for r in rows]
        show.emit_json({"event": "finished", "report": str(path), "stages": stages})
        return 0
    show.table(
        f"What each stage bought: {road.task}, seed {road.seed}",
        ["stage", *(f">{name}" for name in road_report.HEAD[2:])],
        [[c[0], *c[2:]] for c in map(road_report.cells, rows)],
        note=f"report: {path}",
    )
    return 0


def rate_of(road: Any) -> Any:
    """What an hour costs: a core by assumption, a GPU as the H100 of the cost model."""
    from minids.count import cores, hardware

    on_gpu = road.train.device == "cuda"
    return cores.rate_of(hardware.find("h100")) if on_gpu else cores.CORE


def planned(args: argparse.Namespace, road: Any) -> int:
    """What would be done, without doing it."""
    from minids.count.params import main_weights

    def size(cfg: Any) -> str:
        return show.count(sum(w.count for w in main_weights(cfg)))

    rows = [
        [
            s.name, s.kind, s.start or "nothing", s.source or "–",
            f"{s.examples:,}", f"{s.steps:,}", f"{s.minutes:g}",
        ]
        for s in road.stages
    ]  # fmt: skip
    head = ["stage", "kind", "from", "learns from", "examples", "steps", "minutes"]
    if args.json:
        show.emit_json(
            {"event": "planned", "task": road.task, "stages": [s._asdict() for s in road.stages]}
        )
        return 0
    note = (
        f"{road.task}: {size(road.model)} parameters, student {size(road.student)}, "
        f"{road.rl.prompts} × {road.rl.group} completions a sampling, device {road.train.device}"
    )
    show.table("The road", [head[0], *head[1:4], *(f">{h}" for h in head[4:])], rows, note=note)
    return 0


def foreign(out: Path) -> bool:
    """Whether a folder holds files that no road made."""
    known = ("result.json", "report.md", "figures")
    return any(p.name not in known and not p.name[:2].rstrip("-").isdigit() for p in out.iterdir())


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)
