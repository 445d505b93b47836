"""How long one waits: for help, for an import, for the first step of a run.

Each is a command as a user types it, in a process of its own, several times in turn. Programs and
libraries lie in the system's file cache after the first, uncounted call, as on any day but the
first; the machine's probe, a second more, is done by then too. The first step counts once its line
stands in the run folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minids.bench.harness import LONGEST_S, Plan, report, spread
from minids.errors import UserError

TARGETS = {"minids --help": 0.4, "minids train --tiny, first step": 6.0}  # seconds
POLL_S = 0.005


def bench(plan: Plan) -> dict[str, Any]:
    """Every wait, in turn → the report."""
    waits: dict[str, Callable[[], float]] = {
        "minids --help": lambda: until_done(["-m", "minids", "--help"]),
        "import torch": lambda: until_done(["-c", "import torch"]),
        "import minids.nn.transformer": lambda: until_done(["-c", "import minids.nn.transformer"]),
        "minids train --tiny, first step": until_first_step,
    }
    chosen = {label: wait for label, wait in waits.items() if plan.only in label}
    seconds: dict[str, list[float]] = {label: [] for label in chosen}
    for turn in range(plan.repeats + 1):
        for label, wait in chosen.items():
            plan.tell(f"{label}, turn {turn} of {plan.repeats}" if turn else f"{label}, uncounted")
            found = wait()
            if turn:
                seconds[label].append(found)
    cases = [
        {"case": label, "seconds": spread(times), "turns": times, "target": TARGETS.get(label)}
        for label, times in seconds.items()
    ]
    return report("start", plan, cases)


def until_done(arguments: list[str]) -> float:
    """Seconds from the command to its end."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, timeout=LONGEST_S, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(" ".join(arguments), f"exit code {done.returncode}", code=1)
    return seconds


def until_first_step() -> float:
    """Seconds from the command to the first step's line in metrics.jsonl; then the run is ended."""
    with tempfile.TemporaryDirectory(prefix="minids-start-") as place:
        out = Path(place) / "run"
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "minids", "train", "--tiny", "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not has_line(out / "metrics.jsonl"):
                if process.poll() is not None:
                    what = f"exit code {process.returncode} before the first step"
                    raise UserError("minids train --tiny", what, code=1)
                time.sleep(POLL_S)
            return time.perf_counter() - start
        finally:
            process.terminate()
            process.wait()


def has_line(path: Path) -> bool:
    """Whether a file is there and holds a complete line."""
    try:
        return path.read_bytes().endswith(b"\n")
    except OSError:
        return False
