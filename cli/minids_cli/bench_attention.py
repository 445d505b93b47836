"""`minids bench attention`: its flags checked, its report as tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from minids.errors import UserError
from minids_cli import show

DEVICES = ("cpu", "cuda")


def prepare(args: argparse.Namespace, plan: Any) -> Callable[[], dict[str, Any]]:
    """What will be done, once everything is checked."""
    from minids import config

    if args.against not in (None, "none"):
        raise UserError("--against", "given with bench attention", "nothing, none")
    if args.device not in (None, *DEVICES):
        raise UserError("--device", f"{args.device!r} is unknown", ", ".join(DEVICES))
    if args.config is not None:
        config.load(args.config, args.set)
    elif args.set:
        raise UserError("--set", "is given without --config", "a preset to change")

    def measure() -> dict[str, Any]:
        from minids.bench import attention

        return attention.bench(plan, args.device, args.config, args.set)

    return measure


def draw(report: dict[str, Any], note: str) -> None:
    """One table per phase, then the crossings."""
    where = report["gpu"] or "CPU"
    note = f"{report['preset']}, {report['dtype']}, one layer, {where}; {note}"
    for phase in ("decode", "prefill"):
        cases = [case for case in report["cases"] if case["phase"] == phase]
        if not cases:
            continue
        columns = ["tokens", ">kept", *(f">{case['t']:,}" for case in cases)]
        ways = cases[0]["ways"]
        rows = [
            [
                way,
                f"{ways[way]['cache_elements_per_token']:,}",
                *(cell(c["ways"][way]) for c in cases),
            ]
            for way in ways
        ]
        several = cases[0]["sequences"]
        title = f"bench attention, {phase}" + (f", {several} sequences" if several > 1 else "")
        title += ": milliseconds · bytes moved"
        show.table(title, columns, rows, note=note)
    for found in report["crossings"]:
        at = found["measured"]
        measured = f"measured {at:,.0f}" if at else f"not met up to {found['queries'][-1]:,}"
        print(
            f"{found['t']:,} tokens behind: absorbed pays up to {found['counted']:,.0f} queries by "
            f"FLOPs, {measured} by the clock"
        )


def cell(way: dict[str, Any]) -> str:
    """Milliseconds, and the bytes that had to be moved."""
    if way["ms"] is None:
        return "too large"
    return f"{way['ms']['median']:,.4g} · {show.n_bytes(way['moved_bytes'])}"
