"""Which cells of a lesson a grader must run: those that an answer rests on, not the experiments.

A cell is needed if a needed cell behind it reads a name that it binds or changes. What cannot be
seen through (magics, star imports, exec) counts as needed.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Sequence
from typing import NamedTuple

OPAQUE = {"exec", "eval", "globals", "setattr", "locals", "vars"}


class Names(NamedTuple):
    """What a cell does to the names of the notebook."""

    reads: frozenset[str]
    binds: frozenset[str]  # assigned, defined, imported
    changes: frozenset[str]  # x[0] = …, x.a = …, x.append(…)
    imports: frozenset[str]
    opaque: bool = False


def without_magics(source: str) -> str:
    """A cell as plain Python: lines that only a notebook understands do nothing."""
    return re.sub(r"^([ \t]*)(?:%|!|\?).*$", r"\1pass", source, flags=re.MULTILINE)


def names(source: str) -> Names:
    """The names of one cell."""
    source = without_magics(source)
    none: frozenset[str] = frozenset()
    try:
        tree = ast.parse(source)
        table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return Names(none, none, none, none, opaque=True)
    reads = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    inner = list(table.get_children())
    while inner:
        scope = inner.pop()
        inner += scope.get_children()
        of_notebook = [s for s in scope.get_symbols() if s.is_global()]
        reads |= {s.get_name() for s in of_notebook if s.is_referenced()}
        binds |= {s.get_name() for s in of_notebook if s.is_assigned()}
    imports = {s.get_name() for s in table.get_symbols() if s.is_imported()}
    stars = any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(tree))
    changes = frozenset(changed(tree))
    return Names(
        frozenset(reads),
        frozenset(binds),
        changes,
        frozenset(imports),
        stars or bool(reads & OPAQUE),
    )


def changed(tree: ast.AST) -> set[str]:
    """Names whose objects a cell may change without binding them."""
    found = set()
    for node in ast.walk(tree):
        target = None
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            target = node.value.func
        while isinstance(target, ast.Attribute | ast.Subscript | ast.Call):
            target = target.func if isinstance(target, ast.Call) else target.value
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


def needed(sources: Sequence[str], always: set[int]) -> list[int]:
    """Indices of the cells to run, in order: `always`, and what these rest on."""
    cells = [names(source) for source in sources]
    modules = frozenset().union(*(cell.imports for cell in cells))
    wanted: set[str] = set()
    chosen = []
    for i in reversed(range(len(cells))):
        cell = cells[i]
        touches = cell.binds | (cell.changes - modules)
        if i in always or cell.opaque or touches & wanted:
            chosen.append(i)
            wanted |= cell.reads
    return chosen[::-1]
