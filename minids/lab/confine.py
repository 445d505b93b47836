"""A process that may do little and for a limited time: how a submission is run.

Its own session, an empty folder, a scrubbed environment, limits of time, memory and output that are
watched from outside, no network where the system offers that. Whatever it starts ends with it.
This holds accidents and crude tricks; it is no security sandbox (lessons/README.md shows a
container, which is one).
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

import minids

TOKEN = 16  # bytes before each message, so that stray output is no message
TICK_S = 0.1
MARK = "MINIDS_SUBMISSION"  # in the environment of everything that a submission starts
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TZ", "LD_LIBRARY_PATH", "MINIDS_LESSONS")
OUTPUT_KEPT = 20_000  # characters of what it printed, for the log


class Limits(NamedTuple):
    """What a submission may take."""

    step_s: float = 60.0  # wall clock, for one cell or one exercise
    memory_bytes: int = 2_000_000_000  # all its processes together, libraries (≈ 0.4 GB) besides
    output_bytes: int = 10_000_000
    file_bytes: int = 200_000_000  # each file
    processes: int = 64
    message_bytes: int = 70_000_000


class Stopped(Exception):
    """The process is gone. kind: time memory output processes died garbled interrupted"""

    def __init__(self, kind: str, says: str) -> None:
        self.kind, self.says = kind, says
        super().__init__(says)


class Confined:
    """One such process; a context, at whose end it is gone with all it started."""

    def __init__(
        self, command: list[str], place: Path, limits: Limits, stop: threading.Event
    ) -> None:
        self.limits, self.stop, self.token = limits, stop, secrets.token_bytes(TOKEN)
        self.mark = secrets.token_hex(16)
        self.output, self.output_bytes = "", 0
        self.strangers: set[tuple[int, str]] = set()
        self.messages: queue.Queue[bytes | None] = queue.Queue()
        self.process = subprocess.Popen(
            [*without_network(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=place,
            env=environment(place, self.mark),
            start_new_session=os.name == "posix",
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin = self.process.stdin
        for target, pipe in ((self.listen, self.process.stdout), (self.drain, self.process.stderr)):
            threading.Thread(target=target, args=(pipe,), daemon=True).start()

    def __enter__(self) -> Confined:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def listen(self, pipe: IO[bytes]) -> None:
        """Messages, each behind the token and its length; None at the end."""
        with contextlib.suppress(OSError, ValueError), pipe:
            while head := pipe.read(TOKEN + 8):
                size = int.from_bytes(head[TOKEN:], "big")
                if not head.startswith(self.token) or size > self.limits.message_bytes:
                    self.messages.put(b"")
                    return
                self.messages.put(pipe.read(size))
        self.messages.put(None)

    def drain(self, pipe: IO[bytes]) -> None:
        """Count what it prints, keep the beginning."""
        with contextlib.suppress(OSError, ValueError), pipe:
            while piece := pipe.read1(65536):  # type: ignore[attr-defined]
                self.output_bytes += len(piece)
                if len(self.output) < OUTPUT_KEPT:
                    self.output += piece.decode("utf-8", "replace")

    def ask(self, request: bytes, seconds: float) -> bytes:
        """Send a line, wait for the reply. Raises Stopped, and then the process is gone."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # it has ended: the reply says how
            self.stdin.write(request + b"\n")
            self.stdin.flush()
        try:
            while True:
                self.watch()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Stopped("time", f"stopped after {seconds:.0f} seconds")
                try:
                    found = self.messages.get(timeout=min(TICK_S, left))
                except queue.Empty:
                    continue
                if found is None:
                    raise self.death()
                if not found:
                    raise Stopped("garbled", "the process wrote into the grader's channel")
                return found
        except Stopped:
            self.kill()
            raise

    def watch(self) -> None:
        """Raise Stopped if it takes too much, or the grader was told to stop."""
        if self.stop.is_set():
            raise Stopped("interrupted", "grading was interrupted")
        if self.output_bytes > self.limits.output_bytes:
            raise Stopped("output", f"printed more than {self.limits.output_bytes / 1e6:.0f} MB")
        members = self.members()
        if len(members) > self.limits.processes:
            raise Stopped("processes", f"started more than {self.limits.processes} processes")
        used = sum(members.values())
        if used > self.limits.memory_bytes + libraries_bytes():
            limit = self.limits.memory_bytes / 1e9
            raise Stopped("memory", f"took more than the {limit:.3g} GB of memory allowed")

    def death(self) -> Stopped:
        """How it ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        if code is None:
            return Stopped("died", "closed its channel to the grader")
        if code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                if name == "SIGXCPU":
                    return Stopped("time", "used more processor time than allowed")
                return Stopped("died", f"the process died (signal {name})")
        return Stopped("died", f"the process ended itself (exit status {code})")

    def members(self) -> dict[int, int]:
        """{process: resident bytes} of everything that belongs to it; {} where /proc is missing."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                pid, session, started, pages = int(folder.name), fields[3], fields[19], fields[21]
                if fields[0] == "Z" or (pid, started) in self.strangers:
                    continue
                if int(session) == self.process.pid or self.is_marked(folder):
                    found[pid] = int(pages) * os.sysconf("SC_PAGE_SIZE")
                else:
                    self.strangers.add((pid, started))
        return found

    def is_marked(self, folder: Path) -> bool:
        """Whether it left the session but inherited the environment."""
        return f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes()

    def kill(self) -> None:
        """End it and all its descendants; those that multiply are stopped first."""
        self.strangers.clear()
        for _ in range(50):
            members = self.members()
            if os.name == "posix" and self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            for sign in (signal.SIGSTOP, signal.SIGKILL) if members else ():
                for pid in members:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, sign)
            if self.process.poll() is None:
                if os.name == "nt":
                    tree = ["taskkill", "/F", "/T", "/PID", str(self.process.pid)]
                    subprocess.run(tree, capture_output=True, check=False)
                self.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1)
            if not members:
                break
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            self.stdin.close()


def environment(place: Path, mark: str) -> dict[str, str]:
    """Nothing of the instructor's but what is needed to start Python."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    package = str(Path(minids.__file__).parents[1])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    cache = str(place.parent / "matplotlib")
    return kept | {
        MARK: mark,
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "HOME": str(place),
        "TMPDIR": str(place),
        "MINIDS_CACHE": str(place / "cache"),
        "MINIDS_FAST": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": cache,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def without_network(found: list[list[str]] = []) -> list[str]:  # noqa: B006 (asked once)
    """The words that start a process without network; none where that cannot be had."""
    if not found:
        words = [shutil.which("unshare") or "", "--map-root-user", "--net", "--"]
        works = False
        if words[0] and sys.platform.startswith("linux"):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    [*words, "true"], capture_output=True, timeout=10, check=False
                )
                works = done.returncode == 0
        found.append(words if works else [])
    return found[0]


def libraries_bytes() -> int:
    """What Python with torch takes before the first cell runs, generously."""
    return 600_000_000


def missing() -> list[str]:
    """What this system cannot hold back, in words."""
    lines = []
    if not Path("/proc/self/stat").exists():
        lines.append("memory and processes are not limited on this system")
    if not without_network():
        lines.append("the network is not cut off on this system")
    return lines
