"""Cells of a lesson: which exercise they hold, and how to run what they define."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minids.lab import master

YOUR_CODE = re.compile(r"^\s*### YOUR CODE (\d\d\.\d+)\b", re.MULTILINE)
CHECK = re.compile(r"^[^#\n]*\bcheck\s*\(", re.MULTILINE)
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


class Cell(NamedTuple):
    """One code cell."""

    number: int  # as counted in the file, text cells included
    source: str
    exercise: str | None


def exercise_in(source: str) -> str | None:
    """ "07.2" if the cell holds `### YOUR CODE 07.2`."""
    found = YOUR_CODE.search(source)
    return found[1] if found else None


def calls_check(source: str) -> bool:
    """Whether the cell asks for a verdict itself."""
    return bool(CHECK.search(source))


def read(path: Path) -> list[Cell]:
    """The code cells of a notebook. Raises UserError if it is none."""
    stored = enumerate(master.load(path)["cells"])
    texts = [(i, master.source(c)) for i, c in stored if c["cell_type"] == "code"]
    return [Cell(i, text, exercise_in(text)) for i, text in texts]


def definitions(
    cells: list[Cell], name: str
) -> Iterator[tuple[Cell, dict[str, Any], Exception | None]]:
    """Run exercise cells whole and of the others only imports, functions, classes, constants.

    After each exercise cell: the cell, all names so far, its error. No experiment runs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        failed = run(cell.source, f"{name}, cell {cell.number}", names, whole=bool(cell.exercise))
        if cell.exercise:
            yield cell, names, failed


def run(source: str, title: str, names: dict[str, Any], *, whole: bool) -> Exception | None:
    """Execute a cell, all of it or only what defines → its error."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return error
    body = [node for node in tree.body if whole or defines(node)]
    linecache.cache[title] = (len(source), None, source.splitlines(keepends=True), title)
    for node in body:
        if whole and is_check(node):
            continue
        try:
            exec(compile(ast.Module([node], []), title, "exec"), names)  # the student's own code
        except Exception as error:
            if whole:
                return error
    return None


def defines(node: ast.stmt) -> bool:
    """Imports, functions, classes, and constants that call nothing."""
    if isinstance(node, DEFINES):
        return True
    return isinstance(node, ast.Assign) and not any(isinstance(n, ast.Call) for n in ast.walk(node))


def is_check(node: ast.stmt) -> bool:
    """A call of check as a statement."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check"
