"""Test-time compute: what several tries, a vote or a judge buy, and for how many tokens.

From n completions of a problem, what k of them would have given is not a matter of luck: it is a
mean over all subsets of size k, and each of these means has a closed form. So one sampling serves
every k ≤ n, without bias. (pass@k: Chen et al. 2021, eq. 1.)

Axes: n completions of a problem, c of them right, k of them drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from math import comb
from typing import NamedTuple

from minids.reason.passrate import Attempt
from minids.reason.rewards import split_completion
from minids.reason.verify import Verdict

RESAMPLES = 1000


def pass_at_k(n: int, c: int, k: int) -> float:
    """How likely one of k is right: 1 − (n−c choose k) / (n choose k)."""
    return 1 - comb(n - c, k) / comb(n, k)


def best_of_k(score: Sequence[float], right: Sequence[bool], k: int) -> float:
    """How likely the one of k with the highest score is right; equals are drawn by lot."""
    groups: dict[float, list[bool]] = {}
    for s, r in zip(score, right, strict=True):
        groups.setdefault(s, []).append(r)
    found, below = 0.0, 0
    for s in sorted(groups):
        members = groups[s]
        ways = comb(below + len(members), k) - comb(below, k)  # subsets whose best is in here
        found += ways * sum(members) / len(members)
        below += len(members)
    return found / comb(len(score), k)


def majority_at_k(answers: Sequence[str | None], right: str, k: int) -> float:
    """How likely the commonest answer of k is the right one; a tie is drawn by lot.

    None is a completion without an answer: it costs a try and does not vote. For every count m of
    the right answer the others are a product of polynomials: x counts tries, the second index
    counts answers that tie at m.
    """
    votes = Counter(answers)
    silent, mine = votes.pop(None, 0), votes.pop(right, 0)
    found = 0.0
    for m in range(1, min(mine, k) + 1):
        ways = {(i, 0): comb(silent, i) for i in range(min(silent, k - m) + 1)}
        for n_other in votes.values():
            ways = times(ways, n_other, m, k - m)
        drawn = sum(w / (1 + tied) for (tries, tied), w in ways.items() if tries == k - m)
        found += comb(mine, m) * drawn
    return found / comb(len(answers), k)


def times(
    ways: dict[tuple[int, int], int], n_other: int, m: int, room: int
) -> dict[tuple[int, int], int]:
    """One more wrong answer, drawn at most m times."""
    found: dict[tuple[int, int], int] = {}
    for (tries, tied), w in ways.items():
        for i in range(min(n_other, m, room - tries) + 1):
            key = tries + i, tied + (i == m)
            found[key] = found.get(key, 0) + w * comb(n_other, i)
    return found


def answer_of(text: str) -> str | None:
    """What a completion votes for."""
    parts = split_completion(text)
    return None if isinstance(parts, Verdict) else parts[1].strip()


class Point(NamedTuple):
    """One way of spending tokens: what it got right on every problem, as a probability."""

    way: str  # pass · vote · confidence · learned · budget · wait
    k: int
    tokens: float  # spent on a problem, mean
    values: list[float]


def points_at(tried: Sequence[Attempt], samples: int, ks: Sequence[int]) -> list[Point]:
    """All ways that need nothing but samples.  tried: a problem's completions side by side"""
    groups = [tried[i : i + samples] for i in range(0, len(tried), samples)]
    tokens = sum(len(a.tokens) for a in tried) / len(tried)
    found: list[Point] = []
    for k in ks:
        spent = k * tokens
        right = [[a.reward.verdict.right for a in g] for g in groups]
        found.append(Point("pass", k, spent, [pass_at_k(samples, sum(r), k) for r in right]))
        votes = [majority_at_k([voted(a) for a in g], g[0].problem.answer, k) for g in groups]
        found.append(Point("vote", k, spent, votes))
    return found + chosen_at(tried, [a.confidence for a in tried], samples, ks, "confidence")


def chosen_at(
    tried: Sequence[Attempt], scores: Sequence[float], samples: int, ks: Sequence[int], way: str
) -> list[Point]:
    """The best of k by any score, one for each completion."""
    right = [a.reward.verdict.right for a in tried]
    tokens = sum(len(a.tokens) for a in tried) / len(tried)
    parts = [slice(i, i + samples) for i in range(0, len(tried), samples)]
    return [
        Point(way, k, k * tokens, [best_of_k(scores[part], right[part], k) for part in parts])
        for k in ks
    ]


def voted(one: Attempt) -> str | None:
    """Its answer; every right one counts as the same, however it is written."""
    return one.problem.answer if one.reward.verdict.right else answer_of(one.text)


def bootstrap(values: Sequence[float], seed: int = 1) -> tuple[float, float, float]:
    """Mean over problems with the 95 % interval of 1,000 resamplings of them."""
    n, stream = len(values), random.Random(seed)
    means = sorted(sum(stream.choices(values, k=n)) / n for _ in range(RESAMPLES))
    cut = RESAMPLES // 40
    return sum(values) / n, means[cut], means[-1 - cut]
