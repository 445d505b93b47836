"""Grade what a class handed in: every submission in a process of its own, judged in this one.

The process of a submission only runs the student's code on instances drawn from a secret seed and
sends back what it returned (worker.py). Right is what equals the results of the library in this
process, which no student's code ever entered. So a patched assert, check or reference changes
nothing, and an early exit is a failure. What remains: the library is open, so an answer may call
it; that is noted where it is plain to see.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.lab import exercises, wire
from minids.lab import master as masters
from minids.lab import submission as submissions
from minids.lab.attempt import Outcome
from minids.lab.check import LIMIT_S, Judging, Verdict, judge, wrong_signature
from minids.lab.confine import Confined, Limits, Stopped
from minids.lab.exercise import Exercise
from minids.lab.limits import Printed
from minids.lab.master import Master
from minids.lab.submission import Plan, Step, Submission

START_S = 120.0  # to import torch, on a busy machine
judging = threading.Lock()  # torch's random state belongs to the whole process
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


class Found(NamedTuple):
    """What came out for one exercise, before points."""

    verdict: Verdict
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


def seed_of(seed: int, exercise: str) -> int:
    """A seed of its own for each exercise."""
    digest = hashlib.sha256(f"{seed} {exercise}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


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
    found, trouble = run(lesson, what, seed, limits, stop)
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


def run(
    lesson: Master, what: Plan, seed: int, limits: Limits, stop: threading.Event
) -> tuple[dict[str, Found], Stopped | None]:
    """Verdicts of all exercises; and what ended the notebook, if that was no exercise's fault.

    Where an exercise ends its process, it fails, and the others are run again without it.
    """
    found = {n: Found(Verdict(n, kind, says)) for n, (kind, says) in what.refused.items()}
    steps, trouble = list(what.steps), None
    while trouble is None and any(s.do == "judge" and s.exercise not in found for s in steps):
        progress = Running(found, limits, stop)
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                progress.run(Path(place), list(lesson.exercises), steps, seed)
        except Stopped as stopped:
            step = progress.step
            if stopped.kind == "interrupted" or step is None or not step.exercise:
                where = f"cell {step.number}: " if step else ""
                trouble = Stopped(stopped.kind, where + stopped.says)
                break
            place_of = "in its cell" if step.do == "cell" else "while it was tried"
            verdict = Verdict(step.exercise, stopped.kind, f"{place_of}: {stopped.says}")
            found[step.exercise] = Found(verdict, progress.seconds)
            mine = step.exercise
            steps = [s if s.exercise != mine else Step("library", mine) for s in steps]
    for name in lesson.exercises:
        if name not in found:
            kind, says = (trouble.kind, trouble.says) if trouble else ("missing", "no check cell")
            found[name] = Found(Verdict(name, kind, f"not reached: {says}"))
    return found, trouble


class Running:
    """One process of a submission, step by step."""

    def __init__(self, found: dict[str, Found], limits: Limits, stop: threading.Event) -> None:
        self.found, self.limits, self.stop = found, limits, stop
        self.step: Step | None = None
        self.errors: list[str] = []  # of cells that belong to no exercise
        self.failed: dict[str, dict[str, Any]] = {}  # exercise → how its own cell ended
        self.since = 0.0

    @property
    def seconds(self) -> float:
        """How long the current step takes."""
        return time.monotonic() - self.since

    def run(self, place: Path, names: list[str], steps: Sequence[Step], seed: int) -> None:
        """All steps; fills `found`. Raises Stopped."""
        command = [sys.executable, "-P", "-m", "minids.lab.worker"]
        (place / "home").mkdir()
        with Confined(command, place / "home", self.limits, self.stop) as process:
            hello = {
                "token": process.token.hex(),
                "exercises": names,
                "cpu_s": int(self.limits.step_s * 4 * (len(steps) + 1) + START_S),
                "file_bytes": self.limits.file_bytes,
                "memory_bytes": self.limits.memory_bytes,
            }
            try:
                process.ask(json.dumps(hello).encode(), START_S)
            except Stopped as stopped:
                if stopped.kind == "interrupted":
                    raise
                last = (process.output.strip().splitlines() or [stopped.says])[-1]
                raise UserError("grade", f"no process could be started: {last}", code=1) from None
            for step in steps:
                self.step, self.since = step, time.monotonic()
                if step.do != "judge" or step.exercise not in self.found:
                    self.take(process, step, seed)

    def take(self, process: Confined, step: Step, seed: int) -> None:
        """One step."""
        request: dict[str, Any] = {"do": step.do, "exercise": step.exercise}
        if step.do == "cell":
            request |= {"number": step.number, "source": step.source}
        if step.do == "judge":
            request["seed"] = seed_of(seed, step.exercise)
        data = process.ask(json.dumps(request).encode(), self.limits.step_s)
        try:
            reply, tensors = wire.load(data)
            if step.do == "cell" and "error" in reply:
                self.note(step, reply)
            if step.do != "judge":
                return
            exercise = exercises.find(step.exercise)
            with judging:
                verdict = self.verdict(exercise, reply, tensors, request["seed"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            raise Stopped(
                "garbled", f"its results cannot be read ({type(error).__name__})"
            ) from error
        self.found[exercise.id] = Found(verdict, self.seconds)
        if not verdict.right:
            self.take(process, Step("library", exercise.id), seed)

    def note(self, step: Step, reply: dict[str, Any]) -> None:
        """How a cell ended."""
        if step.exercise:
            self.failed[step.exercise] = reply
        else:
            first = (str(reply["text"]).splitlines() or [""])[0]
            self.errors.append(f"cell {step.number} stopped: {reply['error']}: {first}"[:300])

    def verdict(
        self, exercise: Exercise, reply: dict[str, Any], tensors: dict[str, Any], seed: int
    ) -> Verdict:
        """What the reply is worth. The submission may say how it failed, never that it is right."""
        name, notes = exercise.id, tuple(self.errors[:3])
        if failed := self.failed.get(name):
            error = f"{failed['error']}: {failed['text']}"
            kind = "memory" if is_memory(error) else "error"
            trace = tuple(map(str, failed["lines"]))
            return Verdict(name, kind, "the cell stopped with an error", error=error, trace=trace)
        if "failed" in reply:
            return Verdict(name, "error", str(reply["failed"])[:500], notes=notes)
        if "missing" in reply:
            return Verdict(name, "missing", f"{exercise.name} is not defined", notes=notes)
        printed = tuple(str(text)[:2000] for text in reply.get("printed", ()))
        if "verdict" in reply:
            kind, says = str(reply["verdict"]["kind"]), str(reply["verdict"]["says"])[:500]
            kind = kind if kind in ("callable", "blank", "time") else "error"
            case = str(reply["verdict"].get("case", ""))[:300]
            return Verdict(name, kind, says, case=case, notes=(*notes, *printed))
        if reply["library"] is not False:
            return Verdict(name, "library", "the library's own function was handed in")
        outcomes = [wire.unpack_outcome(outcome, tensors) for outcome in reply["outcomes"]]
        verdict = Received(exercise, reply["parameters"], outcomes, seed).verdict()
        fields = vars(verdict) | {"notes": (*verdict.notes, *notes, *printed)}
        if verdict.error and is_memory(verdict.error):
            fields |= {"kind": "memory", "says": "your code asked for more memory than allowed"}
        return Verdict(**fields)


def is_memory(error: str) -> bool:
    """Whether an error says that memory ran out."""
    return (
        error.startswith("MemoryError") or "not enough memory" in error or "can't allocate" in error
    )


class Received(Judging):
    """A judgement on results that came from elsewhere; the answer itself is not here."""

    def __init__(
        self, exercise: Exercise, names: Sequence[str], given: list[Outcome], seed: int
    ) -> None:
        def answer() -> None:
            """Stands for the student's."""

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        listed = [inspect.Parameter(str(name), kind) for name in names]
        answer.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        super().__init__(exercise, answer, seed, time.monotonic(), 10 * LIMIT_S, Printed())
        self.given = given

    def answer_within(self, _seconds: float) -> list[Outcome]:
        """What was received."""
        if len(self.given) != len(self.cases):
            raise ValueError(f"{len(self.given)} results for {len(self.cases)} cases")
        return self.given

    def shows(self, *args: Any) -> Verdict:
        """With the lines that came along."""
        verdict = super().shows(*args)
        lines: Callable[[], tuple[str, ...]] = lambda: getattr(args[2].error, "lines", ())  # noqa: E731
        return Verdict(**(vars(verdict) | {"trace": lines()})) if verdict.error else verdict

    def signature(self, error: BaseException) -> Verdict | None:
        """A TypeError without a line of the answer's."""
        if isinstance(error, TypeError) and not getattr(error, "lines", ()):
            return wrong_signature(self.exercise, self.answer)
        return None
