"""Problems without end whose answers can be checked: made from a seed, solved by a program.

Problem i of a task depends on (task, level, seed, i) only. A problem belongs to the held-out set by
a hash of its prompt alone, so that no seed and no level can carry one across. `level` is the one
knob of difficulty (1 … 9).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from minids.errors import UserError
from minids.reason.verify import Verdict

HELD_OUT = 8  # one prompt of so many is never trained on
LEVELS = (1, 9)
TRIES = 10_000
GYM = "gym:"  # data sets of others, by name


class Problem(NamedTuple):
    """A question, how to get to its answer step by step, and who judges."""

    task: str
    prompt: str
    scratchpad: str  # a reference way of thinking, for cold start
    answer: str
    verify: Callable[[str], Verdict]
    alphabet: str  # characters that the task's thinking consists of

    @property
    def completion(self) -> str:
        """The reference completion, tags and all."""
        return f"<think>{self.scratchpad}</think><answer>{self.answer}</answer>"

    @property
    def held_out(self) -> bool:
        """Whether this problem is kept for evaluation."""
        digest = hashlib.sha256(f"{self.task} {self.prompt}".encode()).digest()
        return digest[0] % HELD_OUT == 0


Maker = Callable[[random.Random, int], Problem]


def makers() -> dict[str, Maker]:
    """Every task by name."""
    from minids.reason import tasks_numbers, tasks_order

    return {
        "addition": tasks_numbers.addition,
        "sums": tasks_numbers.sums,
        "countdown": tasks_numbers.countdown,
        "sort": tasks_order.sort,
        "logic": tasks_order.logic,
    }


def check(name: str, level: int) -> None:
    """Raises UserError for a task or level that does not exist."""
    import difflib

    known = makers()
    if name.startswith(GYM):
        from minids.reason import gym

        return gym.check(name, level)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError("task", f"no task {name!r}", ", ".join(known), hint=hint)
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise UserError("level", f"{level} is out of range", f"{LEVELS[0]} … {LEVELS[1]}")
    return None


def maker_of(name: str) -> Maker:
    """The maker of a task that `check` has passed."""
    if name.startswith(GYM):
        from minids.reason import gym

        return gym.maker(name)
    return makers()[name]


def problem(name: str, level: int, seed: int, index: int, *, held_out: bool = False) -> Problem:
    """Problem `index` of a seed, from the training or the held-out side."""
    make = maker_of(name)
    generator = random.Random(f"{name} {level} {seed} {index} {held_out}")
    for _ in range(TRIES):
        made = make(generator, level)
        if made.held_out == held_out:
            return made
    raise UserError("level", f"{name} at level {level} has no such problems", "a higher level")


def problems(
    name: str, level: int, seed: int, *, held_out: bool = False, start: int = 0
) -> Iterator[Problem]:
    """Problems from `start` on."""
    check(name, level)
    index = start
    while True:
        yield problem(name, level, seed, index, held_out=held_out)
        index += 1


def held_out_set(name: str, level: int, n: int, seed: int = 0) -> list[Problem]:
    """n different held-out problems; fewer where the task has no more."""
    found: dict[str, Problem] = {}
    stream = problems(name, level, seed, held_out=True)
    for _ in range(20 * n):
        made = next(stream)
        found.setdefault(made.prompt, made)
        if len(found) == n:
            break
    return list(found.values())
