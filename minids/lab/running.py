"""Run the plan of one submission and judge what comes back.

The process may say how an answer failed, never that it is right: that is decided here, by comparing
its results with those of this process's own library.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.lab import exercises, wire
from minids.lab.attempt import Outcome
from minids.lab.check import LIMIT_S, Judging, Verdict, wrong_signature
from minids.lab.confine import Confined, Limits, Stopped
from minids.lab.exercise import Exercise
from minids.lab.limits import Printed
from minids.lab.submission import Plan, Step

START_S = 120.0  # to import torch, on a busy machine
judging = threading.Lock()  # torch's random state belongs to the whole process


class Found(NamedTuple):
    """What came out for one exercise, before points."""

    verdict: Verdict
    seconds: float = 0.0


def seed_of(seed: int, exercise: str) -> int:
    """A seed of its own for each exercise."""
    digest = hashlib.sha256(f"{seed} {exercise}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def run(
    names: Sequence[str], what: Plan, seed: int, limits: Limits, stop: threading.Event
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
                progress.run(Path(place), list(names), steps, seed)
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
    for name in names:
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
        verdict = replace(verdict, notes=(*verdict.notes, *notes, *printed))
        if verdict.error and is_memory(verdict.error):
            says = "your code asked for more memory than allowed"
            return replace(verdict, kind="memory", says=says)
        return verdict


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
        lines = getattr(args[2].error or args[2].gradient_error, "lines", ())
        return replace(verdict, trace=lines) if verdict.error else verdict

    def signature(self, error: BaseException) -> Verdict | None:
        """A TypeError without a line of the answer's."""
        if isinstance(error, TypeError) and not getattr(error, "lines", ()):
            return wrong_signature(self.exercise, self.answer)
        return None
