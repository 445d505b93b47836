"""Lesson 25, pipelines: what an action waits for, one forward one backward, a backward in two.

An answer that makes a schedule is judged by its score: the timetable under several durations and
what every rank holds. Any order with the same score is right.
Axes: p ranks, m micro-batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from minids.dist.schedules import (
    Action,
    Durations,
    Schedule,
    gpipe,
    made,
    one_f_one_b,
    parts,
    peak_in_flight,
    play,
    waits_for,
    zb1p,
)
from minids.lab.exercise import Case, Exercise, Mistake, Prediction

if TYPE_CHECKING:
    import torch

Need = tuple[str, int, int]
SPEEDS = (Durations(), Durations(f=1.0, b=3.0, w=1.0), Durations(f=2.0, b=3.0, w=2.0))

# 25.1 waits_for


def actions(generator: torch.Generator) -> Iterator[Case]:
    """Every kind on the first, a middle and the last stage."""
    import torch

    micro = int(torch.randint(1, 9, (), generator=generator))
    for stages in (1, 2, 4):
        for stage in sorted({0, stages // 2, stages - 1}):
            for kind in "FBIW":
                name = f"{kind}{micro} on stage {stage} of {stages}"
                yield Case((kind, stage, micro, stages), name)


def needs(answer: Callable[..., Any], case: Case) -> list[Need]:
    """In any order."""
    return sorted(tuple(need) for need in answer(*case.args))


def as_if_in_turn(kind, stage, micro, stages):
    yield from waits_for(kind, stage, micro, stages)
    if kind == "F" and micro:
        yield "F", stage, micro - 1


def gradients_from_below(kind, stage, micro, stages):
    if kind in "BI":
        yield "F", stage, micro
        if stage:
            yield "I", stage - 1, micro
    else:
        yield from waits_for(kind, stage, micro, stages)


def without_own_forward(kind, stage, micro, stages):
    found = waits_for(kind, stage, micro, stages)
    yield from (need for need in found if kind == "F" or need[0] != "F")


def weights_wait_for_next(kind, stage, micro, stages):
    if kind == "W" and stage < stages - 1:
        yield "I", stage + 1, micro
    elif kind != "W":
        yield from waits_for(kind, stage, micro, stages)


def whole_backward_of_next(kind, stage, micro, stages):
    yield from waits_for(kind, stage, micro, stages)
    if kind in "BI" and stage < stages - 1:
        yield "W", stage + 1, micro


WAITS = Exercise(
    "25.1",
    "waits_for",
    "what must have ended before an action may start",
    waits_for,
    actions,
    (
        Mistake(
            "micro-batches in turn",
            "Micro-batches know nothing of each other. That a rank does one thing at a time is "
            "the rank's own affair.",
            as_if_in_turn,
        ),
        Mistake(
            "gradients from the wrong side",
            "Forward goes up the stages, backward comes down: the gradient arrives from the stage "
            "behind.",
            gradients_from_below,
        ),
        Mistake(
            "own forward forgotten",
            "A backward pass needs what its own forward kept. On the last stage nothing else says "
            "so.",
            without_own_forward,
        ),
        Mistake(
            "W waits for another stage",
            "The gradient of the weights needs the stage's own inputs and the gradient that its "
            "own I received.",
            weights_wait_for_next,
        ),
        Mistake(
            "others wait for W",
            "Nobody needs the gradient of somebody else's weights. That is why it can be put off.",
            whole_backward_of_next,
        ),
    ),
    (
        "Which messages arrive at a stage in the forward pass, which in the backward pass?",
        "The first stage has nobody before it, the last nobody behind it. W is local.",
        "F: the stage before, if any. B and I: the stage's own F, and I of the stage behind, if "
        "any. W: its own I.",
    ),
    call=needs,
)

# 25.2 and 25.3, schedules by their score


def sizes(_generator: torch.Generator) -> Iterator[Case]:
    """Few ranks and many; fewer micro-batches than ranks as well."""
    for p, m in ((1, 2), (2, 3), (3, 2), (5, 2), (3, 5), (4, 8), (5, 7)):
        yield Case((p, m), f"{p} ranks, {m} micro-batches")


def score(answer: Callable[..., Schedule], case: Case) -> dict[str, Any]:
    """How many actions of each kind, how long it takes, what each rank holds."""
    schedule = answer(*case.args)
    tables = [play(schedule, speed) for speed in SPEEDS]
    done = [part for order in schedule.orders for action in order for part in parts(action)]
    ranks = range(len(schedule.orders))
    return {
        "actions": dict(sorted(Counter(kind for kind, _, _ in done).items())),
        "different ones": len(set(done)),
        "span": [table.span for table in tables],
        "waiting": [[table.bubble(r) for r in ranks] for table in tables],
        "held": [[peak_in_flight(table, r) for r in ranks] for table in tables],
    }


def fed(p: int, m: int, ahead: Callable[[int], int], *, turned: bool = False) -> Schedule:
    """1F1B with another number of forwards ahead, or the backward first."""
    orders = []
    for r in range(p):
        first = min(m, ahead(r))
        order = [Action("F", r, i) for i in range(first)]
        for i in range(m):
            forward = [Action("F", r, i + first)] if i + first < m else []
            backward = [Action("B", r, i)]
            order += backward + forward if turned and first else forward + backward
        orders.append(order)
    return made("mine", orders, p, m)


def same_everywhere(p: int, m: int) -> Schedule:
    return fed(p, m, lambda _r: p - 1)


def one_more(p: int, m: int) -> Schedule:
    return fed(p, m, lambda r: p - r)


def none_ahead(p: int, m: int) -> Schedule:
    return fed(p, m, lambda _r: 0)


def counted_from_start(p: int, m: int) -> Schedule:
    return fed(p, m, lambda r: r)


def last_forgotten(p: int, m: int) -> Schedule:
    whole = one_f_one_b(p, m)
    short = [order[: len(order) - min(m, p - 1 - r)] for r, order in enumerate(whole.orders)]
    return whole._replace(orders=tuple(short))


ONE_F_ONE_B = Exercise(
    "25.2",
    "one_f_one_b",
    "a backward as soon as there is one",
    one_f_one_b,
    sizes,
    (
        Mistake(
            "all forwards first",
            "That is GPipe: just as fast, but every rank keeps all micro-batches at once.",
            gpipe,
        ),
        Mistake(
            "as many ahead on every rank",
            "The last rank can turn round at once; only the first must feed the whole pipeline "
            "before the first gradient comes back.",
            same_everywhere,
        ),
        Mistake(
            "one forward too many",
            "Every rank keeps one micro-batch more than the pipeline needs to stay filled.",
            one_more,
        ),
        Mistake(
            "nothing ahead",
            "Rank 0 sends one micro-batch and waits until its gradient is back: one rank works at "
            "a time.",
            none_ahead,
        ),
        Mistake(
            "ranks counted from the wrong end",
            "The ranks far from the end must have most on the way, and they are the first ones.",
            counted_from_start,
        ),
        Mistake(
            "last backwards forgotten",
            "When the forwards run out, backwards are still owed: as many as were sent ahead.",
            last_forgotten,
        ),
    ),
    (
        "How many forwards must rank r have sent before the first gradient can be back?",
        "Between a rank and the end of the pipeline lie p − 1 − r others; each can hold one "
        "micro-batch.",
        "First these forwards. Then for every micro-batch: the next forward, if there is one, and "
        "the oldest backward that is owed.",
    ),
    call=score,
)


def lagging(p: int, m: int, lag: Callable[[int], int]) -> Schedule:
    """ZB1P with its weight parts put off otherwise."""
    orders = []
    for r in range(p):
        ahead, behind = min(m, p - 1 - r), min(m, lag(r))
        order = [Action("F", r, i) for i in range(ahead)]
        for i in range(m):
            if i + ahead < m:
                order.append(Action("F", r, i + ahead))
            order.append(Action("I", r, i))
            if i >= behind:
                order.append(Action("W", r, i - behind))
        orders.append(order + [Action("W", r, i) for i in range(m - behind, m)])
    return made("mine", orders, p, m)


def weights_at_once(p: int, m: int) -> Schedule:
    return lagging(p, m, lambda _r: 0)


def weights_at_the_end(p: int, m: int) -> Schedule:
    return lagging(p, m, lambda _r: m)


def lag_turned(p: int, m: int) -> Schedule:
    return lagging(p, m, lambda r: p - 1 - r)


def lag_everywhere(p: int, m: int) -> Schedule:
    return lagging(p, m, lambda _r: p - 1)


def weights_forgotten(p: int, m: int) -> Schedule:
    whole = zb1p(p, m)
    short = [order[: len(order) - min(m, r)] for r, order in enumerate(whole.orders)]
    return whole._replace(orders=tuple(short))


ZB1P = Exercise(
    "25.3",
    "zb1p",
    "weight parts fill the holes",
    zb1p,
    sizes,
    (
        Mistake(
            "W right behind I",
            "Then I and W are one backward again, and the holes stay where 1F1B has them.",
            weights_at_once,
        ),
        Mistake(
            "all weight parts at the end",
            "Nobody waits, but every micro-batch is kept to the end: the memory of GPipe.",
            weights_at_the_end,
        ),
        Mistake(
            "lag of the other end",
            "Rank 0 has its holes while it fills the pipeline and needs no W there; the last rank "
            "finishes its gradients first and has time at the end.",
            lag_turned,
        ),
        Mistake(
            "the same lag everywhere",
            "Ranks in front have more micro-batches on the way already; with the full lag on top "
            "they hold nearly twice as many.",
            lag_everywhere,
        ),
        Mistake(
            "last weight parts forgotten",
            "What was put off is still owed when the gradients are through.",
            weights_forgotten,
        ),
        Mistake(
            "whole backwards",
            "This is 1F1B: as long as B is one piece, the stage before waits for its weights too.",
            one_f_one_b,
        ),
    ),
    (
        "Start from 1F1B with B cut into I and W. Where does 1F1B wait at the end?",
        "Rank r may fall r weight parts behind: as many micro-batches as the ranks before it have "
        "more on the way.",
        "After every I the W of the micro-batch r before it, if any; behind the loop the W "
        "that are still owed.",
    ),
    call=score,
)

EXERCISES = (WAITS, ONE_F_ONE_B, ZB1P)

PREDICTIONS = (
    Prediction(
        "25.a",
        "Four ranks, eight micro-batches, all forwards first, then all backwards: what share of "
        "the time does a rank wait?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
    Prediction(
        "25.b",
        "Sixteen ranks, as V3 had, with 1F1B: how many micro-batches until less than 5 % of the "
        "time is waiting?",
        "micro-batches",
        64.0,
        1.0,
        100_000.0,
    ),
)
