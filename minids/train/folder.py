"""The run folder: what a run leaves behind, and who may write there.

    config.toml  run.json  metrics.jsonl  samples.txt  tokenizer/  checkpoints/  (later report.md)

One process at a time, by a lock that names its process; nothing that exists is overwritten.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from minids.config import RunConfig, to_toml
from minids.errors import UserError
from minids.train.disk import alive, flush

LOCK = ".lock"


def next_folder(parent: Path, name: str) -> Path:
    """`parent/name-001`, or the first number not taken."""
    number = 1
    while (parent / f"{name}-{number:03d}").exists():
        number += 1
    return parent / f"{name}-{number:03d}"


def check_new(out: Path) -> None:
    """A folder for a new run must not hold anything. Raises UserError, writes nothing."""
    if "\0" in str(out) or not str(out).strip():
        raise UserError("--out", f"{str(out)!r} is not a folder name", "a new or empty folder")
    try:
        if out.exists() and not out.is_dir():
            raise UserError("--out", f"{out} is a file", "a new or empty folder")
        if out.is_dir() and any(out.iterdir()):
            raise UserError(
                "--out",
                f"{out} is not empty",
                "a new or empty folder",
                hint=f"--resume {out} goes on with the run in it",
            )
        parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    except OSError as error:
        raise UserError("--out", f"{out}: {error.strerror}", "a writable folder") from error
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError("--out", f"{parent} cannot be written to", "a writable folder")


class Lock:
    """The right to write into a run folder, held by one process and its workers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        try:
            holder, since = self.path.read_text().split(" ", 1)
        except (OSError, ValueError):
            holder, since = "", ""
        if holder and holder != str(os.getpid()) and alive(holder):
            raise UserError(
                "--out",
                f"{folder} is in use by process {holder} since {since}",
                "one run at a time",
            )
        self.path.write_text(f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}")

    def release(self) -> None:
        """Give it back."""
        self.path.unlink(missing_ok=True)


def create(folder: Path, cfg: RunConfig, record: dict[str, Any]) -> None:
    """A new run folder with its config and what was decided at the start."""
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(to_toml(cfg), encoding="utf-8")
        (folder / "run.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        flush(folder)
    except OSError as error:  # a full disk, or a place that looks writable and is not
        what = f"{folder}: {error.strerror}"
        raise UserError("--out", what, "a writable folder", code=1) from error


class Metrics:
    """metrics.jsonl: a complete line per step, never one twice."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if is_up_to(line, resumed_at):
                    kept.append(line)
            draft = path.with_suffix(".draft")
            draft.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            draft.replace(path)
        self.file: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """One step, flushed."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Finish the file."""
        self.file.close()


def is_up_to(line: str, step: int) -> bool:
    """Whether a line is whole and not newer than the checkpoint a run goes on from."""
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False
