"""What a student has done, in one readable file: exercises, hints, predictions.

It lies in the student's folder: the nearest parent with a `.minids-lab` file, else minids-lab in
the current folder, else MINIDS_LAB_HOME, else the current folder. Every change reads, changes and
replaces the file at once. Automatic runs (MINIDS_FAST=1) and folders without write permission
leave no trace; the session remembers.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MARKER = ".minids-lab"
DEFAULT = "minids-lab"  # the folder that `minids lessons open` makes
NAME = "progress.json"
session: dict[str, Any] = {}  # what counts when nothing is written
warnings: list[str] = []  # to be shown once, with the next panel


def folder() -> Path:
    """The student's folder."""
    here = Path.cwd()
    for place in (here, *here.parents, here / DEFAULT):
        if (place / MARKER).exists():
            return place
    home = os.environ.get("MINIDS_LAB_HOME")
    return Path(home).expanduser() if home else here


def unattended() -> bool:
    """Whether nobody is there to be remembered: tests, grading."""
    return os.environ.get("MINIDS_FAST", "") not in ("", "0")


def load(path: Path | None = None) -> dict[str, Any]:
    """Everything stored; empty if there is nothing. A broken file is set aside, never lost."""
    if unattended() and path is None:
        return session
    path = path or folder() / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return session if not writable(path.parent) else {}
    except (OSError, UnicodeDecodeError) as error:
        return broken(path, str(error)) if isinstance(error, ValueError) else session
    try:
        stored = json.loads(text)
        parts = [stored.get(part, {}) for part in ("exercises", "predictions")]
        ok = all(isinstance(e, dict) for part in parts for e in part.values())
    except (ValueError, AttributeError) as error:
        return broken(path, str(error))
    if not ok:
        return broken(path, "entries of another kind")
    return stored if writable(path.parent) else session or stored


def broken(path: Path, why: str) -> dict[str, Any]:
    """Set the file aside under a free name and begin anew."""
    for n in range(1, 1000):
        aside = path.with_name(f"{path.stem}-broken-{n}{path.suffix}")
        if not aside.exists():
            with contextlib.suppress(OSError):
                path.rename(aside)
                say(f"{path} could not be read ({why}); it is kept as {aside.name}")
            break
    return {}


def save(stored: dict[str, Any]) -> bool:
    """Replace the file in one step → whether it was written."""
    session.clear()
    session.update(stored)
    if unattended():
        return False
    path = folder() / NAME
    body = json.dumps({"format": 1} | stored, indent=1, ensure_ascii=False, sort_keys=True)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".progress-")
    except OSError as error:
        say(f"progress is not stored: {path.parent}: {error.strerror}")
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(body + "\n")
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        say(f"progress is not stored: {path}: {error.strerror}")
        return False
    return True


def say(text: str) -> None:
    """Once per session."""
    if text not in said:
        said.add(text)
        warnings.append(text)


said: set[str] = set()


def writable(path: Path) -> bool:
    """Whether files can be made there."""
    return path.is_dir() and os.access(path, os.W_OK)


def entry(kind: str, name: str) -> dict[str, Any]:
    """What is known of one exercise or prediction; kind: "exercises", "predictions"."""
    return dict(load().get(kind, {}).get(name, {}))


def change(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """Set fields of one entry → the entry."""
    stored = load()
    part = dict(stored.get(kind, {}))
    part[name] = part.get(name, {}) | fields
    save(stored | {kind: part})
    return part[name]


def checked(name: str, kind: str, mistake: str | None) -> None:
    """Count one attempt. Who was right once stays right; every named mistake is counted."""
    if kind == "blank":
        return
    known = entry("exercises", name)
    fields: dict[str, Any] = {"attempts": known.get("attempts", 0) + 1}
    if kind == "right":
        fields |= {"right": known.get("right") or now()}
    if mistake:
        counts = dict(known.get("mistakes", {}))
        fields["mistakes"] = counts | {mistake: counts.get(mistake, 0) + 1}
    change("exercises", name, **fields)


def now() -> str:
    """Minutes are enough."""
    return datetime.now(UTC).astimezone().isoformat(timespec="minutes")
