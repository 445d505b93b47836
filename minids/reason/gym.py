"""`--task gym:NAME`: the data sets of reasoning-gym as tasks, and math-verify as a rule that pays.

A problem is made by the package from a seed and judged by its own rule, in a process of its own
(`outside`). There is no reference way of thinking, so nothing for a cold start but the answer; the
level is the package's own, 1.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import random
import string
from collections.abc import Callable

from minids.errors import UserError
from minids.reason import outside
from minids.reason.tasks import Problem
from minids.reason.verify import Verdict

PREFIX = "gym:"


def maker(name: str) -> Callable[[random.Random, int], Problem]:
    """Of `gym:NAME`. Raises UserError for a data set that does not exist."""
    return functools.partial(make, name.removeprefix(PREFIX))


def make(name: str, generator: random.Random, _level: int) -> Problem:
    """A problem of a data set."""
    import reasoning_gym  # pyright: ignore[reportMissingImports]

    seed = generator.randrange(1 << 31)
    entry = reasoning_gym.create_dataset(name, size=1, seed=seed)[0]
    question = {"rule": "gym", "name": name, "seed": seed}

    def verify(text: str) -> Verdict:
        return outside.verdict(question, text)

    prompt, answer = str(entry["question"]).strip(), str(entry["answer"] or "")
    return Problem(PREFIX + name, prompt, "", answer, verify, string.printable)


def check(name: str, level: int) -> None:
    """Raises UserError: no package, no such data set, no such level."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise outside.missing("reasoning-gym")
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    wanted = name.removeprefix(PREFIX)
    if wanted not in DATASETS:
        near = difflib.get_close_matches(wanted, DATASETS, 1)
        hint = f"did you mean gym:{near[0]}?" if near else ""
        allowed = f"one of reasoning-gym's {len(DATASETS)} data sets"
        raise UserError("task", f"no data set {wanted!r}", allowed, hint=hint)
    if level != 1:
        raise UserError("level", f"{level} of {name}", "1: the package's own difficulty")


def same_mathematics(problem: Problem, text: str) -> Verdict:
    """rl.verifier=math: equal as mathematics, whatever it looks like."""
    return outside.verdict({"rule": "math", "answer": problem.answer}, text)
