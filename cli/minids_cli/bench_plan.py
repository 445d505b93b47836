"""How `minids bench plan` is prepared and drawn: predicted beside measured."""

from __future__ import annotations

from typing import Any

from minids_cli import show


def prepare(plan):
    """What will be measured, once everything is checked."""

    def measure() -> dict[str, Any]:
        from minids.bench.plan import bench

        return bench(plan)

    return measure


def draw(report: dict[str, Any], note: str) -> None:
    """Step time and peak memory, each with its error."""
    columns = ["case", ">s a step", ">predicted", ">error", ">peak", ">predicted", ">error", ">MFU"]
    rows = [
        (
            case["case"],
            f"{case['seconds']:.3f}",
            f"{case['seconds_predicted']:.3f}",
            f"{case['seconds_error']:+.1%}",
            show.n_bytes(case["peak_bytes"]),
            show.n_bytes(case["peak_bytes_predicted"]),
            f"{case['peak_error']:+.1%}",
            f"{case['mfu']:.0%}",
        )
        for case in report["cases"]
    ]
    worst = report["worst"]
    note += (
        f"\nworst: time {worst['seconds_error']:.1%}, memory of the process "
        f"{worst['peak_error']:.1%}, of the training alone {worst['own_bytes_error']:.1%}; "
        "MFU of the probed rate, optimizer included"
    )
    show.table("bench plan", columns, rows, note=note)
