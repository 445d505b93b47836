"""How `minids bench start` is prepared and drawn: seconds until something happens."""

from __future__ import annotations

from typing import Any

from minids_cli import show


def prepare(plan):
    """What will be measured, once everything is checked."""

    def measure() -> dict[str, Any]:
        from minids.bench.start import bench

        return bench(plan)

    return measure


def draw(report: dict[str, Any], note: str) -> None:
    """Every wait with its spread and what was promised."""
    rows = [
        (
            case["case"],
            f"{case['seconds']['median']:.2f}",
            f"{case['seconds']['low']:.2f} – {case['seconds']['high']:.2f}",
            f"{case['target']:.1f}" if case["target"] else "",
        )
        for case in report["cases"]
    ]
    show.table("bench start", ["", ">seconds", ">lowest – highest", ">target"], rows, note=note)
