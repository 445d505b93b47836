"""Grade what a class handed in: every submission in a process of its own, judged in this one.

The process of a submission only runs the student's code on instances drawn from a secret seed and
sends back what it returned (worker.py). Right is what equals the results of the library in this
process, which no student's code ever entered. So a patched assert, check or reference changes
nothing, and an early exit is a failure. What remains: the library is open, so an answer may call
it; that is noted where it is plain to see.
"""

from __future__ import annotations

import ast
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.lab import exercises
from minids.lab import master as masters
from minids.lab import submission as submissions
from minids.lab.check import LIMIT_S, Verdict, judge
from minids.lab.confine import Limits
from minids.lab.master import Master
from minids.lab.running import run, seed_of
from minids.lab.submission import Step, Submission

WHOLE = "notebook"  # stands for the exercise where a row is about all of it


class Row(NamedTuple):
    """One exercise of one submission; or the notebook as a whole, if something happened to it."""

    student: str
    file: str
    lesson: str
    exercise: str
    points: float
    possible: float
    verdict: str  # right mistake different error blank time memory died tampered …
    mistake: str = ""
    says: str = ""
    details: tuple[str, ...] = ()  # case, expected, got, lines: for the feedback page
    notes: tuple[str, ...] = ()  # for the instructor
    seconds: float = 0.0


def grade(
    found: Sequence[Submission],
    *,
    seed: int | None = None,
    lesson: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
    jobs: int = 1,
) -> Iterator[list[Row]]:
    """The rows of each submission as soon as it is done. seed: secret, drawn if not given."""
    seed = secrets.randbits(62) if seed is None else seed
    lesson = masters.find(lesson).number if lesson else None
    read = {submission: opened(submission) for submission in found}
    numbers = {s: lesson or submissions.lesson_of(s, book) for s, (book, _) in read.items()}
    known = set(numbers.values()) - {""}
    only = known.pop() if len(known) == 1 else ""
    lessons: dict[str, Master] = {}
    for number in {*numbers.values(), only} - {""}:
        if number in masters.paths() or lesson:
            lessons[number] = masters.find(number)
            try_library(lessons[number], seed)
    stop = threading.Event()

    def work(submission: Submission) -> list[Row]:
        notebook, problem = read[submission]
        number = numbers[submission] or only
        return of_submission(submission, lessons.get(number), notebook, problem, seed, limits, stop)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(work, submission) for submission in found]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def opened(submission: Submission) -> tuple[dict[str, Any] | None, str]:
    """The notebook, or why there is none."""
    try:
        return masters.load(submission.path), ""
    except UserError as error:
        return None, error.what


def try_library(lesson: Master, seed: int) -> None:
    """The library's own answers must pass, or nobody's can."""
    for name in lesson.exercises:
        exercise = exercises.find(name)
        verdict = judge(exercise, exercise.reference, seed_of(seed, name), 10 * LIMIT_S)
        if not verdict.right:
            raise UserError(name, f"the library's own answer fails: {verdict.says}", code=1)


def of_submission(
    submission: Submission,
    lesson: Master | None,
    notebook: dict[str, Any] | None,
    problem: str,
    seed: int,
    limits: Limits,
    stop: threading.Event,
) -> list[Row]:
    """All rows of one notebook."""
    about = (submission.student, submission.file, lesson.number if lesson else "")
    if lesson is None or notebook is None:
        kind, says = ("unreadable", problem) if problem else ("unknown", "belongs to no lesson")
        names = lesson.exercises if lesson else ()
        rows = [Row(*about, n, 0, points(lesson, n), kind, says=says) for n in names]
        return [Row(*about, WHOLE, 0, 0, kind, says=says), *rows]
    what = submissions.plan(lesson, notebook)
    found, trouble = run(lesson.exercises, what, seed, limits, stop)
    rows = []
    if trouble:
        rows.append(Row(*about, WHOLE, 0, 0, trouble.kind, says=trouble.says))
    for name in lesson.exercises:
        verdict, seconds = found[name]
        possible = points(lesson, name)
        notes = (*what.notes.get(name, ()), *imports_of(name, what.steps))
        row = Row(
            *about,
            name,
            possible if verdict.right else 0,
            possible,
            verdict.kind,
            verdict.mistake or "",
            verdict.says,
            details_of(verdict),
            notes,
            round(seconds, 2),
        )
        rows.append(row)
    return rows


def points(lesson: Master | None, exercise: str) -> float:
    """What the master's check gives for it."""
    name = f"check-{exercise.replace('.', '-')}"
    for cell in lesson.notebook["cells"] if lesson else ():
        if masters.grade_id(cell) == name:
            return cell["metadata"]["nbgrader"]["points"]
    return 0


def details_of(verdict: Verdict) -> tuple[str, ...]:
    """What helps the student: the case, both sides, the error and its lines."""
    named = (
        ("case", verdict.case),
        ("expected", verdict.expected),
        ("got", verdict.got),
        ("error", verdict.error),
    )
    lines = [f"{name}: {text}" for name, text in named if text]
    return (*lines, *verdict.trace, *verdict.notes)


def imports_of(name: str, steps: Sequence[Step]) -> Iterator[str]:
    """A note if the student's cells import the library's answer."""
    wanted = {exercises.find(name).name, getattr(exercises.find(name).reference, "__name__", "")}
    for step in steps:
        if step.do != "cell" or not step.exercise:
            continue
        try:
            nodes = list(ast.walk(ast.parse(step.source)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minids"):
                for one in {alias.name for alias in node.names} & wanted:
                    yield f"cell {step.number} imports the library's {one}"
