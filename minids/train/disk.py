"""Small truths about files and processes that checkpoints and run folders stand on; no torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def alive(pid: str) -> bool:
    """Whether a process of this number runs."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def flush(path: Path) -> None:
    """Force a file or folder to disk; a folder's own entry counts too."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
