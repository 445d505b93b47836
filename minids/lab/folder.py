"""The student's folder: workbooks, an index, progress. Nothing in it is ever overwritten.

A workbook that exists is kept; where the lesson has changed since, the new one is laid beside it as
07-kv-cache.new-2.ipynb.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.lab import master as masters
from minids.lab import needed, progress
from minids.lab.master import Master

INDEX = "index.ipynb"
LARGEST_STATE = 5_000_000  # bytes of what whoever starts later is given


class Laid(NamedTuple):
    """What became of a workbook. state: new, kept (as it was), beside (a newer lesson's)"""

    path: Path
    state: str


def chosen(text: str | None) -> Path:
    """The folder a command means: as said, else the one we are in or beside, else ./minids-lab."""
    if text is not None:
        return Path(text)
    known = progress.folder()
    if (known / progress.MARKER).exists() or os.environ.get("MINIDS_LAB_HOME"):
        return known
    return Path(progress.DEFAULT)


def check(path: Path) -> None:
    """Raise UserError, nothing written, unless it is a folder to write to or can become one."""
    for place in (path, *path.absolute().parents):
        try:
            found = place.is_dir()
            exists = found or place.exists() or place.is_symlink()
        except OSError as error:
            raise UserError(str(path), f"cannot be used: {error.strerror}") from error
        if exists and not found:
            what = "is a file" if place == path else f"{place} is a file"
            raise UserError(str(path), what, "a folder, or a name that is free")
        if found:
            if os.access(place, os.W_OK | os.X_OK):
                return
            what = "is read-only" if place == path else f"{place} is read-only"
            raise UserError(str(path), what, "a folder you may write to", hint="--folder DIR")


def prepare(path: Path) -> None:
    """Make the folder and mark it as the student's."""
    check(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / progress.MARKER).touch()
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> UserError:
    """What the system said, on one line."""
    return UserError(str(path), f"cannot be written: {error.strerror}", "a folder you may write to")


def lay(lesson: Master, folder: Path) -> Laid:
    """The workbook of a lesson in a folder that is prepared; see the module's text."""
    mine = masters.fingerprint(lesson)
    path, copy = folder / f"{lesson.name}.ipynb", 1
    while path.exists() or path.is_symlink():
        if made_from(path) == mine:
            return Laid(path, "kept")
        copy += 1
        path = folder / f"{lesson.name}.new-{copy}.ipynb"
    write_new(path, masters.written(masters.workbook(lesson)))
    return Laid(path, "new" if copy == 1 else "beside")


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise refused(path, error) from error


def made_from(path: Path) -> str:
    """The fingerprint of the lesson that a workbook was made from; "" if it is none of ours."""
    with contextlib.suppress(UserError):
        about = masters.load(path)["metadata"].get("minids")
        return str(about.get("master", "")) if isinstance(about, dict) else ""
    return ""


def catch_up(lesson: Master, folder: Path) -> list[Path]:
    """The lessons before this one, solved, in a folder catch-up-NN beside the workbooks.

    For each a workbook with solutions, and lesson_NN.py, a module with the same functions, to
    import from a cell. What is there already is kept.
    """
    earlier = [one for one in masters.readable()[0] if one.number < lesson.number]
    place = folder / f"catch-up-{lesson.number}"
    files: dict[str, str] = {}
    for one in earlier:
        files[f"{one.name}.ipynb"] = masters.written(masters.workbook(one, solved=True))
        files[f"lesson_{one.number}.py"] = as_module(one)
    size = sum(len(text.encode()) for text in files.values())
    if size > LARGEST_STATE:
        for one in earlier:
            bare = without_outputs(masters.workbook(one, solved=True))
            files[f"{one.name}.ipynb"] = masters.written(bare)
    prepare_inside(place)
    for name, text in files.items():
        if not (place / name).exists():
            write_new(place / name, text)
    return [place / name for name in files]


def prepare_inside(place: Path) -> None:
    """A folder inside the student's."""
    check(place)
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise refused(place, error) from error


def without_outputs(notebook: dict[str, Any]) -> dict[str, Any]:
    """The same, smaller."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def as_module(lesson: Master) -> str:
    """The solutions of a lesson and what they rest on, as Python."""
    cells = [c for c in masters.workbook(lesson, solved=True)["cells"] if c["cell_type"] == "code"]
    cells = [c for c in cells if not masters.grade_id(c).startswith("check-")]
    sources = [masters.source(c) for c in cells]
    always = {i for i, c in enumerate(cells) if masters.grade_id(c)}
    parts = [sources[i] for i in needed.needed(sources, always)]
    heading = f'"""Lesson {lesson.number}, solved: {lesson.title}"""'
    return "\n\n\n".join([heading, *parts]) + "\n"


def index(lessons: Sequence[Master], folder: Path) -> Path:
    """Write the index, a notebook with links, unless the student made one of that name."""
    path = folder / INDEX
    if path.exists() and not is_index(path):
        return path
    stored = progress.load(folder / progress.NAME).get("exercises", {})
    rows = ["| | lesson | exercises |", "|---|---|---|"]
    for one in lessons:
        marks = ["✓" if stored.get(name, {}).get("right") else "○" for name in one.exercises]
        title = one.title.replace("|", "/")
        rows.append(f"| {one.number} | [{title}]({one.name}.ipynb) | {' '.join(marks)} |")
    text = "\n".join(["# Build DeepSeek from scratch", "", *rows, "", "✓ right · ○ not yet"])
    cell = {"cell_type": "markdown", "id": "index", "metadata": {}, "source": text}
    notebook = {
        "cells": [cell],
        "metadata": {"kernelspec": masters.KERNEL, "minids": {"index": True}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    try:
        path.write_text(masters.written(notebook), encoding="utf-8")
    except OSError as error:
        raise refused(path, error) from error
    return path


def is_index(path: Path) -> bool:
    """Whether it is ours, to be written again."""
    with contextlib.suppress(UserError):
        about = masters.load(path)["metadata"].get("minids")
        return isinstance(about, dict) and about.get("index") is True
    return False
