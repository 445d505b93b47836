"""Actions of `minids lessons` that write: open a workbook, release a course, grade a class."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids_cli import grade, lab, show

WORDS = {
    "new": "{name} written",
    "kept": "{name} was there and is kept as it is",
    "beside": "the lesson is newer than your workbook, which is kept; the new one is {name}",
}


def add_actions(action: Callable[..., Any]) -> None:
    """open, release, grade."""
    opening = action("open", "write a workbook into your folder and open it", run_open)
    opening.add_argument("lesson", metavar="NN", help="7, 07 or 07-name")
    opening.add_argument(
        "--catch-up", action="store_true", help="with the lessons before it, solved"
    )
    lab.flags(opening)
    releasing = action("release", "write a course for nbgrader", run_release)
    releasing.add_argument("lessons", metavar="NN", nargs="*", help="only these (default: all)")
    releasing.add_argument("--to", metavar="DIR", required=True, help="a new or empty folder")
    grade.add(action("grade", "the same as minids grade", grade.run))


def run_open(args: argparse.Namespace) -> int:
    """Lay the workbook into the folder; then JupyterLab, where a person is watching."""
    from minids.lab import folder, master

    lesson = master.find(args.lesson)
    place = folder.chosen(args.folder)
    folder.check(place)
    if args.dry_run:
        return lab.start(args, place, place / f"{lesson.name}.ipynb")
    folder.prepare(place)
    given = folder.catch_up(lesson, place) if args.catch_up else []
    laid = folder.lay(lesson, place)
    if args.json:
        about = {"state": laid.state, "workbook": str(laid.path), "catch_up": list(map(str, given))}
        show.emit_json({"lesson": lesson.name} | about)
        return 0
    print(WORDS[laid.state].format(name=laid.path))
    if given:
        size = sum(path.stat().st_size for path in given)
        what = f"{len(given)} files, {show.n_bytes(size)}"
        print(f"the lessons before it, solved: {given[0].parent} ({what})")
    return lab.start(args, place, laid.path)


def run_release(args: argparse.Namespace) -> int:
    """Masters as nbgrader's source/."""
    from minids.lab import master
    from minids.lab.release import release

    if not args.lessons and not master.paths():
        raise UserError("lessons", f"none in {master.folder()}")
    chosen = args.lessons or list(master.paths())
    lessons = [master.find(name) for name in dict.fromkeys(chosen)]
    files = release([one for one in lessons if one.exercises], Path(args.to))
    if args.json:
        show.emit_json({"files": [str(path) for path in files]})
        return 0
    print(f"{len(files) - 1} lessons in {Path(args.to) / 'source'}; next, in {args.to}:")
    print("  nbgrader generate_assignment NAME · nbgrader autograde NAME · or minids grade")
    return 0
