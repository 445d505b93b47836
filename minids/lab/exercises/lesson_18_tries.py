"""Lesson 18: from n completions of a problem, what k of them would have given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import comb

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.reason.compute import best_of_k, majority_at_k, pass_at_k, times


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One of low … high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# 18.1 pass_at_k


def counts(generator: torch.Generator) -> Iterator[Case]:
    """None right, all right, too few wrong ones to fill k, and sizes that overflow floats."""
    for given in ((1, 0, 1), (1, 1, 1), (5, 0, 3), (5, 5, 3), (10, 3, 1), (10, 3, 5), (6, 4, 3)):
        yield Case(given, "n={} c={} k={}".format(*given))
    yield Case((2000, 3, 900), "two thousand tries")
    for _ in range(6):
        n = whole(generator, 4, 64)
        yield Case((n, whole(generator, 1, n - 1), whole(generator, 2, n - 1)), "at random")


PASS = Exercise(
    id="18.1",
    name="pass_at_k",
    title="how likely one of k tries is right",
    reference=pass_at_k,
    cases=counts,
    mistakes=(
        Mistake(
            "the share put into the formula",
            "1 − (1 − c/n)^k takes the measured share for the true one, and the same try may be "
            "drawn twice. It comes out too low, most of all where k is near n.",
            lambda n, c, k: 1 - (1 - c / n) ** k,
        ),
        Mistake(
            "only one try",
            "That is the share of right tries, whatever k is.",
            lambda n, c, k: c / n,  # noqa: ARG005
        ),
        Mistake(
            "all k must be right",
            "Counted are the draws in which every try is right. One is enough.",
            lambda n, c, k: comb(c, k) / comb(n, k),
        ),
        Mistake(
            "exactly one right",
            "Draws with two right tries and more are left out.",
            lambda n, c, k: c * comb(n - c, k - 1) / comb(n, k),
        ),
        Mistake(
            "the chance that all fail",
            "That is what is to be subtracted from 1.",
            lambda n, c, k: comb(n - c, k) / comb(n, k),
        ),
        Mistake(
            "chances are added",
            "k tries at a chance of c/n each are not k·c/n: the draws in which several are "
            "right are counted several times.",
            lambda n, c, k: min(1.0, k * c / n),
        ),
        Mistake(
            "right among the first k",
            "It asks whether there are right ones at all, as if the best k were drawn.",
            lambda n, c, k: float(c > 0),  # noqa: ARG005
        ),
    ),
    hints=(
        "Which draws of k from n are no success at all? Count those.",
        "All draws are equally likely, none has a try twice. A draw fails if its k tries all "
        "come from the wrong ones.",
        "How many ways are there to pick k of n, and how many to pick them from those that are "
        "wrong? `comb` counts ways, in whole numbers of any size.",
    ),
)


# 18.2 best_of_k


def scored(generator: torch.Generator) -> Iterator[Case]:
    """Scores with and without equals, an empty completion at −inf, all equal."""
    yield Case(([1.0, 2.0], [True, False], 1), "two tries, one drawn")
    yield Case(([1.0, 2.0], [True, False], 2), "two tries, both drawn")
    yield Case(([3.0, 3.0, 3.0], [True, False, False], 2), "all scores equal")
    yield Case(([0.5, 2.0, 2.0, 1.0], [True, True, False, False], 3), "two share the top")
    lowest = float("-inf")
    yield Case(([lowest, -0.5, lowest, -0.1], [False, True, False, False], 2), "empty ones")
    for n in (5, 8, 24):
        score = torch.randint(0, n, (n,), generator=generator).div(2).tolist()
        right = (torch.rand(n, generator=generator) < 0.4).tolist()
        yield Case((score, right, whole(generator, 2, n - 2)), f"n={n}")


def in_order(score, right, k, keep):
    """Equals are told apart by place: the first or the last of them wins."""
    order = sorted(range(len(score)), key=lambda i: (score[i], keep * i))
    won = sum(right[i] * comb(rank, k - 1) for rank, i in enumerate(order))
    return won / comb(len(score), k)


def with_return(score, right, k):
    n, found = len(score), 0.0
    for s in set(score):
        low, high = sum(x < s for x in score), sum(x <= s for x in score)
        share = sum(r for x, r in zip(score, right, strict=True) if x == s) / (high - low)
        found += ((high / n) ** k - (low / n) ** k) * share
    return found


def any_of_equals(score, right, k):
    best = {s: any(r for x, r in zip(score, right, strict=True) if x == s) for s in set(score)}
    return best_of_k(score, [best[s] for s in score], k)


BEST = Exercise(
    id="18.2",
    name="best_of_k",
    title="how likely the best-scored of k is right",
    reference=best_of_k,
    cases=scored,
    mistakes=(
        Mistake(
            "the score knows the answer",
            "A draw counts as won as soon as a right try is in it. That is pass@k: the score "
            "has not been asked.",
            lambda score, right, k: pass_at_k(len(score), sum(right), k),
        ),
        Mistake(
            "the best of all",
            "The winner of all n is taken, for every k. With few tries it is seldom among them.",
            lambda score, right, k: best_of_k(score, right, len(score)) * (k > 0),
        ),
        Mistake(
            "the first k only",
            "One draw is looked at, the first k. The mean over all draws costs nothing more and "
            "is far less a matter of luck.",
            lambda score, right, k: best_of_k(score[:k], right[:k], k),
        ),
        Mistake(
            "the first of equals wins",
            "Equal scores are decided by their place in the list. Where a score has few values, "
            "that place decides everything.",
            lambda score, right, k: in_order(score, right, k, -1),
        ),
        Mistake(
            "the last of equals wins",
            "Equal scores are decided by their place in the list; they are drawn by lot.",
            lambda score, right, k: in_order(score, right, k, 1),
        ),
        Mistake(
            "one right among equals is enough",
            "Where several share the highest score, the right one is taken as if it were known.",
            any_of_equals,
        ),
        Mistake(
            "drawn with return",
            "The same try may come twice in a draw. k tries are k different completions.",
            with_return,
        ),
        Mistake(
            "the lowest score wins",
            "The order is turned round: the least likely completion is handed in.",
            lambda score, right, k: best_of_k([-s for s in score], right, k),
        ),
        Mistake(
            "any of them",
            "The score plays no part: the share of right tries comes out for every k.",
            lambda score, right, k: sum(right) / len(right) + 0 * k,  # noqa: ARG005
        ),
    ),
    hints=(
        "Take one score after the other: in how many draws of k is it the highest?",
        "Its highest score is s if all k come from those up to s, but not all from those below.",
        "With `below` tries under s and m at s: the draws from below + m, less the draws from "
        "below, times the share of right ones at s; all that over the number of draws.",
    ),
)


# 18.3 majority_at_k


def ballots(generator: torch.Generator) -> Iterator[Case]:
    """Ties, silence, nobody right, and far too many subsets to list."""
    yield Case((["A"], "A", 1), "one try")
    yield Case((["A", "B"], "A", 2), "a tie of two")
    yield Case((["B", "B", "A"], "A", 2), "a wrong majority")
    yield Case((["A", "A", "B", "C"], "A", 3), "most, but not more than half")
    yield Case((["A", None, None, "B"], "A", 3), "silence")
    yield Case(([None, None], "A", 2), "nobody speaks")
    yield Case((["A", "A", "B", "B", "C", "C"], "A", 6), "a tie of three")
    for n in (7, 9, 12, 32):
        letters = ["A", "A", "B", "C", "D", None]
        drawn = [letters[whole(generator, 0, 5)] for _ in range(n)]
        k = whole(generator, 3, n - 2) if n < 32 else 16
        yield Case((["A", "B", *drawn[2:]], "A", k), f"n={n} k={k}")


def voting(
    *,
    wins=lambda tied: 1 / (1 + tied),
    enough=lambda m, others: True,  # noqa: ARG005
    silent_votes=False,
    lumped=False,
):
    """majority_at_k, with a part of it otherwise."""

    def answer(answers, right, k):
        votes = Counter(answers)
        silent = 0 if silent_votes else votes.pop(None, 0)
        mine, found = votes.pop(right, 0), 0.0
        others = [sum(votes.values())] if lumped else list(votes.values())
        for m in range(1, min(mine, k) + 1):
            ways = {(i, 0, i): comb(silent, i) for i in range(min(silent, k - m) + 1)}
            for n_other in others:
                ways = with_silence(ways, n_other, m, k - m)
            for (tries, tied, quiet), w in ways.items():
                if tries == k - m and enough(m, k - m - quiet):
                    found += comb(mine, m) * w * wins(tied)
        return found / comb(len(answers), k)

    return answer


def with_silence(ways, n_other, m, room):
    """`times` for ways that remember how many were silent."""
    found: dict[tuple[int, int, int], int] = {}
    for quiet in {q for _, _, q in ways}:
        part = {(i, tied): w for (i, tied, q), w in ways.items() if q == quiet}
        for (i, tied), w in times(part, n_other, m, room).items():
            found[i, tied, quiet] = w
    return found


VOTE = Exercise(
    id="18.3",
    name="majority_at_k",
    title="how likely the commonest answer of k is right",
    reference=majority_at_k,
    cases=ballots,
    mistakes=(
        Mistake(
            "silence votes",
            "Completions without an answer are counted as if they all gave the same wrong one. "
            "They cost a try and do not vote.",
            voting(silent_votes=True),
        ),
        Mistake(
            "ties are won",
            "Where another answer has as many votes, nobody knows which one is right: it is "
            "drawn by lot.",
            voting(wins=lambda tied: 1.0),  # noqa: ARG005
        ),
        Mistake(
            "ties are lost",
            "With as many votes as another answer, the right one is still drawn sometimes.",
            voting(wins=lambda tied: float(tied == 0)),
        ),
        Mistake(
            "every tie is fifty-fifty",
            "Where three answers share the top, the lot falls on each a third of the time.",
            voting(wins=lambda tied: 1.0 if tied == 0 else 0.5),
        ),
        Mistake(
            "more than half is asked for",
            "The commonest answer wins with any share. Wrong answers are scattered, which is "
            "why a vote works for a model that is mostly wrong.",
            voting(enough=lambda m, others: m > others),
        ),
        Mistake(
            "the wrong answers are one party",
            "All wrong answers together are held against the right one. They vote apart.",
            voting(lumped=True),
        ),
        Mistake(
            "all of them vote",
            "The vote of all n is taken, for every k.",
            lambda answers, right, k: majority_at_k(answers, right, len(answers)) * (k > 0),
        ),
        Mistake(
            "the first k only",
            "One draw is looked at, the first k, instead of the mean over all of them.",
            lambda answers, right, k: majority_at_k(answers[:k], right, k),
        ),
        Mistake(
            "a judge is asked",
            "A draw counts as won if the right answer is in it at all. Nobody knows which that "
            "is: votes decide.",
            lambda answers, right, k: pass_at_k(len(answers), answers.count(right), k),
        ),
    ),
    hints=(
        "Fix how many votes the right answer has, m. In how many draws does it win with these?",
        "Silent tries begin the table: i of them in comb(silent, i) ways, nobody tied. Then "
        "`times` brings in one wrong answer after the other, none with more than m votes.",
        "Keep the entries whose tries fill the other k − m places; with `tied` equals the lot "
        "falls on the right one in one of tied + 1. The m themselves come in comb(mine, m) ways.",
    ),
)
