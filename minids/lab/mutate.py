"""Does a check notice small changes of a right answer? Each is made once and judged.

What survives is either a hole in the check or the same function written otherwise; the second kind
is listed with its reason in tests/lab/survivors.toml. `python -m minids.lab.mutate 07` shows both.
"""

from __future__ import annotations

import ast
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from minids.lab import cells, exercises, master
from minids.lab.attempt import unlike
from minids.lab.changes import SAFETY, changes
from minids.lab.check import Judging
from minids.lab.exercise import Exercise
from minids.lab.limits import Printed, TimeUp, limited, prints_kept

LIMIT_S = 0.25  # per case; the right answer needs milliseconds


class Mutant(NamedTuple):
    """One change: "score * scale → score", and the cell with it."""

    name: str
    tree: ast.Module


class Survey(NamedTuple):
    """What happened to the mutants of one exercise."""

    id: str
    killed: tuple[str, ...]
    survived: tuple[str, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Share of the mutants that the check noticed."""
        total = len(self.killed) + len(self.survived)
        return len(self.killed) / total if total else 1.0


def mutants(source: str) -> Iterator[Mutant]:
    """All changes of what stands between BEGIN and END SOLUTION (of the whole cell without)."""
    tree = ast.parse(source)
    inside = solution_lines(source)
    count: dict[str, int] = {}
    for path, node in nodes(tree):
        if getattr(node, "lineno", 0) not in inside:
            continue
        for new in changes(node):
            after = copy.deepcopy(tree)
            put(after, path, new)
            before, now = (shortened(x) for x in (node, new))
            if before == now:
                continue
            name = f"{before} → {now}"
            count[name] = count.get(name, 0) + 1
            if count[name] > 1:
                name += f" ({count[name]})"
            yield Mutant(name, ast.fix_missing_locations(after))


def solution_lines(source: str) -> set[int]:
    """Line numbers inside the marks."""
    found, inside = set(), False
    lines = source.splitlines()
    for i, line in enumerate(lines, 1):
        if line.strip() == master.BEGIN:
            inside = True
        elif line.strip() == master.END:
            inside = False
        elif inside:
            found.add(i)
    return found or set(range(1, len(lines) + 1))


Step = tuple[str, int | None]


def nodes(tree: ast.AST, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], ast.AST]]:
    """Every node with the way to it; annotations, f-strings, docstrings and messages left out."""
    yield path, tree
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "type_comment", "decorator_list"):
            continue
        if isinstance(tree, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(tree, ast.keyword) and tree.arg in SAFETY:
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for i, item in items:
            doc = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            if isinstance(item, ast.AST) and not doc:
                yield from nodes(item, (*path, (field, i)))


def put(tree: ast.AST, path: tuple[Step, ...], new: ast.AST) -> None:
    """Replace the node at the end of the path."""
    parent = tree
    for field, i in path[:-1]:
        parent = getattr(parent, field) if i is None else getattr(parent, field)[i]
    field, i = path[-1]
    if i is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[i] = new


def shortened(node: ast.AST) -> str:
    """The code of a node on one line."""
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 90 else text[:89] + "…"


def survey(exercise: Exercise, source: str, names: dict[str, Any], seed: int = 0) -> Survey:
    """Judge all mutants of a solution cell; names: what the notebook knows before it."""
    start = time.perf_counter()
    bare = replace(exercise, mistakes=())
    judging = Judging(bare, None, seed, 0.0, LIMIT_S, Printed())
    judging.prepare()
    killed, survived = [], []
    for mutant in mutants(source):
        (killed if fails(judging, mutant, names) else survived).append(mutant.name)
    took = time.perf_counter() - start
    return Survey(exercise.id, tuple(killed), tuple(survived), took)


def fails(judging: Judging, mutant: Mutant, names: dict[str, Any]) -> bool:
    """Whether the check notices."""
    known = dict(names)
    name = judging.exercise.name
    try:
        with prints_kept(judging.printed):
            limited(lambda: exec(compile(mutant.tree, "mutant", "exec"), known), LIMIT_S)
            answer = known[name]
            for i, want in enumerate(judging.wanted):
                got = limited(lambda i=i: judging.outcome(answer, i), LIMIT_S)
                if unlike(want, got, judging.exercise) is not None:
                    return True
    except (Exception, TimeUp):
        return True
    return False


def of_notebook(path: Path) -> Iterator[Survey]:
    """All exercises of a master that have solutions in it."""
    for cell, names, failed in cells.definitions(cells.read(path), path.name):
        if failed is not None:
            raise failed
        assert cell.exercise is not None
        yield survey(exercises.find(cell.exercise), cell.source, names)


def main(lessons: list[str]) -> int:
    """Print kill rates and survivors."""
    for lesson in lessons or sorted(master.paths()):
        for one in of_notebook(master.paths()[master.find(lesson).number]):
            total = len(one.killed) + len(one.survived)
            sys.stdout.write(f"{one.id}  {one.rate:.1%} of {total} mutants, {one.seconds:.1f} s\n")
            sys.stdout.writelines(f"   survived  {name}\n" for name in one.survived)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
