"""`minids bench fp8-train`: its flags checked, its report as a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids_cli import show
from minids_cli.bench_fp8 import DEVICES


def prepare(
    args: argparse.Namespace, plan: Any, receipt: Path | None
) -> Callable[[], dict[str, Any]]:
    """What will be done, once everything is checked. `--repeats` counts seeds.

    On a CPU as many runs side by side as threads allow; each finished one is kept beside the
    receipt, where the same command finds it after an interruption.
    """
    from minids import config

    if args.against not in (None, "none"):
        raise UserError("--against", "given with bench fp8-train", "nothing, none")
    if args.device not in (None, *DEVICES):
        raise UserError("--device", f"{args.device!r} is unknown", ", ".join(DEVICES))
    config.load(args.config or "tiny", args.set)
    cores = plan.threads
    if args.threads is None:
        plan = plan._replace(threads=1)

    def measure() -> dict[str, Any]:
        import torch

        from minids.bench import fp8_train

        if args.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device", "torch sees no cuda device", "cpu")
        on_gpu = args.device != "cpu" and torch.cuda.is_available()
        kept = receipt.with_name(receipt.name + ".part") if receipt else None
        jobs = 1 if on_gpu else max(1, cores // plan.threads)
        report = fp8_train.bench(plan, args.device, args.config, args.set, kept=kept, jobs=jobs)
        if kept:
            kept.unlink(missing_ok=True)
        return report

    return measure


def draw(report: dict[str, Any], note: str) -> None:
    """Held-out loss of each way, and how far from bfloat16's."""
    rows = [
        [
            c["case"],
            f"{c['held_out']['median']:.4f}",
            "" if c["case"] == "bfloat16" else percent(c["held_out_apart"]),
            "" if c["case"] == "bfloat16" else percent(c["end_apart"]),
        ]
        for c in report["cases"]
    ]
    columns = ["way", ">held out, nats", ">from bfloat16", ">training, last quarter"]
    title = f"bench fp8-train: {report['preset']}, {report['steps']} steps"
    runs = f"{report['repeats']} seeds: median (low … high); the report's claim: "
    show.table(title, columns, rows, note=f"{runs}below {report['claim']:.2%}; {note}")


def percent(apart: dict[str, Any]) -> str:
    """Relative difference, median and ends over seeds."""
    return f"{apart['median']:+.2%} ({apart['low']:+.2%} … {apart['high']:+.2%})"
