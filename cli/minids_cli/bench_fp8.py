"""`minids bench fp8`: its flags checked, its report as tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from minids.errors import UserError
from minids_cli import show

DEVICES = ("cpu", "cuda")


def prepare(args: argparse.Namespace, plan: Any) -> Callable[[], dict[str, Any]]:
    """What will be done, once everything is checked."""
    if args.against not in (None, "none"):
        raise UserError("--against", "given with bench fp8", "nothing, none")
    if args.device not in (None, *DEVICES):
        raise UserError("--device", f"{args.device!r} is unknown", ", ".join(DEVICES))

    def measure() -> dict[str, Any]:
        import torch

        from minids.bench import fp8

        if args.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device", "torch sees no cuda device", "cpu")
        return fp8.bench(plan, args.device)

    return measure


def draw(report: dict[str, Any], note: str) -> None:
    """Products, then what memory decides; on a CPU errors alone."""
    if report["device"] == "cpu":
        rows = [
            [c["case"], f"{c['error']['of_sum']:.1e}", f"{c['error']['of_quantizing']:.2%}"]
            for c in report["cases"]
        ]
        columns = ["product", ">error of the sum", ">of quantising"]
        show.table("bench fp8: accuracy, simulated (no GPU, so no speed)", columns, rows, note=note)
        return
    tops = report["ceilings"]
    print(
        f"{report['gpu']['name']}: copies {tops['copy_gb_per_s']:,.0f} GB/s, products "
        f"{tops['bf16_tflops']:,.0f} TFLOP/s in bfloat16, {tops['fp8_tflops']:,.0f} in FP8"
    )
    products = [c for c in report["cases"] if c["unit"] == "TFLOP/s"]
    names = list(dict.fromkeys(name for case in products for name in case["ways"]))
    rows = [
        [
            case["case"],
            *(rate(case["ways"].get(name, {}), "tflops") for name in names),
            share(case["share"]),
            f"{case['times_bf16']:.2f}" if case.get("times_bf16") else "",
            f"{case['error']['of_sum']:.1e}" if "error" in case else "",
        ]
        for case in products
    ]
    columns = ["TFLOP/s", *(f">{n}" for n in names), ">of ceiling", ">× bf16", ">error"]
    show.table("bench fp8: products", columns, rows, note=note)
    rows = [
        [case["case"], rate(case["ways"]["ours"], "gb_per_s"), share(case["share"])]
        for case in report["cases"]
        if case["unit"] == "GB/s"
    ]
    show.table("bench fp8: memory", ["GB/s", ">ours", ">of a copy"], rows, note=note)


def rate(way: dict[str, Any], unit: str) -> str:
    """A rate with its lowest and highest, or a dash."""
    if not way.get("us"):
        return "–"
    us = way["us"]
    low, high = (way[unit] * us["median"] / us[end] for end in ("high", "low"))
    return f"{way[unit]:,.0f} ({low:,.0f} – {high:,.0f})"


def share(value: float | None) -> str:
    """Of the ceiling."""
    return f"{value:.0%}" if value else "–"
