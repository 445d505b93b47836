"""What an exercise is: the right answer, cases to try it on, and the wrong answers people give.

Each wrong answer is a whole function, so a mistake needs no rule to be recognised: whoever makes it
gets its outputs, and on random cases two different functions do not agree by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


class Case(NamedTuple):
    """One call: arguments, and what to call it in a message ("one token", "b=2 s=5")."""

    args: tuple[Any, ...]
    label: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012


class Mistake(NamedTuple):
    """A wrong answer that people give."""

    name: str  # two to five words: "mask after softmax"
    says: str  # what is wrong and why it matters, one or two sentences; never the fix in code
    answer: Any  # the student's whole function or class, made with this mistake
    # one that comes out in several ways is listed for each, under the same name


@dataclass(frozen=True)
class Exercise:
    """One thing to write, and all that is known about how it goes wrong.

    `answer` is what a student may hand in: a function, or a class. `call(answer, case)` runs it on
    a case → tensor, number, text, or nested tuples, lists and dicts of them; by default
    `answer(*case.args, **case.options)`. `cases(generator)` makes the cases, smallest first, of
    several shapes and dtypes, so small that all of them and all mistakes run within two seconds;
    other seed, other cases.
    """

    id: str  # "07.2": lesson, number
    name: str  # of the function or class that the student defines
    title: str  # what it does, a few words
    reference: Any  # the library's own
    cases: Callable[[torch.Generator], Iterable[Case]]
    mistakes: tuple[Mistake, ...]  # at least three
    hints: tuple[str, str, str]  # where to look · which idea · almost, but never the answer
    call: Callable[[Any, Case], Any] = lambda answer, case: answer(*case.args, **case.options)
    atol: float = 1e-5
    rtol: float = 1e-4
    gradients: bool = False  # compare the gradients of all floating-point arguments as well
    may_change_inputs: bool = False  # in-place by design (an optimizer step)


class Prediction(NamedTuple):
    """A number to guess before an experiment shows it."""

    id: str  # "07.a": lesson, letter
    question: str  # one sentence, answered by one number
    unit: str  # "bytes per token", "nats", "" for a plain ratio
    default: float  # what counts when nobody guesses; honest, not the answer
    low: float  # guesses outside low … high are most likely in another unit
    high: float
