"""Two arms, one machine, in turn: how every comparison here is measured.

A rate alone says little, machines are shared and clocks move. So each arm runs in a fresh process,
arms take turns (A B A B …) on the same number of threads, warm-up is not counted, and what counts
is the ratio inside each turn: its median, lowest and highest.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from minids import __version__
from minids.errors import UserError

PEER = "transformers"
LONGEST_S = 1_800  # of one arm; then something hangs
PACKAGES = ("torch", "transformers", "numpy")

Tell = Callable[[str], None]


class Arm(NamedTuple):
    """One side of a comparison: `python -m module`, told by `order` what to do."""

    name: str
    module: str
    order: dict[str, Any]
    threads: int


class Plan(NamedTuple):
    """How to measure, whatever is measured."""

    peer: str | None
    threads: int
    repeats: int
    seconds: float  # of counted work in each process
    only: str = ""  # cases whose label contains it
    settings: str = ""  # of the peer, whose name contains it
    tell: Tell = lambda _line: None


# In the parent


def run(arm: Arm) -> dict[str, Any]:
    """One arm in a process of its own → what it measured. Raises UserError with code 1."""
    threads = str(arm.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    order = arm.order | {"threads": arm.threads}
    try:
        done = subprocess.run(
            [sys.executable, "-m", arm.module, json.dumps(order)],
            env=environment | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(arm.name, f"not done after {LONGEST_S} s", code=1) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(arm.name, f"exit code {done.returncode}: {said[-1][:300]}", code=1)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(arms: Sequence[Arm], repeats: int, tell: Tell) -> list[list[dict[str, Any]]]:
    """Every arm once, then every arm again, …  → [arm][repeat]"""
    found: list[list[dict[str, Any]]] = [[] for _ in arms]
    for turn in range(repeats):
        for arm, records in zip(arms, found, strict=True):
            tell(f"{arm.name}, turn {turn + 1} of {repeats}")
            records.append(run(arm))
    return found


def compare(
    label: str, unit: str, ours: Arm, theirs: Arm | None, plan: Plan, ceiling: Arm | None = None
) -> dict[str, Any]:
    """One case measured: rates, their ratio turn by turn, memory, and what the machine allows."""
    plan.tell(label)
    arms = [arm for arm in (ours, theirs, ceiling) if arm]
    records = dict(
        zip((a.name for a in arms), take_turns(arms, plan.repeats, plan.tell), strict=True)
    )
    mine = records[ours.name]
    case = {"case": label, "unit": unit, "ours": side(ours, mine)}
    if theirs:
        yours = records[theirs.name]
        case["peer"] = side(theirs, yours)
        case["ratio"] = ratios([r["rate"] for r in mine], [r["rate"] for r in yours])
        case["memory_ratio"] = case["ours"]["peak_bytes"] / max(1, case["peer"]["peak_bytes"])
    if ceiling:
        case["ceiling"] = spread([r["rate"] for r in records[ceiling.name]])
    return case


def side(arm: Arm, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All turns of one arm as one entry of the report. Peaks are medians, in bytes."""
    last = {k: v for k, v in records[-1].items() if k not in ("rate", "peak_bytes", "import_bytes")}
    peak = statistics.median(r["peak_bytes"] for r in records)
    base = statistics.median(r["import_bytes"] for r in records)
    return {
        "name": arm.name,
        "threads": arm.threads,
        "order": arm.order,
        "rate": spread([r["rate"] for r in records]),
        "peak_bytes": max(0, peak - base),  # above what the imports took
        "absolute_peak_bytes": peak,
        **last,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, turn by turn: what slowed both in one turn cancels."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def fastest(arms: Sequence[Arm], tell: Tell) -> tuple[Arm, dict[str, float]]:
    """Every setting once → the best arm and all rates. One that fails has rate 0, unless all do.

    Where there is no choice, nothing is run.
    """
    if len(arms) == 1:
        return arms[0], {}
    rates, failure = [], None
    for arm in arms:
        tell(f"trying {arm.name}: {setting(arm)}")
        try:
            rates.append(run(arm)["rate"])
        except UserError as error:
            rates.append(0.0)
            failure = error
    if failure and not any(rates):
        raise failure
    best = arms[rates.index(max(rates))]
    return best, dict(zip(map(setting, arms), rates, strict=True))


def setting(arm: Arm) -> str:
    """What distinguishes an arm from others of its name."""
    words = [str(value) for value in arm.order.get("settings", {}).values()]
    return ", ".join([*words, f"{arm.threads} thread{'s' * (arm.threads != 1)}"])


def find_peer(asked: str | None) -> str | None:
    """The peer to measure against: the one asked for, else transformers if it is installed."""
    installed = importlib.util.find_spec(PEER) is not None
    if asked is None:
        return PEER if installed else None
    if asked == "none":
        return None
    if asked != PEER:
        raise UserError("--against", f"{asked!r} is not a peer of this bench", f"{PEER}, none")
    if not installed:
        hint = "pip install 'minids[interop]' installs it"
        raise UserError("--against", f"{PEER} is not installed", "none", hint=hint)
    return PEER


def report(bench: str, plan: Plan, cases: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Everything that somebody needs to judge the figures."""
    return {
        "bench": bench,
        "minids": __version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: version(name) for name in ("python", *PACKAGES)},
        "peer": plan.peer,
        "threads": plan.threads,
        "repeats": plan.repeats,
        "seconds": plan.seconds,
        "cases": cases,
        **more,
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    from minids.train.probe import cpu_name, usable_cores

    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": pages * os.sysconf("SC_PAGE_SIZE") if pages else 0,
        "system": f"{platform.system()} {platform.release()}",
    }


def version(name: str) -> str | None:
    """The version of a package, without importing it."""
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# In an arm's process


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Do what the command line orders and say what was measured, as one line of JSON."""
    import torch

    order = json.loads(sys.argv[1])
    torch.set_num_threads(order["threads"])
    sys.stdout.write(json.dumps(work(order)) + "\n")
    return 0


def timed(step: Callable[[], object], seconds: float, warmup: int = 3, least: int = 3) -> float:
    """Median seconds of a step, after a few that do not count."""
    start = time.perf_counter()
    for _ in range(warmup):
        step()
        if time.perf_counter() - start > seconds:
            break
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes() -> int:
    """The most memory this process has held so far.

    Linux's VmHWM is the process's own; ru_maxrss there begins with what the parent held.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
