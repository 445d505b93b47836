"""Judging an answer: right, or which mistake it is, or the smallest case that shows it wrong.

A mistake is recognised when the answer gives the same as the mistake on every case where that
mistake shows, and this explains at least half of what is wrong. All within two seconds.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minids.lab.answer import BLANK, codes, first_lines, lines_of, parameters
from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.limits import Printed, TimeUp, limited, prints_kept

if TYPE_CHECKING:
    from minids.lab.attempt import Outcome
    from minids.lab.compare import Difference

LIMIT_S = 2.0
SHARE = 0.7  # of the time goes to the answer, the rest to the mistakes
SLOWER = 10.0  # times the library's own time is always granted: the machine may be busy


@dataclass(frozen=True)
class Verdict:
    """What came out. True where a truth value is wanted if and only if the answer is right."""

    id: str
    kind: str  # right blank mistake different error time signature callable
    says: str  # one or two sentences
    mistake: str | None = None  # its name, if it is a known one
    case: str = ""  # the case that shows it, in words
    expected: str = ""
    got: str = ""
    error: str = ""  # type and message of the answer's own exception
    trace: tuple[str, ...] = ()  # lines of the answer's code that led to it
    notes: tuple[str, ...] = ()  # what helps, and what was printed
    seconds: float = field(default=0.0, compare=False)

    @property
    def right(self) -> bool:
        """Whether the answer passed every case."""
        return self.kind == "right"

    @property
    def attempted(self) -> bool:
        """Whether there was an answer at all."""
        return self.kind != "blank"

    @property
    def line(self) -> str:
        """The verdict on one line: for a table, a log, a report."""
        return f"{self.id}  {self.mistake or self.says}"

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        """Nothing: `check` has shown it already."""


def judge(exercise: Exercise, answer: Any, seed: int = 0, limit: float = LIMIT_S) -> Verdict:
    """Try the answer on the cases of this seed.

    Another seed gives other instances. Never raises, except KeyboardInterrupt; and what the
    exercise itself does wrong (its cases, its reference) comes through, for its author.
    """
    start = time.monotonic()
    printed = Printed()
    verdict = Judging(exercise, answer, seed, start, limit, printed).verdict()
    notes = (*verdict.notes, *said(printed))
    fields = vars(verdict) | {"notes": notes, "seconds": time.monotonic() - start}
    return Verdict(**fields)


class Judging:
    """One judgement on its way."""

    def __init__(
        self,
        exercise: Exercise,
        answer: Any,
        seed: int,
        start: float,
        limit: float,
        printed: Printed,
    ) -> None:
        self.exercise, self.answer, self.seed = exercise, answer, seed
        self.start, self.limit, self.printed = start, limit, printed
        self.cases: list[Case] = []
        self.wanted: list[Outcome] = []

    def verdict(self) -> Verdict:
        """Guards, the library's results, the answer's, then what the differences mean."""
        if problem := uncallable(self.exercise, self.answer):
            return Verdict(self.exercise.id, "callable", problem)
        renamed = misnamed(self.exercise, self.answer)
        if renamed is not None:
            return renamed
        took = self.prepare()
        given = self.answer_within(max(self.limit * SHARE, SLOWER * took))
        return given if isinstance(given, Verdict) else self.compare(given)

    def prepare(self) -> float:
        """Make the cases and the library's results → seconds that those took."""
        import torch

        self.cases = list(self.exercise.cases(torch.Generator().manual_seed(self.seed)))
        began = time.monotonic()
        self.wanted = [self.outcome(self.exercise.reference, i) for i in range(len(self.cases))]
        for outcome in self.wanted:
            if outcome.error is not None:
                raise outcome.error
        return time.monotonic() - began

    def outcome(self, answer: Any, i: int) -> Outcome:
        """Case i, with a randomness of its own."""
        from minids.lab.attempt import attempt

        return attempt(self.exercise, answer, self.cases[i], self.seed + i)

    def answer_within(self, seconds: float) -> list[Outcome] | Verdict:
        """The student's outcomes, or why there are none."""
        given: list[Outcome] = []
        deadline = time.monotonic() + seconds
        for i in range(len(self.cases)):
            try:
                with prints_kept(self.printed):
                    left = deadline - time.monotonic()
                    given.append(limited(lambda i=i: self.outcome(self.answer, i), left))
            except TimeUp:
                return self.too_slow(i, seconds)
            stopped = self.blank(given[-1].error, first=i == 0)
            if stopped is not None:
                return stopped
        return given

    def too_slow(self, i: int, seconds: float) -> Verdict:
        """The time ran out in case i."""
        from minids.lab.attempt import described

        says = (
            f"stopped after {seconds:.1f} seconds, in case {i + 1} of {len(self.cases)}: a loop "
            "that never ends, or far more work than the task needs"
        )
        case = self.cases[i]
        what = described(self.exercise, case)
        return Verdict(self.exercise.id, "time", says, case=titled(case, what))

    def blank(self, error: BaseException | None, *, first: bool) -> Verdict | None:
        """The verdict if the answer is not written yet, or leans on one that is not."""
        if not isinstance(error, NotImplementedError):
            return None
        frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
        last = frames[-1].frame.f_code if frames else None
        if last is None or BLANK not in last.co_names:
            return None  # torch raises the same type for dtypes that an operation lacks
        inside = {c.co_name for c in codes(self.answer)}
        if last.co_name not in inside:
            says = f"not attempted yet: it calls {last.co_name}, which is still blank"
            return Verdict(self.exercise.id, "blank", says)
        if first:
            return Verdict(self.exercise.id, "blank", "not attempted yet")
        return None

    def compare(self, given: Sequence[Outcome]) -> Verdict:
        """Right, a known mistake, or the first case that differs."""
        from minids.lab.attempt import unlike

        pairs = zip(self.wanted, given, strict=True)
        found = [unlike(want, got, self.exercise) for want, got in pairs]
        bad = [i for i, difference in enumerate(found) if difference]
        if not bad:
            says = f"right on {len(self.cases)} cases"
            return Verdict(self.exercise.id, "right", says)
        first = bad[0]
        shown = found[first]
        assert shown is not None
        if mistake := self.recognised(given, bad):
            return self.shows(mistake.says, first, given[first], shown, mistake.name)
        return self.shows(shown.says, first, given[first], shown, None)

    def recognised(self, given: Sequence[Outcome], bad: list[int]) -> Mistake | None:
        """The mistake that explains most."""
        best, most = None, 0
        for mistake in self.exercise.mistakes:
            if time.monotonic() - self.start > max(self.limit, 4 * SHARE * self.limit) * 0.95:
                break
            explained = self.explained(mistake, given)
            agree = sum(i in explained for i in bad)
            if 2 * agree >= len(bad) and len(explained) > most:
                best, most = mistake, len(explained)
        return best

    def explained(self, mistake: Mistake, given: Sequence[Outcome]) -> set[int]:
        """Cases where the answer does as the mistake; none if it does not where that shows."""
        from minids.lab.attempt import unlike

        agree, shows = set(), False
        for i, (want, got) in enumerate(zip(self.wanted, given, strict=True)):
            wrong = self.outcome(mistake.answer, i)
            differs = unlike(want, wrong, self.exercise) is not None
            shows |= differs
            if unlike(wrong, got, self.exercise) is None:
                agree.add(i)
            elif differs:
                return set()
        return agree if shows else set()

    def shows(
        self, says: str, i: int, got: Outcome, difference: Difference, mistake: str | None
    ) -> Verdict:
        """The verdict with its case."""
        from minids.lab.attempt import described

        case = titled(self.cases[i], described(self.exercise, self.cases[i]))
        plain = difference.says in (says, "the result is wrong")
        where = [
            *([] if plain else [difference.says]),
            *([difference.where] if difference.where else []),
        ]
        notes = (": ".join(where),) if where else ()
        kind = "mistake" if mistake else "different"
        error = got.error or (got.gradient_error if difference.what == "error" else None)
        if error is None:
            sides = difference.expected, difference.got
            return Verdict(self.exercise.id, kind, says, mistake, case, *sides, notes=notes)
        lines = first_lines(str(error), 6)
        text = f"{type(error).__name__}: {lines}" if lines else type(error).__name__
        other = self.signature(error)
        if mistake is None and other is not None:
            return other
        if mistake is None:
            kind, says = "error", difference.says
        trace = lines_of(error, self.answer)
        return Verdict(self.exercise.id, kind, says, mistake, case, error=text, trace=trace)

    def signature(self, error: BaseException) -> Verdict | None:
        """A TypeError before the first line of the answer: it takes other arguments."""
        if isinstance(error, TypeError) and not lines_of(error, self.answer):
            return wrong_signature(self.exercise, self.answer)
        return None


def titled(case: Case, what: str) -> str:
    """A case in words."""
    return f"{case.label}: {what}" if case.label else what


def uncallable(exercise: Exercise, answer: Any) -> str:
    """Why this is no answer at all, "" if it may be one."""
    if callable(answer):
        return ""
    wants = f'check("{exercise.id}", {exercise.name})'
    if answer is None or type(answer).__module__ == "builtins":
        return f"got {type(answer).__name__}, not a function; the function itself goes in: {wants}"
    return (
        f"got a result ({type(answer).__name__}), not a function; the function itself goes in, "
        f"without brackets behind it: {wants}"
    )


def misnamed(exercise: Exercise, answer: Any) -> Verdict | None:
    """The same parameters in another order would give wrong results without an error."""
    wanted, found = parameters(exercise.reference), parameters(answer)
    if wanted != found and sorted(wanted) == sorted(found):
        return wrong_signature(exercise, answer)
    return None


def wrong_signature(exercise: Exercise, answer: Any) -> Verdict:
    """What it takes and what it should take."""
    wanted = f"{exercise.name}({', '.join(parameters(exercise.reference))})"
    found = f"{exercise.name}({', '.join(parameters(answer))})"
    says = "the parameters are others than the task says, or in another order"
    return Verdict(exercise.id, "signature", says, expected=wanted, got=found)


def said(printed: Printed) -> tuple[str, ...]:
    """What the answer printed, if anything, cut."""
    if not printed.text.strip():
        return ()
    lines = printed.text.strip().splitlines()
    total = max(printed.lines, len(lines))
    cut = f", the first {min(5, len(lines))}" if total > 5 else ""
    body = "\n".join(line if len(line) <= 100 else line[:99] + "…" for line in lines[:5])
    return (f"your code printed {total} line{'s' * (total > 1)}{cut}:\n{body}",)
