"""Measure speed side by side: minids and a peer take turns on this machine, in fresh processes.

train      a training step of a small DeepSeek-V3    against transformers
moe        one expert layer, forward and backward    against transformers
decode     tokens with a cache, batch 1 and 16       against transformers' generate
fp8        FP8 kernels, speed on a GPU, else errors  against cuBLAS and torch's scaled matmul
fp8-train  losses of models trained in FP8           against bfloat16, over seeds (--repeats)
rl         sampling groups with log-probabilities    against transformers' generate
attention  MHA, GQA, MQA, MLA expanded and absorbed  against each other; also on a GPU
plan       step time and peak memory                 against what minids plan predicts
start      seconds to help, imports, a first step    against their targets
quality    seconds until a loss on a text (--data)   against a nanoGPT checkout (--against PATH)
all        train, moe and decode

A figure above 1 in the ratio column: minids is faster. The ceiling is what the ratio could be if
the matrix products alone filled the time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids_cli import (
    bench_attention,
    bench_fp8,
    bench_fp8_train,
    bench_plan,
    bench_rl,
    bench_start,
    show,
)

SPEED = ("train", "moe", "decode")
WHAT = (*SPEED, "attention", "fp8", "fp8-train", "plan", "quality", "rl", "start", "all")
ON_DEVICES = ("attention", "fp8", "fp8-train")
CONFIGURED = ("attention", "fp8-train", "quality")


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids bench`."""
    parser.add_argument("what", metavar="WHAT", choices=WHAT, help=" · ".join(WHAT))
    parser.add_argument(
        "--against",
        metavar="PEER",
        help="transformers or none; for quality the path of a nanoGPT checkout "
        "(default: transformers where it is installed)",
    )
    parser.add_argument(
        "--repeats", metavar="N", default="3", help="turns of each arm, 1 … 99 (default: 3)"
    )
    parser.add_argument("--threads", metavar="N", help="of both arms (default: all cores)")
    parser.add_argument(
        "--seconds", metavar="S", default="3", help="counted work per turn, 0.05 … 600 (default: 3)"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains this")
    parser.add_argument(
        "--peer-settings",
        metavar="TEXT",
        default="",
        help="ways of transformers whose name contains this (default: the best of all is found)",
    )
    parser.add_argument(
        "--receipt", metavar="FILE", help="also write the whole result to FILE, as JSON"
    )
    group = parser.add_argument_group("quality, attention, fp8-train")
    group.add_argument(
        "--config",
        metavar="C",
        help="preset or TOML file (default: shakespeare-char; for attention deepseek-v2-lite, "
        "deepseek-v3 on a GPU; for fp8-train a short run of tiny)",
    )
    group.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="change a field of it"
    )
    group = parser.add_argument_group("attention, fp8, fp8-train")
    group.add_argument("--device", metavar="D", help="cpu or cuda (default: cuda if there is one)")
    group = parser.add_argument_group("quality")
    group.add_argument("--data", metavar="FILE", help="a text file; its last tenth is held out")
    group.add_argument(
        "--budgets",
        metavar="S,S",
        help="seconds of training, one run each (default: 1/8, 1/2, all of the peer's; alone: 60)",
    )
    group.add_argument(
        "--iterations", metavar="N", default="2000", help="of nanoGPT (default: 2000)"
    )


def run(args: argparse.Namespace) -> int:
    """Validate without torch, measure, show."""
    if args.device is not None and args.what not in ON_DEVICES:
        allowed = ", ".join(f"bench {name}" for name in ON_DEVICES)
        raise UserError("--device", f"given with bench {args.what}", allowed)
    measure = quality(args) if args.what == "quality" else speed(args)
    receipt = receipt_path(args.receipt)
    found = measure()
    if receipt:
        receipt.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.json:
        show.emit_json(found)
        return 0
    for report in found.get("reports", [found]):
        draw(report)
    if receipt:
        print(f"receipt: {receipt}")
    return 0


def speed(args: argparse.Namespace):
    """What `bench train|moe|decode|all` will do, once everything is checked."""
    from minids.bench.harness import find_peer

    for flag in ("data", "config", "budgets"):
        allowed = flag == "config" and args.what in CONFIGURED
        if getattr(args, flag) is not None and not allowed:
            raise UserError(f"--{flag}", f"given with bench {args.what}", "bench quality only")
    if args.what == "attention":
        return bench_attention.prepare(args, plan_of(args, None))
    if args.what == "fp8":
        return bench_fp8.prepare(args, plan_of(args, None))
    if args.what == "fp8-train":
        receipt = receipt_path(args.receipt)
        return bench_fp8_train.prepare(args, plan_of(args, None), receipt)
    if args.what == "plan":
        return bench_plan.prepare(plan_of(args, None))
    if args.what == "start":
        return bench_start.prepare(plan_of(args, None))
    peer = find_peer(args.against)
    plan = plan_of(args, peer)

    def measure() -> dict[str, Any]:
        from minids.bench import decode, moe, train

        benches = {
            "train": train.bench,
            "moe": moe.bench,
            "decode": decode.bench,
            "rl": bench_rl.bench,
        }
        names = SPEED if args.what == "all" else (args.what,)
        reports = [benches[name](plan) for name in names]
        return reports[0] if len(reports) == 1 else {"bench": "all", "reports": reports}

    return measure


def quality(args: argparse.Namespace):
    """What `bench quality` will do, once everything is checked."""
    from minids import config

    if args.data is None:
        raise UserError(
            "--data", "is missing", "a text file", hint="minids bench quality --data FILE"
        )
    data = Path(args.data)
    if not data.is_file():
        raise UserError("--data", f"{args.data!r} is no file", "a text file")
    preset = args.config or "shakespeare-char"
    config.load(preset, args.set)
    budgets = tuple(number("--budgets", b, 0.1, 1e6) for b in (args.budgets or "").split(",") if b)
    iterations = int(number("--iterations", args.iterations, 10, 10**6, whole=True))
    checkout = None
    if args.against not in (None, "none"):
        checkout = Path(args.against)
        missing = [n for n in ("train.py", "model.py") if not (checkout / n).is_file()]
        if missing:
            found = "no folder" if not checkout.is_dir() else f"without {missing[0]}"
            raise UserError("--against", f"{checkout} is {found}", "a nanoGPT checkout, none")
    plan = plan_of(args, "nanoGPT" if checkout else None)

    def measure() -> dict[str, Any]:
        from minids.bench import quality

        return quality.bench(
            plan,
            data,
            checkout,
            preset=preset,
            changes=tuple(args.set),
            budgets=budgets,
            iterations=iterations,
        )

    return measure


def plan_of(args: argparse.Namespace, peer: str | None):
    """The flags that all comparisons share."""
    from minids.bench.harness import Plan

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Plan(
        peer=peer,
        threads=int(number("--threads", args.threads or str(cores), 1, 1024, whole=True)),
        repeats=int(number("--repeats", args.repeats, 1, 99, whole=True)),
        seconds=number("--seconds", args.seconds, 0.05, 600),
        only=args.only,
        settings=args.peer_settings,
        tell=tell,
    )


def number(flag: str, text: str, low: float, high: float, *, whole: bool = False) -> float:
    """A flag's value within its range."""
    try:
        value = int(text, 10) if whole else float(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise UserError(flag, f"{text!r} is not {kind}", f"{low:,} … {high:,}") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise UserError(flag, f"{text} is out of range", f"{low:,} … {high:,}")
    return value


def receipt_path(text: str | None) -> Path | None:
    """Where the receipt goes; it must be writable before minutes are spent."""
    if text is None:
        return None
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError("--receipt", f"{text} cannot be written", "a file in a folder that exists")
    if path.exists():
        raise UserError("--receipt", f"{text} exists", "a new file")
    return path


def tell(line: str) -> None:
    """Progress, on stderr: stdout is for the result."""
    print(f"  {line}", file=sys.stderr, flush=True)


# Drawing


def draw(report: dict[str, Any]) -> None:
    """A report as tables."""
    machine, versions = report["machine"], report["versions"]
    note = (
        f"{machine['cpu']}, {machine['cores']} cores, {show.n_bytes(machine['memory_bytes'])}, "
        f"{machine['system']}; torch {versions['torch']}, threads {report['threads']}, "
        f"turns {report['repeats']}, {report['date'][:10]}"
    )
    if report["bench"] == "quality":
        draw_quality(report, note)
        return
    if report["bench"] == "plan":
        bench_plan.draw(report, note)
        return
    if report["bench"] == "start":
        bench_start.draw(report, note)
        return
    if report["bench"] == "fp8":
        bench_fp8.draw(report, note)
        return
    if report["bench"] == "fp8-train":
        bench_fp8_train.draw(report, note)
        return
    if report["bench"] == "attention":
        bench_attention.draw(report, note)
        return
    peer = report["peer"]
    columns = ["case", f">minids {report['cases'][0]['unit']}" if report["cases"] else ">minids"]
    if peer:
        columns += [f">{peer}", ">ratio", ">memory", "their best"]
        note += f"; {peer} {versions[peer]}"
    else:
        note += "; measured alone: transformers is not installed or was not asked for"
    if any("ceiling" in case for case in report["cases"]):
        columns += [">ceiling"]
    rows = [row(case) for case in report["cases"]]
    show.table(f"bench {report['bench']}", columns, rows, note=note)
    for best in report.get("best_dtype", []):
        print(
            f"{best['case']}: best dtype of each, {best['ours']:,.0f} ({best['ours_dtype']}) "
            f"against {best['peer']:,.0f} ({best['peer_dtype']}): {best['ratio']:.2f} times"
        )


def row(case: dict[str, Any]) -> list[str]:
    """One case as a line of the table."""
    cells = [case["case"], rate(case["ours"]["rate"]["median"])]
    if "peer" in case:
        ratio, peer = case["ratio"], case["peer"]
        cells += [
            rate(peer["rate"]["median"]),
            f"{ratio['median']:.2f} ({ratio['low']:.2f} – {ratio['high']:.2f})",
            f"{show.n_bytes(case['ours']['peak_bytes'])}, {case['memory_ratio']:.0%}",
            "/".join(peer["order"]["settings"].values()),
        ]
    if "ceiling" in case:
        top = case["ceiling"]["median"]
        peer = case.get("peer")
        cells.append(f"{top / peer['rate']['median']:.1f}" if peer else rate(top))
    return cells


def rate(value: float) -> str:
    """Units per second."""
    return f"{value:,.0f}"


def draw_quality(report: dict[str, Any], note: str) -> None:
    """Time to quality as a table of its own."""
    summary = report["summary"]
    rows = []
    for p in report["peer_runs"]:
        rows.append(
            [
                f"nanoGPT's recipe, threads {p['threads']}",
                f"{p['seconds']:.1f} s",
                "",
                f"{p['val_loss']:.4f} (its own estimate {p['printed_loss']:.4f})",
            ]
        )
    for entry in summary["loss_after"]:
        share = f"{entry['share_of_peer']:.2f}" if "share_of_peer" in entry else ""
        spread = entry["val_loss"]
        seconds = f"{entry['seconds']['median']:.1f} s"
        rows.append([f"minids, {entry['budget']:.0f} s", seconds, share, f"{spread['median']:.4f}"])
    for name, label in (("peer_loss", "its loss"), ("target", f"{summary['target']}")):
        if f"seconds_to_{name}" not in summary:
            continue
        until, share = summary[f"seconds_to_{name}"], summary.get(f"share_to_{name}")
        rows.append(
            [
                f"minids until {label}",
                f"{until['median']:.1f} s" if until else "not reached",
                f"{share:.2f}" if share else "",
                f"{summary.get(name, summary['target']):.4f}",
            ]
        )
    title = f"bench quality: {report['text']['name']}, nats per character on its last tenth"
    show.table(title, ["", ">training", ">of peer's time", ">loss"], rows, note=note)
