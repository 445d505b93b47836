"""What a cell of a lesson may call. Answers are shown, and returned for whoever wants them."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from minids.errors import UserError
from minids.lab import cells, exercises, panel, progress
from minids.lab.answer import is_blank
from minids.lab.check import Verdict, judge
from minids.lab.predict import amount, calibration, compared, guess_of, number

if TYPE_CHECKING:
    from minids.lab.exercise import Prediction
    from minids.lab.predict import Guess

__all__ = ["calibration"]
T = TypeVar("T")
PACKAGE = "minids"
CODE_WIDTH = 108  # the library's 100 columns and their numbers


class Judged(NamedTuple):
    """A verdict and the very object it was about."""

    answer: Any
    verdict: Verdict


class Number(float):
    """A number that a cell does not print: its panel has said it."""

    def _ipython_display_(self) -> None:
        """Nothing."""


judged: dict[str, Judged] = {}  # by exercise: the last of this session
unasked: set[str] = set()  # judged after their cell; the next check only confirms


def check(name: str, answer: Any = None) -> Verdict | None:
    """Judge an answer and show what came out: right, which mistake, or where it differs."""
    try:
        exercise = exercises.find(name)
    except UserError as error:
        panel.show(panel.framed("✗ check", error.line(), panel.BAD))
        return None
    known = judged.get(name)
    if known and known.answer is answer and name in unasked:
        unasked.discard(name)
        sign, word, colour = panel.SIGNS[known.verdict.kind]
        result = known.verdict.mistake or word
        panel.show(panel.line(sign, f"{name}  {result} (as shown above)", colour))
        return known.verdict
    unasked.discard(name)
    verdict = judge(exercise, answer)
    judged[name] = Judged(answer, verdict)
    progress.checked(name, verdict.kind, verdict.mistake)
    panel.show(panel.of_verdict(verdict, exercise.title))
    return verdict


def hint(name: str) -> None:
    """The next of three hints. None of them is the answer."""
    exercise = exercises.find(name)
    given = min(progress.entry("exercises", name).get("hints", 0) + 1, len(exercise.hints))
    progress.change("exercises", name, hints=given)
    last = given == len(exercise.hints)
    body = [exercise.hints[given - 1]]
    if last:
        body += ["", f'that was the last; after an attempt there is solution("{name}")']
    panel.show(panel.framed(f"{name}  hint {given} of {len(exercise.hints)}", body))


def solution(name: str) -> None:
    """The library's own, after an attempt."""
    exercise = exercises.find(name)
    if not progress.entry("exercises", name).get("attempts"):
        text = f'{exercise.title}: first an attempt that check("{name}", …) has seen, then this'
        panel.show(panel.framed(f"○ {name}  solution", text, panel.CALM))
        return
    progress.change("exercises", name, solution=True)
    library(exercise.reference)


def predict(name: str, value: float | None = None) -> float:
    """Keep a guess and hand back the number that counts: yours, or the stated default."""
    prediction = exercises.find_prediction(name)
    note = "" if value is None else keep_guess(prediction, value)
    guess = guess_of(name)
    unit = f" {prediction.unit}" if prediction.unit else ""
    who = "no guess yet, the default counts" if guess.default else guess.who
    body = [
        prediction.question,
        "",
        f"{who}: {amount(guess.value)}{unit}",
        *([note] if note else []),
    ]
    panel.show(panel.framed(f"? {name}  predict, then run", body))
    return Number(guess.value)


def keep_guess(prediction: Prediction, value: Any) -> str:
    """Store a guess → why not, or what to know about it."""
    found, problem = number(prediction, value)
    if problem:
        return f"not taken: {problem}"
    before = guess_of(prediction.id)
    if before.own and before.measured is not None:
        return "" if found == before.value else "already measured; the guess from before counts"
    late = {"late": True} if before.measured is not None else {}
    change = {"predicted": found, "unit": prediction.unit} | late
    progress.change("predictions", prediction.id, **change)
    return "it was measured before this guess, which will not count" if late else ""


def reveal(name: str, measured: float) -> None:
    """Hold the guess against the measurement, and keep both."""
    prediction = exercises.find_prediction(name)
    guess: Guess = guess_of(name)
    progress.change("predictions", name, measured=float(measured))
    unit = f" {prediction.unit}" if prediction.unit else ""
    rows = {
        guess.who: f"{amount(guess.value)}{unit}",
        "measured": f"{amount(float(measured))}{unit}",
        "off by": compared(guess.value, float(measured)),
    }
    panel.show(panel.framed(f"! {name}  measured", [prediction.question, "", panel.grid(rows)]))


def library(thing: Any) -> None:
    """Show the library's file, class or function as it is written."""
    from rich.syntax import Syntax

    source, first = inspect.getsource(thing), 1
    if not isinstance(thing, ModuleType):
        first = inspect.getsourcelines(thing)[1]
    path = Path(inspect.getsourcefile(thing) or "?")
    parts = path.parts
    start = len(parts) - 1 - parts[::-1].index(PACKAGE) if PACKAGE in parts else len(parts) - 1
    last = first + source.count("\n") - 1
    where = f"{'/'.join(parts[start:])}, lines {first} to {last}"
    code = Syntax(
        source.rstrip(), "python", line_numbers=True, start_line=first, theme="default",
        background_color="default", word_wrap=True,
    )  # fmt: skip
    panel.show(panel.line("≡", where), code, width=CODE_WIDTH)


def yours(answer: T, reference: T) -> T:
    """The student's if it has passed its check in this session, else the library's."""
    if any(j.answer is answer and j.verdict.right for j in judged.values()):
        return answer
    return reference


@contextmanager
def yours_inside(module: ModuleType | str, **functions: Any) -> Iterator[None]:
    """For as long as the block runs, the library uses these functions instead of its own.

    Wherever the library has imported the original, it is replaced. A blank is not used.
    """
    owner = importlib.import_module(module) if isinstance(module, str) else module
    places = []
    for name, function in functions.items():
        if not hasattr(owner, name):
            known = ", ".join(n for n, f in vars(owner).items() if callable(f) and n[0] != "_")
            raise UserError("yours_inside", f"{owner.__name__} has no {name}", known)
        original = getattr(owner, name)
        if is_blank(function):
            panel.show(
                panel.line("○", f"{name} is still blank: the library uses its own", panel.CALM)
            )
            continue
        places += [
            (holder, attribute, original, function) for holder, attribute in holders(original)
        ]
    try:
        for holder, attribute, _, function in places:
            setattr(holder, attribute, function)
        yield
    finally:
        for holder, attribute, original, _ in places:
            setattr(holder, attribute, original)


def holders(original: Any) -> list[tuple[ModuleType, str]]:
    """Modules of the library that know this object, and by what name; never the checks."""
    lab = f"{PACKAGE}.lab"
    modules = [
        m
        for n, m in list(sys.modules.items())
        if n.startswith(f"{PACKAGE}.") and not n.startswith(lab)
    ]
    return [(m, n) for m in modules for n, value in list(vars(m).items()) if value is original]


def fast(full: T, short: T) -> T:
    """The short form where MINIDS_FAST=1 asks for it (tests), else the full one."""
    return short if progress.unattended() else full


def after_cell(find: Callable[[str], Any], source: str) -> None:
    """Check the exercise that a cell holds, unless the cell does so itself or is blank."""
    name = cells.exercise_in(source)
    if name is None or cells.calls_check(source):
        return
    try:
        exercise = exercises.find(name)
    except UserError:
        return
    answer = find(exercise.name)
    if answer is not None and not is_blank(answer):
        check(name, answer)
        unasked.add(name)


def watch_cells() -> None:
    """Check exercise cells after they have run; `hint` and `solution` at hand. In IPython only."""
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, "minids_lab", False) or os.environ.get("MINIDS_NO_HOOK"):
        return
    shell.minids_lab = True  # type: ignore[attr-defined]
    for helper in (hint, solution):  # every panel names them, no lesson has to import them
        shell.user_ns.setdefault(helper.__name__, helper)

    def ran(result: Any) -> None:
        if result.success and result.info is not None:
            after_cell(shell.user_ns.get, result.info.raw_cell or "")

    shell.events.register("post_run_cell", ran)


watch_cells()
