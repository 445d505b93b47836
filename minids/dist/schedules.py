"""Pipeline schedules as data: who does what in which order; one simulator times them all.

A model is cut into stages, a batch into micro-batches. A schedule is an order of actions for every
rank and nothing else; when each happens follows from what it waits for. From the times come the
bubble (waiting), the memory (micro-batches in flight) and a Gantt chart. Kinds: F forward, B whole
backward, I its part for inputs, W its part for weights (which nobody waits for), and two that run
overlapped, FB, as DualPipe does.
Axes: p ranks, m micro-batches, v stages of a rank.  (GPipe 1811.06965; 1F1B and interleaving
2104.04473; zero bubble 2401.10241; DualPipe: DeepSeek-V3 §3.2.1 and deepseek-ai/DualPipe)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from minids.errors import UserError


class Action(NamedTuple):
    """One thing a rank does. FB is a forward of (stage, micro) with a backward of the other two."""

    kind: str
    stage: int
    micro: int
    stage_b: int = -1
    micro_b: int = -1


class Schedule(NamedTuple):
    """Orders of all ranks."""

    name: str
    orders: tuple[tuple[Action, ...], ...]  # [p] of actions
    stages: int  # of the whole model, in one direction
    micro_batches: int
    ways: int = 1  # DualPipe feeds micro-batches from both ends: 2 copies of every stage


class Durations(NamedTuple):
    """How long each kind takes; a backward pass is I and W."""

    f: float = 1.0
    b: float = 2.0
    w: float = 1.0
    both: float = 3.0  # F&B overlapped; 3 = nothing gained but communication hidden

    def of(self, kind: str) -> float:
        """Of one action."""
        return {"F": self.f, "B": self.b, "I": self.b - self.w, "W": self.w, "FB": self.both}[kind]


class Event(NamedTuple):
    """An action with its times."""

    rank: int
    action: Action
    start: float
    end: float


class Timetable(NamedTuple):
    """A schedule played through."""

    schedule: Schedule
    events: tuple[Event, ...]  # by start
    span: float
    busy: tuple[float, ...]  # [p]

    def bubble(self, rank: int) -> float:
        """Time that a rank waits."""
        return self.span - self.busy[rank]

    @property
    def share(self) -> float:
        """Waiting of all ranks over all time."""
        return 1 - sum(self.busy) / (len(self.busy) * self.span)


# The orders


def gpipe(p: int, m: int) -> Schedule:
    """All forwards, then all backwards: m micro-batches in flight, bubble (p−1)(F+B)."""
    orders = [
        [*(Action("F", r, i) for i in range(m)), *(Action("B", r, i) for i in range(m))]
        for r in range(p)
    ]
    return made("gpipe", orders, p, m)


def one_f_one_b(p: int, m: int) -> Schedule:
    """The same bubble, but a backward as soon as there is one: p − r in flight instead of m."""
    orders = []
    for r in range(p):
        ahead = min(m, p - 1 - r)
        order = [Action("F", r, i) for i in range(ahead)]
        for i in range(m):
            if i + ahead < m:
                order.append(Action("F", r, i + ahead))
            order.append(Action("B", r, i))
        orders.append(order)
    return made("1f1b", orders, p, m)


def interleaved(p: int, m: int, v: int = 2) -> Schedule:
    """v thinner stages per rank (stage c·p + r): the bubble is v times smaller, in-flight grows.

    Micro-batches go in groups of p through chunk after chunk; m must be a multiple of p.
    """
    if m % p:
        raise UserError("--micro-batches", f"{m} for {p} ranks, interleaved", f"multiples of {p}")
    total = m * v

    def forward(i: int) -> tuple[int, int]:
        return i // p % v, i // (p * v) * p + i % p

    orders = []
    for r in range(p):
        ahead = min(total, 2 * (p - r - 1) + (v - 1) * p)
        order = [Action("F", forward(i)[0] * p + r, forward(i)[1]) for i in range(ahead)]
        for i in range(total):
            if i + ahead < total:
                chunk, micro = forward(i + ahead)
                order.append(Action("F", chunk * p + r, micro))
            chunk, micro = forward(i)
            order.append(Action("B", (v - 1 - chunk) * p + r, micro))
        orders.append(order)
    return made("interleaved", orders, p * v, m)


def zb1p(p: int, m: int) -> Schedule:
    """1F1B with the backward pass split: bubble (p−1)(F+B−2W), p in flight on every rank.

    Others wait for I, nobody for W. So rank r lets its weight parts lag r micro-batches behind, and
    fills with them the holes that 1F1B has while the last backwards come back.
    """
    orders = []
    for r in range(p):
        ahead = min(m, p - 1 - r)
        order = [Action("F", r, i) for i in range(ahead)]
        for i in range(m):
            if i + ahead < m:
                order.append(Action("F", r, i + ahead))
            order.append(Action("I", r, i))
            if i >= r:
                order.append(Action("W", r, i - r))
        order += [Action("W", r, i) for i in range(max(0, m - r), m)]
        orders.append(order)
    return made("zb1p", orders, p, m)


def dualpipe(p: int, m: int) -> Schedule:
    """Micro-batches enter at both ends; a forward of one way hides behind a backward of the other.

    Rank r holds stage r of one way and p−1−r of the other: parameters twice, bubble
    (p/2−1)(F&B+B−3W). p and m even, m at least 2p; the second half of the micro-batches (m/2 on)
    goes the other way.
    """
    if p % 2 or m % 2 or m < 2 * p:
        raise UserError("--schedule", f"dualpipe with {p} ranks and {m} micro-batches",
                        "an even number of ranks, an even m of 2·p and more")  # fmt: skip
    orders = []
    for r in range(p):
        near = min(r, p - 1 - r)  # 0 at both ends
        first = 0 if r < p // 2 else 1  # the way whose forward comes first here
        stage = {0: r, 1: p - 1 - r}
        ways = {0: (stage[first], first * m // 2), 1: (stage[1 - first], (1 - first) * m // 2)}
        orders.append(two_chunks(ways, p // 2 - 1 - near, near, m // 2 - p + near + 1))
    return made("dualpipe", orders, p, m, ways=2)


def dualpipev(p: int, m: int) -> Schedule:
    """DualPipe cut in the middle and folded: rank r holds stages r and 2p−1−r, parameters once.

    m at least 2p.
    """
    if m < 2 * p:
        raise UserError("--micro-batches", f"{m} for dualpipev on {p} ranks", f"{2 * p} and more")
    orders = [
        two_chunks({0: (r, 0), 1: (2 * p - 1 - r, 0)}, p - 1 - r, r, m - 2 * p + r + 1)
        for r in range(p)
    ]
    return made("dualpipev", orders, 2 * p, m)


def two_chunks(chunk: dict[int, tuple[int, int]], far: int, near: int, steady: int) -> list[Action]:
    """The eight phases of a rank with two chunks, each (stage, first micro-batch).

    `far` ranks lie between it and the turning point, `near` on its other side. Warm up with chunk
    0, then with both; use the weight parts of the first backwards to wait; run forwards and
    backwards overlapped; drain with the weight parts put off to the end.
    """
    order: list[Action] = []
    waiting: list[Action] = []  # weight parts put off
    number: dict[str, int] = {"F0": 0, "F1": 0, "B0": 0, "B1": 0}

    def take(what: str, c: int) -> tuple[int, int]:
        stage, start = chunk[c]
        number[f"{what}{c}"] += 1
        return stage, start + number[f"{what}{c}"] - 1

    def forward(c: int) -> None:
        order.append(Action("F", *take("F", c)))

    def backward(c: int, split: bool = False) -> None:
        place = take("B", c)
        order.append(Action("I" if split else "B", *place))
        if split:
            waiting.append(Action("W", *place))

    def overlapped(c: int) -> None:
        order.append(Action("FB", *take("F", c), *take("B", 1 - c)))

    for _ in range(2 * far):
        forward(0)
    for _ in range(near + 1):
        forward(0)
        forward(1)
    for _ in range(far):
        backward(1, split=True)
        order.append(waiting.pop(0))
        forward(1)
    for i in range(steady):
        if i == 0 and far == 0:  # at the turning point the two would wait for each other
            forward(0)
            backward(1)
        else:
            overlapped(0)
        overlapped(1)
    for _ in range(far):
        backward(1)
        overlapped(1)
    split = False
    for i in range(near + 1):
        split |= i == (near + 1) // 2 and near % 2 == 1
        backward(1, split)
        split |= i == (near + 1) // 2 and near % 2 == 0
        backward(0, split)
    for _ in range(far):
        order.append(waiting.pop(0))
        backward(0, split=True)
    return order + waiting


def made(name: str, orders: list[list[Action]], stages: int, m: int, ways: int = 1) -> Schedule:
    """A schedule out of lists."""
    return Schedule(name, tuple(tuple(order) for order in orders), stages, m, ways)


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "zb1p": zb1p,
    "dualpipe": dualpipe,
    "dualpipev": dualpipev,
}


# Playing them


def parts(action: Action) -> Iterator[tuple[str, int, int]]:
    """The plain actions inside one: FB is a forward and a backward."""
    if action.kind == "FB":
        yield "F", action.stage, action.micro
        yield "B", action.stage_b, action.micro_b
    else:
        yield action.kind, action.stage, action.micro


def waits_for(kind: str, stage: int, micro: int, stages: int) -> Iterator[tuple[str, int, int]]:
    """What must have ended: for F the stage before; for a backward its own F and the next stage."""
    if kind == "F" and stage:
        yield "F", stage - 1, micro
    if kind in "BI":
        yield "F", stage, micro
        if stage < stages - 1:
            yield "I", stage + 1, micro
    if kind == "W":
        yield "I", stage, micro


def play(schedule: Schedule, durations: Durations | None = None) -> Timetable:
    """Give every action its times: as early as its rank and its inputs allow.

    Raises UserError if the ranks wait for each other for ever (a puzzle's wrong answer may).
    """
    durations = durations or Durations()
    done: dict[tuple[str, int, int], float] = {}
    clock, place = [0.0] * len(schedule.orders), [0] * len(schedule.orders)
    events = []
    while any(place[r] < len(order) for r, order in enumerate(schedule.orders)):
        moved = False
        for r, order in enumerate(schedule.orders):
            while place[r] < len(order):
                action = order[place[r]]
                needs = [n for part in parts(action) for n in waits_for(*part, schedule.stages)]
                if not all(need in done for need in needs):
                    break
                start = max([clock[r], *(done[need] for need in needs)])
                clock[r] = start + durations.of(action.kind)
                for kind, stage, micro in parts(action):
                    done["I" if kind == "B" else kind, stage, micro] = clock[r]
                events.append(Event(r, action, start, clock[r]))
                place[r] += 1
                moved = True
        if not moved:
            stuck = [order[place[r]] for r, order in enumerate(schedule.orders)
                     if place[r] < len(order)]  # fmt: skip
            raise UserError("schedule", f"ranks wait for each other at {name_of(stuck[0])}")
    busy = [sum(e.end - e.start for e in events if e.rank == r) for r in range(len(clock))]
    ordered = tuple(sorted(events, key=lambda event: (event.start, event.rank)))
    return Timetable(schedule, ordered, max(clock), tuple(busy))


def in_flight(table: Timetable, rank: int) -> list[tuple[float, int]]:
    """(time, micro-batches whose activations a rank holds), at every change.

    A forward takes them when it starts; a backward (of a split one, the weight part) lets go when
    it ends.
    """
    changes = []
    for event in table.events:
        if event.rank != rank:
            continue
        for kind, _, _ in parts(event.action):
            if kind == "F":
                changes.append((event.start, 1))
            elif kind in "BW":
                changes.append((event.end, -1))
    held, found = 0, []
    for time, change in sorted(changes):
        held += change
        found.append((time, held))
    return found


def peak_in_flight(table: Timetable, rank: int) -> int:
    """The most micro-batches (of one stage each) a rank holds."""
    return max(held for _, held in in_flight(table, rank))


def name_of(action: Action) -> str:
    """F3, B1, W0: kind and micro-batch, with the stage behind a colon."""
    return " ".join(f"{kind}{micro}:{stage}" for kind, stage, micro in parts(action))
