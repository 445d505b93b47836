"""Stories whose exact probability is known: the corpus with a loss floor.

A story is told by a small program with a world in its head: who is where, who owns what, who wants
what. It makes one random choice after another, each from a list known at that moment, and so the
probability of a story is the product over its choices:

    −log2 p(story) = Σ log2(length of the list)     bits, exact (log2 of total/own where weighted)

Different choices always give different text, hence this is the probability of the *text*. Averaged
over stories it is the entropy of the source, the loss that no model can beat. What follows from
the world ("the kettle now belonged to …") is no choice and costs nothing, to who remembers: there a
model that forgets loses, and there the cloze test asks.

Story i depends on (seed, i) alone. Every draw is `random.Random.random`, the one stream that Python
promises to keep.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from minids.data import tales_words as words
from minids.data.tales_story import World, tell

T = TypeVar("T")
LOG2 = [math.log2(n) if n else 0.0 for n in range(4096)]
STRIDE = 1 << 40  # seeds of one corpus lie this far from those of the next


class Fact(NamedTuple):
    """A place in a story whose continuation follows from what was told before."""

    prefix: str  # the story up to it
    answer: str  # what must follow, with its leading blank
    distractors: list[str]  # of the same kind, from the same story where possible
    kind: str  # owner · place · thing · person · skill


class Tale(NamedTuple):
    """One story."""

    text: str
    log2_prob: float  # exact log2 of the probability of the text
    facts: list[Fact]


class Teller:
    """Makes choices, counts their bits, collects the text."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw, self.bits = draw, 0.0
        self.parts: list[str] = []
        self.facts: list[Fact] = []

    def pick(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """One of the options; costs log2 of their number, or of total/own weight."""
        n = len(options)
        if weights is None:
            self.bits += LOG2[n]
            return options[int(self.draw() * n)]
        ends = list(itertools.accumulate(weights))
        chosen = bisect.bisect(ends, int(self.draw() * ends[-1]))
        self.bits += LOG2[ends[-1]] - LOG2[weights[chosen]]
        return options[chosen]

    def maybe(self, times: int, out_of: int) -> bool:
        """True `times` out of `out_of`."""
        return self.pick((True, False), (times, out_of - times))

    def say(self, text: str) -> None:
        """Text that follows from what was chosen; free."""
        self.parts.append(text)

    def word(self, options: Sequence[str], before: str = " ", after: str = "") -> str:
        """Choose a word and say it at once."""
        chosen = self.pick(options)
        self.say(f"{before}{chosen}{after}")
        return chosen

    def recall(self, answer: str, kind: str, others: Sequence[str], after: str = "") -> None:
        """Say what the world makes certain, and note it for the cloze test."""
        distractors = [f" {other}" for other in others if other != answer]
        if distractors:
            self.facts.append(Fact("".join(self.parts), f" {answer}", distractors, kind))
        self.say(f" {answer}{after}")


def tale(seed: int, index: int) -> Tale:
    """Story `index` of corpus `seed`."""
    teller = Teller(random.Random(seed * STRIDE + index).random)
    tell(teller, World())
    return Tale("".join(teller.parts), -teller.bits, teller.facts)


def generate(seed: int, n: int, start: int = 0) -> Iterator[Tale]:
    """Stories start … start + n − 1."""
    return (tale(seed, index) for index in range(start, start + n))


def vocabulary() -> list[str]:
    """Every word that a list may give, sorted."""
    lists = (value for name, value in vars(words).items() if name.isupper())
    return sorted({word for one in lists for word in one})


class Listener(Teller):
    """Tells along a given text: takes only choices that agree with it, and sums over all of them.

    An independent way to a story's probability. Where a choice is silent, `plan` says which option
    to try; the text decides the others.
    """

    def __init__(self, text: str, plan: list[int]) -> None:
        super().__init__(lambda: 0.0)
        self.rest, self.plan, self.silent = text, plan, []

    def pick(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        place, n = len(self.silent), len(options)
        chosen = self.plan[place] if place < len(self.plan) else 0
        self.silent.append(n)
        weights = weights or [1] * n
        self.bits += LOG2[sum(weights)] - LOG2[weights[chosen]]
        return options[chosen]

    def say(self, text: str) -> None:
        if not self.rest.startswith(text):
            raise Mismatch
        self.rest = self.rest[len(text) :]

    def word(self, options: Sequence[str], before: str = " ", after: str = "") -> str:
        fits = [o for o in options if self.rest.startswith(f"{before}{o}{after}")]
        longest = [o for o in fits if not any(p != o and p.startswith(o) for p in fits)]
        if len(longest) != 1:
            raise Mismatch
        self.bits += LOG2[len(options)]
        self.say(f"{before}{longest[0]}{after}")
        return longest[0]

    def recall(self, answer: str, kind: str, others: Sequence[str], after: str = "") -> None:
        del kind, others
        self.say(f" {answer}{after}")


class Mismatch(Exception):
    """The choices made so far do not lead to the text."""


def log2_prob(text: str) -> float:
    """log2 of the probability that a story is this text, −inf for any other text.

    Sums over every way to tell it; there is exactly one (tested), so it equals `Tale.log2_prob`.
    """
    plans: list[list[int]] = [[]]
    total = 0.0
    while plans:
        plan = plans.pop()
        listener = Listener(text, plan)
        with suppress(Mismatch):
            tell(listener, World())
            total += 0.0 if listener.rest else 2.0**-listener.bits  # pyright: ignore[reportOperatorIssue]
        for place in range(len(plan), len(listener.silent)):
            before = plan + [0] * (place - len(plan))
            plans += [[*before, option] for option in range(1, listener.silent[place])]
    return math.log2(total) if total else -math.inf
