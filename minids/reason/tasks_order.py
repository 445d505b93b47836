"""Tasks without arithmetic: sort a list; find out who tells the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from random import Random

from minids.reason.tasks import Problem
from minids.reason.verify import verify_words

NAMES = "ABCDE"


def sort(generator: Random, level: int) -> Problem:
    """level + 2 different numbers below 100, rising."""
    numbers = generator.sample(range(100), level + 2)
    steps, rest = [], list(numbers)
    while len(rest) > 1:  # the smallest of those left, again and again
        least = min(rest)
        rest.remove(least)
        steps.append(f"{least}: {' '.join(map(str, rest))}")
    answer = [str(n) for n in sorted(numbers)]
    prompt = f"sort {' '.join(map(str, numbers))}"
    verify = partial(verify_words, target=answer)
    return Problem("sort", prompt, ", ".join(steps), " ".join(answer), verify, "0123456789: ,")


Claim = tuple[int, int, bool]  # who says, about whom, that this one tells the truth


def logic(generator: Random, level: int) -> Problem:
    """Each of 3 … 5 people always tells the truth (T) or always lies (L); one world fits.

    Each says of another that they tell the truth or lie; the first also says what one of them is
    for certain: `A=T` is a fact that everybody knows.
    """
    count = min(level + 2, len(NAMES))
    while True:
        claims = []
        for who in range(count):
            about = generator.choice([p for p in range(count) if p != who])
            claims.append((who, about, generator.random() < 0.5))
        known, truth = generator.randrange(count), generator.random() < 0.5
        worlds = [w for w in all_worlds(claims, count) if w[known] == truth]
        if len(worlds) == 1:
            break
    world = worlds[0]
    said = " ".join(f"{NAMES[a]}:{NAMES[b]}{letter(c)}" for a, b, c in claims)
    prompt = f"who lies? {said} {NAMES[known]}={letter(truth)}"
    answer = [letter(w) for w in world]
    verify = partial(verify_words, target=answer)
    return Problem(
        "logic", prompt, follow(claims, known, world), " ".join(answer), verify, NAMES + "TL:= ,"
    )


def letter(truth: bool) -> str:
    """T or L."""
    return "T" if truth else "L"


def all_worlds(claims: Sequence[Claim], count: int) -> list[tuple[bool, ...]]:
    """The solver: every assignment in which exactly those who tell the truth are right."""
    return [
        world
        for world in product((True, False), repeat=count)
        if all(world[who] == (world[about] == says) for who, about, says in claims)
    ]


def follow(claims: Sequence[Claim], known: int, world: Sequence[bool]) -> str:
    """From what is known along the claims, one conclusion a step."""
    sure, steps = {known}, [f"{NAMES[known]}={letter(world[known])}"]
    for _ in claims:
        for who, about, says in claims:
            new = about if who in sure and about not in sure else who if about in sure else None
            if new is not None and new not in sure:
                sure.add(new)
                claim = f"{NAMES[who]}:{NAMES[about]}{letter(says)}"
                steps.append(f"{claim} {NAMES[new]}={letter(world[new])}")
    return ", ".join(steps)
