"""From a clean clone to a running command, with nothing but Python: `python3 cli train --tiny`.

    python3 cli COMMAND …     makes .venv once, installs minids, runs `minids COMMAND …`
    python3 cli test [ARGS]   the same with the test extras, then pytest over tests and notebooks

Standard library only. Inside a virtual environment that already has minids, nothing is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "cli" / "constraints.txt"
OLDEST = (3, 11)
NEEDED_GB = {"": 3, "test": 4}


def main(argv: list[str]) -> int:
    """Set up if needed, then become the command."""
    if sys.version_info < OLDEST:
        return fail(
            f"Python {sys.version.split()[0]}", f"minids needs {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    extra = "test" if argv[:1] == ["test"] else ""
    python = Path(sys.executable)
    if not is_ready_here(extra):
        python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not is_stamped(extra):
            problem = set_up(python, extra)
            if problem:
                return fail(*problem)
    if extra:
        command = [str(python), "-m", "pytest", *argv[1:]]
        offline = {"HF_HUB_OFFLINE": "1", "MINIDS_OFFLINE": "1"}  # notebooks too: lab/offline.py
        return subprocess.call(command, cwd=ROOT, env=os.environ | offline)
    return become([str(python), "-m", "minids_cli", *argv])


def become(command: list[str]) -> int:
    """Run in place of this process where the system can."""
    if os.name == "nt":
        return subprocess.call(command)
    sys.stdout.flush()
    os.execv(command[0], command)
    return 1


def is_ready_here(extra: str) -> bool:
    """Whether this interpreter is an environment that has this checkout installed."""
    isolated = sys.prefix != sys.base_prefix or "google.colab" in sys.modules
    wanted = ["torch", "minids", "minids_cli"] + (
        ["pytest", "nbval", "transformers"] if extra else []
    )
    if not isolated or any(importlib.util.find_spec(name) is None for name in wanted):
        return False
    found = importlib.util.find_spec("minids")
    return bool(found and found.origin and Path(found.origin).is_relative_to(ROOT))


def stamp(extra: str) -> str:
    """What an installation depends on."""
    parts = [ROOT / "pyproject.toml", CONSTRAINTS]
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in parts))
    digest.update(f"{sys.version_info[:3]} {ROOT}".encode())
    return digest.hexdigest() + (" test" if extra else "")


def is_stamped(extra: str) -> bool:
    """Whether .venv was made from these files; the test extras contain the rest."""
    try:
        found = (VENV / "minids.stamp").read_text()
    except OSError:
        return False
    return found in (stamp(extra), stamp("test"))


def set_up(python: Path, extra: str) -> tuple[str, str] | None:
    """Make .venv and install into it; (what, remedy) if that fails."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB[extra]:
        return (
            f"{free:.1f} GB free on the disk of {ROOT}",
            f"setting up needs {NEEDED_GB[extra]} GB",
        )
    what = "minids with its test tools" if extra else "minids"
    print(f"First use: installing {what} into {VENV} (a minute or two)", flush=True)
    if not python.exists():
        try:
            venv.create(VENV, with_pip=True, clear=VENV.exists())
        except (subprocess.CalledProcessError, OSError) as error:
            shutil.rmtree(VENV, ignore_errors=True)
            return (
                f"no virtual environment ({error})",
                "Debian and Ubuntu: apt install python3-venv",
            )
    target = str(ROOT) + (f"[{extra}]" if extra else "")
    code, last = install(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "--editable",
            target,
            "--constraint",
            str(CONSTRAINTS),
        ]
    )
    if code:
        return f"pip failed: {last}", "check the network, then run the same command again"
    (VENV / "minids.stamp").write_text(stamp(extra))
    return None


def install(command: list[str]) -> tuple[int, str]:
    """Run pip, showing one line that moves → (exit code, its last words)."""
    start, shown = time.monotonic(), ["starting pip"]
    done = threading.Event()

    def show() -> None:
        while not done.wait(0.5):
            line = f"  {time.monotonic() - start:4.0f} s  {shown[0]}"
            if sys.stdout.isatty():
                print(f"\r{line[:78]:<78}", end="", flush=True)

    ticker = threading.Thread(target=show, daemon=True)
    ticker.start()
    tail: list[str] = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.strip()
        if not line or line.startswith("WARNING: Location"):
            continue
        tail = [*tail[-7:], line]
        if line.startswith(
            ("Collecting", "Downloading", "Installing", "Building", "Preparing", "Successfully")
        ):
            shown[0] = line
    code = process.wait()
    done.set()
    ticker.join()
    if sys.stdout.isatty():
        print("\r" + " " * 78 + "\r", end="")
    if not code:
        print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    errors = [line for line in tail if line.startswith("ERROR")]
    return code, (errors or tail or ["no output"])[-1][:200]


def fail(what: str, remedy: str) -> int:
    """One line, as all of minids' errors."""
    print(f"minids: error: set-up: {what}", f"hint: {remedy}", sep="\n", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
