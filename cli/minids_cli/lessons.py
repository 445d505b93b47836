"""The course: which lessons there are, how far you are, hints, checks without a notebook."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids_cli import show

OTHERS = ("lessons_open",)  # files with more actions: add_actions(action)


def add(parser: argparse.ArgumentParser) -> None:
    """Actions of `minids lessons`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, does: str, run: Callable[[argparse.Namespace], int]) -> Any:
        one = actions.add_parser(name, help=does, description=does, allow_abbrev=False)
        for flag, what in (("--json", "machine-readable"), ("--debug", "tracebacks")):
            one.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=what)
        one.set_defaults(run_action=run)
        return one

    action("list", "all lessons and how far you are", run_list)
    checks = action("check", "judge the exercises in your workbooks", run_check)
    checks.add_argument("what", metavar="07|07.2", help="a lesson, or one of its exercises")
    checks.add_argument("--notebook", metavar="FILE", type=Path, help="not the one in your folder")
    hints = action("hint", "the next of three hints", run_hint)
    hints.add_argument("exercise", metavar="07.2")
    solved = action("solution", "the library's code, after an attempt", run_solution)
    solved.add_argument("exercise", metavar="07.2")
    for name in OTHERS:
        if find_spec(f"minids_cli.{name}"):
            import_module(f"minids_cli.{name}").add_actions(action)


def run(args: argparse.Namespace) -> int:
    """Do the action."""
    return args.run_action(args)


def run_list(args: argparse.Namespace) -> int:
    """A line per lesson; no torch."""
    from minids.lab import master, progress

    stored = progress.load()
    lessons, left_out = master.readable()
    for line in left_out:
        show.warn(line)
    rows = [about(lesson, stored) for lesson in lessons]
    if args.json:
        show.emit_json({"folder": str(progress.folder()), "lessons": rows})
        return 0
    lines = [in_columns(row) for row in rows]
    columns = ["", "lesson", "exercises", ">right", ">attempts", ">hints", ">predictions"]
    note = f"✓ right  ✗ tried  ○ not yet · progress in {progress.folder() / progress.NAME}"
    show.table("", columns, lines, note=note)
    return 0


def in_columns(row: dict[str, Any]) -> tuple[object, ...]:
    """A lesson as the table shows it."""
    exercises = row["exercises"]
    signs = ["✓" if e["right"] else "✗" if e["attempts"] else "○" for e in exercises]
    right = f"{signs.count('✓')} of {len(signs)}" if signs else "–"
    attempts, hints = (sum(e[part] for e in exercises) or "" for part in ("attempts", "hints"))
    guesses = row["predictions"] or ""
    return row["lesson"], row["title"], " ".join(signs), right, attempts, hints, guesses


def about(lesson: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """What is known of one lesson."""
    exercises = [
        {
            "id": name,
            "right": known.get("right"),
            "attempts": known.get("attempts", 0),
            "hints": known.get("hints", 0),
            "mistakes": known.get("mistakes", {}),
        }
        for name in lesson.exercises
        for known in [stored.get("exercises", {}).get(name, {})]
    ]
    guesses = stored.get("predictions", {})
    made = sum(k[:2] == lesson.number and "predicted" in guesses[k] for k in guesses)
    return {
        "lesson": lesson.number,
        "title": lesson.title,
        "exercises": exercises,
        "predictions": made,
    }


def run_check(args: argparse.Namespace) -> int:
    """Judge what stands in the workbook → 0 if all of it is right, else 1."""
    from minids.lab import cells, exercises, master, panel, progress
    from minids.lab.check import Verdict, judge

    whole = "." not in args.what
    lesson = master.find(args.what if whole else args.what.partition(".")[0])
    wanted = exercises.of_lesson(int(lesson.number)) if whole else (exercises.find(args.what),)
    path = args.notebook or progress.folder() / f"{lesson.name}.ipynb"
    if not path.is_file():
        hint = f"minids lessons open {lesson.number} makes one"
        raise UserError(str(path), "there is no workbook", hint=hint)
    if not wanted:
        raise UserError("lesson", f"{lesson.number} has no exercises")
    found: dict[str, tuple[Any, Exception | None]] = {}
    names = {exercise.id: exercise.name for exercise in wanted}
    for cell, known, failed in cells.definitions(cells.read(path), path.name):
        if cell.exercise in names:
            found[cell.exercise] = (None if failed else known.get(names[cell.exercise])), failed
    verdicts = []
    for exercise in wanted:
        answer, failed = found.get(exercise.id, (None, None))
        if failed is not None:
            says = "the cell does not run"
            verdict = Verdict(
                exercise.id, "error", says, error=f"{type(failed).__name__}: {failed}"
            )
        elif answer is None:
            says = f"{path.name} defines no {exercise.name} in a cell ### YOUR CODE {exercise.id}"
            verdict = Verdict(exercise.id, "callable", says)
        else:
            verdict = judge(exercise, answer)
            progress.checked(exercise.id, verdict.kind, verdict.mistake)
        verdicts.append(verdict)
        if not args.json:
            panel.show(panel.of_verdict(verdict, exercise.title))
    if args.json:
        show.emit_json([vars(v) | {"right": v.right} for v in verdicts])
    return 0 if all(v.right for v in verdicts) else 1


def run_hint(args: argparse.Namespace) -> int:
    """One more hint."""
    from minids.lab import hint

    hint(args.exercise)
    return 0


def run_solution(args: argparse.Namespace) -> int:
    """The library's own."""
    from minids.lab import solution

    solution(args.exercise)
    return 0
