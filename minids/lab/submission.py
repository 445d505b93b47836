"""What a class handed in: which notebooks, whose, and what to run of each.

The student's cells are taken by their nbgrader names, the checks never: those come from the master.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.lab import master as masters
from minids.lab.cells import exercise_in
from minids.lab.master import Master
from minids.lab.needed import needed

HIDDEN = {".ipynb_checkpoints", "__pycache__"}


class Submission(NamedTuple):
    """One notebook of one student."""

    student: str
    path: Path
    file: str  # as seen from the folder that is graded


class Step(NamedTuple):
    """One thing to do in the submission's process. do: cell judge library"""

    do: str
    exercise: str = ""
    number: int = -1
    source: str = ""


class Plan(NamedTuple):
    """What to run of a notebook, and what is settled without running it."""

    steps: list[Step]
    refused: dict[str, tuple[str, str]]  # exercise → kind, reason
    notes: dict[str, list[str]]  # exercise → what the instructor should know


def find(folder: Path) -> list[Submission]:
    """All notebooks below a folder. Raises UserError if there are none.

    Layouts: notebooks side by side, named after students · a folder per student · nbgrader's
    submitted/STUDENT/ASSIGNMENT/ · one notebook.
    """
    if not folder.exists():
        raise UserError(str(folder), "does not exist", "a folder of notebooks")
    if folder.is_file():
        if folder.suffix != ".ipynb":
            raise UserError(str(folder), "is no notebook", "a folder of notebooks, or one .ipynb")
        return [Submission(student_of(folder), folder, folder.name)]
    inner = folder / "submitted" if (folder / "submitted").is_dir() else folder
    found = []
    for path in sorted(inner.rglob("*.ipynb")):
        parts = path.relative_to(inner).parts
        if path.is_file() and not HIDDEN & set(parts) and not path.name.startswith("."):
            student = parts[0] if len(parts) > 1 else student_of(path)
            found.append(Submission(student, path, str(path.relative_to(folder))))
    if not found:
        raise UserError(str(folder), "holds no notebook", "*.ipynb, also in folders per student")
    return found


def student_of(path: Path) -> str:
    """The name in a file's name: alice.ipynb, 07-kv-cache_alice.ipynb; else the folder's."""
    bare = re.sub(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*|\.new-\d+", "", path.stem).strip("_-. ")
    return bare or path.resolve().parent.name


def lesson_of(submission: Submission, notebook: dict[str, Any] | None) -> str:
    """The number of its lesson, by its cells, else its file's or folder's name; "" if unknown."""
    cells = notebook["cells"] if notebook else []
    numbers = Counter(name[:2] for cell in cells if (name := masters.exercise_of(name_of(cell))))
    if numbers:
        return numbers.most_common(1)[0][0]
    for part in reversed(Path(submission.file).parts):
        if found := re.search(r"(?<!\d)(\d\d)-[a-z]", part):
            return found[1]
    return ""


def name_of(cell: dict[str, Any]) -> str:
    """nbgrader's name of a cell, or what its `### YOUR CODE` says if that was lost."""
    if name := masters.grade_id(cell):
        return name
    found = exercise_in(masters.source(cell)) if cell["cell_type"] == "code" else None
    return f"ex-{found.replace('.', '-')}" if found else ""


def plan(lesson: Master, notebook: dict[str, Any]) -> Plan:
    """What to run: answers and what they rest on, the student's own cells, no experiments."""
    theirs = notebook["cells"]
    of_master = {masters.grade_id(c): masters.given(c) for c in lesson.notebook["cells"]}
    unnamed = {masters.given(c).strip() for c in lesson.notebook["cells"] if not name_of(c)}
    order = [name for name in of_master if name]
    checks = {s.strip(): name for name, s in of_master.items() if name.startswith("check-")}
    names = [name_of(c) or checks.get(masters.given(c).strip(), "") for c in theirs]
    refused, notes = tampering(order, names, theirs, of_master)

    code = [i for i, cell in enumerate(theirs) if cell["cell_type"] == "code"]
    run = [i for i in code if not names[i].startswith("check-")]
    always = {
        place
        for place, i in enumerate(run)
        if names[i] or masters.given(theirs[i]).strip() not in unnamed
    }
    chosen = {run[place] for place in needed([masters.given(theirs[i]) for i in run], always)}
    steps = [
        Step("library", name) for name in refused if f"ex-{name.replace('.', '-')}" not in names
    ]
    for i in code:
        exercise = masters.exercise_of(names[i])
        known = exercise in lesson.exercises
        if exercise in refused:
            steps.append(Step("library", exercise))
        elif names[i].startswith("check-") and known:
            steps.append(Step("judge", exercise))
        elif i in chosen:
            mine = exercise if known else ""
            steps.append(Step("cell", mine, i, masters.given(theirs[i])))
    return Plan(steps, refused, notes)


def tampering(
    order: Sequence[str], names: Sequence[str], cells: Sequence[dict[str, Any]], of_master: dict
) -> tuple[dict[str, tuple[str, str]], dict[str, list[str]]]:
    """Exercises that cannot be graded, and why; remarks on the others."""
    refused: dict[str, tuple[str, str]] = {}
    notes: dict[str, list[str]] = {}
    counts = Counter(names)
    places = {name: i for i, name in enumerate(names) if name in of_master and name}
    moved = set(places) - set(in_order(sorted(places, key=places.__getitem__), order))
    for name in order:
        exercise = masters.exercise_of(name)
        if exercise in refused:
            continue
        if not counts[name]:
            refused[exercise] = "tampered", f"cell {name} was deleted"
        elif counts[name] > 1:
            refused[exercise] = "tampered", f"cell {name} is there {counts[name]} times"
        elif cells[places[name]]["cell_type"] != "code":
            refused[exercise] = "tampered", f"cell {name} is no code cell any more"
        elif name in moved:
            refused[exercise] = "tampered", f"cell {name} was moved to another place"
        elif name.startswith("ex-"):
            if bare(cells[places[name]]) == masters.blank(of_master[name]).strip():
                refused[exercise] = "blank", "not attempted"
        elif bare(cells[places[name]]) != of_master[name].strip():
            notes.setdefault(exercise, []).append(f"cell {name} was changed; the master's was used")
    return refused, notes


def bare(cell: dict[str, Any]) -> str:
    """Its text, as an editor that trims it would leave it."""
    return "\n".join(line.rstrip() for line in masters.given(cell).strip().splitlines())


def in_order(found: Sequence[str], order: Sequence[str]) -> list[str]:
    """The longest part of `found` that stands in the given order."""
    rank = {name: i for i, name in enumerate(order)}
    ends: list[int] = []
    chains: list[list[str]] = []
    for name in found:
        place = bisect_left(ends, rank[name])
        chain = [*(chains[place - 1] if place else []), name]
        ends[place : place + 1], chains[place : place + 1] = [rank[name]], [chain]
    return chains[-1] if chains else []
