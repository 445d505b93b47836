"""One source per lesson: the master notebook, and the workbook with blanks that comes out of it.

A master is nbformat 4 with nbgrader's cell metadata (minids/README.md, "lab"). Everything here is
plain JSON, so that a workbook is made without Jupyter. `python -m minids.lab.build 07` normalises,
runs and stores a master.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import minids
from minids.errors import UserError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
BLANK = 'raise NotImplementedError("your code")'
NAME = re.compile(r"(\d\d)-[a-z0-9]+(-[a-z0-9]+)*")
GRADE_ID = re.compile(r"(ex|check)-(\d\d)-(\d+)")
FOR_TESTS = "# NBVAL_CHECK_OUTPUT"  # nbval: the stored output is a fact
LARGEST_NOTEBOOK = 64_000_000  # bytes; more is no lesson


class Master(NamedTuple):
    """A lesson as its writer left it."""

    name: str  # "07-kv-cache"
    notebook: dict[str, Any]
    exercises: tuple[str, ...]  # ("07.1", "07.2"), in order

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def title(self) -> str:
        """The first heading."""
        for cell in self.notebook["cells"]:
            found = re.search(r"^#+ +(.+)$", source(cell), re.MULTILINE)
            if cell["cell_type"] == "markdown" and found:
                return found[1].strip()
        return self.name


def folder() -> Path:
    """Where the masters are: MINIDS_LESSONS, beside the package in a checkout, or as installed."""
    if own := os.environ.get("MINIDS_LESSONS"):
        return Path(own)
    checkout = Path(minids.__file__).parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / "lessons").is_dir():
        return checkout / "lessons"
    files = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files("minids") or []
    found = [Path(str(file.locate())).resolve() for file in files]
    places = [file.parent for file in found if file.parts[-3:-1] == ("minids", "lessons")]
    for place in (*places[:1], checkout / "share/minids/lessons"):  # the second: pip --target
        if place.is_dir():
            return place
    raise UserError("lessons", "this installation has none", hint="pip install minids again")


def paths() -> dict[str, Path]:
    """{"07": the master's file}, in order."""
    found: dict[str, Path] = {}
    for path in sorted(folder().glob("[0-9][0-9]-*.ipynb")):
        if path.stem[:2] in found:
            both = f"{found[path.stem[:2]].name} and {path.name}"
            raise UserError("lessons", f"{both} have the same number", "one file per number")
        found[path.stem[:2]] = path
    return found


def readable() -> tuple[list[Master], list[str]]:
    """All lessons that can be read, in order, and for each other one a line that says why not."""
    lessons, lines = [], []
    for path in paths().values():
        try:
            lessons.append(read(path))
        except UserError as error:
            lines.append(f"left out: {error.line()}")
    return lessons, lines


def find(lesson: str | int) -> Master:
    """The master of a lesson: 7, "7", "07" or "07-kv-cache". Raises UserError."""
    text, known = str(lesson), paths()
    number = text[:2] if NAME.fullmatch(text) else text.zfill(2)
    if number not in known or (NAME.fullmatch(text) and text != known[number].stem):
        allowed = ", ".join(path.stem for path in known.values()) or "none here"
        raise UserError("lesson", f"{text!r} does not exist", allowed)
    return read(known[number])


def read(path: Path) -> Master:
    """A master from its file. Raises UserError with the first thing that is wrong with it."""
    notebook = load(path)
    found = list(problems(path.stem, notebook))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(path.name, found[0] + more, hint="minids/README.md says what a master is")
    ids = [grade_id(cell) for cell in notebook["cells"]]
    exercises = tuple(exercise_of(name) for name in ids if name.startswith("ex-"))
    return Master(path.stem, notebook, exercises)


def load(path: Path) -> dict[str, Any]:
    """A notebook as JSON, its structure checked so far that nothing later stumbles over it."""
    try:
        if path.stat().st_size > LARGEST_NOTEBOOK:
            raise UserError(path.name, "is too large for a notebook", f"{LARGEST_NOTEBOOK:,} bytes")
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(path.name, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(path.name, f"is not JSON: {str(error)[:80]}") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UserError(path.name, "is not a notebook: it has no list of cells")
    if notebook.get("nbformat") != 4:
        version = str(notebook.get("nbformat"))[:20]
        raise UserError(path.name, f"has notebook format {version}", "4")
    for place, cell in enumerate(notebook["cells"]):
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        if kind not in ("markdown", "code", "raw") or not is_text(cell.get("source")):
            raise UserError(path.name, f"cell {place} is not a notebook cell")
        if not isinstance(cell.setdefault("metadata", {}), dict):
            raise UserError(path.name, f"cell {place} has metadata that is no object")
    if not isinstance(notebook.setdefault("metadata", {}), dict):
        raise UserError(path.name, "has metadata that is no object")
    return notebook


def is_text(found: object) -> bool:
    """Whether it may be a cell's source: a text, or a list of lines."""
    return isinstance(found, str) or (
        isinstance(found, list) and all(isinstance(line, str) for line in found)
    )


def source(cell: dict[str, Any]) -> str:
    """The cell's text; files hold it as one text or as lines."""
    found = cell["source"]
    return found if isinstance(found, str) else "".join(found)


def grade_id(cell: dict[str, Any]) -> str:
    """nbgrader's name of a cell, "" if it has none."""
    found = cell["metadata"].get("nbgrader")
    name = found.get("grade_id") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def exercise_of(name: str) -> str:
    """ "ex-07-2" or "check-07-2" → "07.2"; "" for other names."""
    found = GRADE_ID.fullmatch(name)
    return f"{found[2]}.{found[3]}" if found else ""


def problems(name: str, notebook: dict[str, Any]) -> Iterator[str]:
    """Everything in which a notebook is not the master of lesson `name`, a line each."""
    if not NAME.fullmatch(name):
        yield "is not named like 07-kv-cache"
    cells, seen = notebook["cells"], set()
    for place, cell in enumerate(cells):
        text, called = source(cell), grade_id(cell)
        where = f"cell {place} ({called})" if called else f"cell {place}"
        marks = [line.strip() for line in text.splitlines() if line.strip() in (BEGIN, END)]
        if called in seen:
            yield f"{where}: a second cell of that name"
        seen.add(called or None)
        if called and not GRADE_ID.fullmatch(called):
            yield f"{where}: named neither ex-{name[:2]}-N nor check-{name[:2]}-N"
        elif called and called.split("-")[1] != name[:2]:
            yield f"{where}: belongs to another lesson"
        elif called.startswith("ex-"):
            yield from (f"{where}: {what}" for what in exercise_problems(cell, text, marks))
            after = grade_id(cells[place + 1]) if place + 1 < len(cells) else ""
            if after != called.replace("ex-", "check-", 1):
                yield f"{where}: its check is not the next cell"
        elif called.startswith("check-"):
            yield from (f"{where}: {what}" for what in check_problems(cell, text))
            before = grade_id(cells[place - 1]) if place else ""
            if before != called.replace("check-", "ex-", 1):
                yield f"{where}: its exercise is not the cell before"
        if marks and not called.startswith("ex-"):
            yield f"{where}: a solution outside an exercise cell"


def exercise_problems(cell: dict[str, Any], text: str, marks: list[str]) -> Iterator[str]:
    """What an exercise cell lacks."""
    settings = cell["metadata"]["nbgrader"]
    if settings.get("solution") is not True or settings.get("grade") is True:
        yield "nbgrader's metadata must say solution: true, grade: false"
    if f"### YOUR CODE {exercise_of(grade_id(cell))}" not in text.splitlines():
        yield f"lacks the line ### YOUR CODE {exercise_of(grade_id(cell))}"
    if not marks or marks != [BEGIN, END] * (len(marks) // 2):
        yield f"needs {BEGIN} and {END}, in turn, each on its own line"
        return
    for what, code in (("", text), ("with its blank ", blank(text))):
        try:
            compile(code, "cell", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            yield f"{what}is not Python: {error}"


def check_problems(cell: dict[str, Any], text: str) -> Iterator[str]:
    """What a check cell lacks."""
    settings = cell["metadata"]["nbgrader"]
    if settings.get("grade") is not True or settings.get("solution") is True:
        yield "nbgrader's metadata must say grade: true, solution: false"
    points = settings.get("points")
    if isinstance(points, bool) or not isinstance(points, int | float) or not points > 0:
        yield "has no points"
    if f'check("{exercise_of(grade_id(cell))}", ' not in text:
        yield f'does not call check("{exercise_of(grade_id(cell))}", …)'


def blank(text: str) -> str:
    """A cell without its solutions: each is one raise, as far indented as its mark."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.strip() == BEGIN:
            lines.append(line[: len(line) - len(line.lstrip())] + BLANK)
        inside = (inside or line.strip() == BEGIN) and line.strip() != END
        if not inside and line.strip() != END:
            lines.append(line)
    return "\n".join(lines)


def digest(*texts: str) -> str:
    """A short fingerprint."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fingerprint(master: Master) -> str:
    """Of all a writer wrote; outputs do not count."""
    cells = master.notebook["cells"]
    return digest(*(f"{cell['cell_type']} {grade_id(cell)} {source(cell)}" for cell in cells))


def workbook(master: Master, *, solved: bool = False) -> dict[str, Any]:
    """The student's notebook: blanks for solutions, no outputs from the first blank on.

    Its metadata holds the fingerprints of the lesson and of each named cell. solved: with the
    solutions in place of the blanks, for whoever starts later in the course.
    """
    notebook = copy.deepcopy(master.notebook)
    reached, marks = False, {}
    for cell in notebook["cells"]:
        name = grade_id(cell)
        reached = reached or name.startswith("ex-")
        if cell["cell_type"] == "code" and reached:
            cell["outputs"], cell["execution_count"] = [], None
        cell["source"] = given(cell)
        if name.startswith("ex-"):
            cell["source"] = filled(cell["source"]) if solved else blank(cell["source"])
            cell["metadata"]["deletable"] = False
        if name.startswith("check-"):
            cell["metadata"] |= {"deletable": False, "editable": False}
        if name:
            marks[name] = digest(cell["source"])
    notebook["metadata"]["minids"] = {
        "lesson": master.name,
        "master": fingerprint(master),
        "cells": marks,
    }
    return notebook


def filled(text: str) -> str:
    """A cell with its solutions, without the marks."""
    return without_line(text, BEGIN, END)


def given(cell: dict[str, Any]) -> str:
    """The cell's text as a student gets it: what is meant for nbval alone is not shown."""
    return without_line(source(cell), FOR_TESTS)


def without_line(text: str, *lines: str) -> str:
    """A text without the lines that say just that, however far indented."""
    return "\n".join(line for line in text.splitlines() if line.strip() not in lines)


def written(notebook: dict[str, Any]) -> str:
    """A notebook as text, exactly as nbformat writes it."""
    plain = copy.deepcopy(notebook)
    for cell in plain["cells"]:
        cell["source"] = source(cell).splitlines(keepends=True)
    return json.dumps(plain, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    from minids.lab.build import main

    raise SystemExit(main(sys.argv[1:]))
