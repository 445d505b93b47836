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


class Disk:
    """What a save asks of a disk. Written is not yet kept: a power cut takes what was not flushed,
    in any order, names in folders included."""

    def files(self, folder: Path) -> list[Path]:
        """All files of a folder."""
        return sorted(folder.iterdir())

    def write(self, path: Path, text: str) -> None:
        """A file; whether it outlives a power cut is open."""
        path.write_text(text, encoding="utf-8")

    def flush(self, path: Path) -> None:
        """From now on a file's bytes, or the names in a folder, outlive a power cut."""
        flush(path)

    def rename(self, old: Path, new: Path) -> None:
        """At once and whole; a power cut leaves one name or the other."""
        old.rename(new)


def publish(disk: Disk, draft: Path, final: Path, manifest: str) -> None:
    """Give a folder its name, so that whatever happens it is whole under that name or not there.

    The files are in `draft`; the manifest that vouches for them comes last. Once this returns, the
    folder outlives a power cut.
    """
    for path in disk.files(draft):
        disk.flush(path)
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft / "manifest.json")
    disk.flush(draft)
    disk.rename(draft, final)
    disk.flush(final.parent)
