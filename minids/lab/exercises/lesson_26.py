"""Lesson 26, experts on many ranks: which token travels where, copies, places.

Axes: T tokens, k experts per token, R rows sent, E ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minids.dist.expert import departures
from minids.dist.placement import pack, replicate
from minids.lab.exercise import Case, Exercise, Mistake, Prediction

# 26.1 departures


def routings(generator: torch.Generator) -> Iterator[Case]:
    """Tokens whose experts share ranks, and ranks that nobody wants."""
    for T, ranks, own, k in ((1, 2, 2, 2), (4, 2, 3, 2), (5, 4, 2, 3), (7, 3, 4, 4), (6, 8, 2, 2)):
        expert = torch.rand(T, ranks * own, generator=generator).topk(k).indices  # [T k]
        yield Case((expert, own, ranks), f"{T} tokens, {k} of {ranks * own} experts, {ranks} ranks")
    same = torch.tensor([[0, 1], [1, 0], [2, 3]])  # [T k]
    yield Case((same, 2, 3), "both experts on one rank, one rank unwanted")


def of_visits(expert: Tensor, own: int, ranks: int, *, order: str = "rank"):
    """One row for every visit."""
    to, token = (expert // own).flatten(), torch.arange(len(expert)).repeat_interleave(
        expert.shape[1]
    )  # fmt: skip
    if order == "rank":
        by = (to * len(expert) + token).argsort(stable=True)
        to, token = to[by], token[by]
    return token, to, torch.bincount(to, minlength=ranks)


def token_after_token(expert: Tensor, own: int, ranks: int):
    token, to, sent = departures(expert, own, ranks)
    by = (token * ranks + to).argsort(stable=True)
    return token[by], to[by], sent


def dealt_round(expert: Tensor, own: int, ranks: int):
    token, to, sent = departures(expert % ranks, 1, ranks)
    del own
    return token, to, sent


def first_expert_only(expert: Tensor, own: int, ranks: int):
    return departures(expert[:, :1], own, ranks)


def wanted_ranks_only(expert: Tensor, own: int, ranks: int):
    token, to, sent = departures(expert, own, ranks)
    return token, to, sent[sent > 0]


def swapped(expert: Tensor, own: int, ranks: int):
    token, to, sent = departures(expert, own, ranks)
    return to, token, sent


DEPART = Exercise(
    "26.1",
    "departures",
    "which token goes to which rank, once",
    departures,
    routings,
    (
        Mistake(
            "one row per expert",
            "A token whose experts share a rank is sent there several times, the same numbers "
            "each time. The rank can hand it to all of them.",
            of_visits,
        ),
        Mistake(
            "token after token",
            "An all-to-all takes one piece of the rows for each rank, so they must lie rank after "
            "rank.",
            token_after_token,
        ),
        Mistake(
            "experts dealt round",
            "Expert i lives on rank i // own: neighbours share a rank, as groups share a node.",
            dealt_round,
        ),
        Mistake(
            "first expert only",
            "A token has k experts, and each of them may live elsewhere.",
            first_expert_only,
        ),
        Mistake(
            "unwanted ranks left out",
            "A rank to which nothing goes is told so too: it waits for a number, even if it is 0.",
            wanted_ranks_only,
        ),
        Mistake(
            "token and rank swapped",
            "First which token, then where it goes.",
            swapped,
        ),
    ),
    (
        "A table of True and False, tokens down, ranks across, says who is wanted where.",
        "`scatter` marks; a mark set twice is still one mark. `nonzero(as_tuple=True)` lists marks "
        "row after row, so which way must the table lie?",
        "expert // own is the rank of each choice. Mark it, turn the table so that ranks are rows, "
        "list the marks; the sums over tokens are what is sent.",
    ),
)

# 26.2 replicate, 26.3 pack


def spares(generator: torch.Generator) -> Iterator[Case]:
    """Loads with a few heavy experts, no spare slot and many."""
    yield Case(([8, 1, 5], 6), "three experts, three spare slots")
    for n, spare in ((1, 3), (4, 0), (5, 2), (6, 9), (9, 7)):
        load = torch.randint(1, 60, (n,), generator=generator).double() ** 1.5  # [n]
        yield Case(([round(v, 3) for v in load.tolist()], n + spare), f"{n} experts, {spare} spare")


def shared(weight, slots, *, by=lambda w, c: w / c, best=max, start=None):
    """`replicate` with another rule of who gets the next slot."""
    copies = [1] * len(weight)
    found = list(range(len(weight))) if start is None else list(start)
    while len(found) < slots:
        item = best(range(len(weight)), key=lambda i: by(weight[i], copies[i]))
        found.append(item)
        copies[item] += 1
    return found


def heaviest_first(weight, slots):
    ranked = sorted(range(len(weight)), key=lambda i: -weight[i])
    spare = slots - len(weight)
    return [*range(len(weight)), *(ranked[i % len(weight)] for i in range(spare))]


REPLICATE = Exercise(
    "26.2",
    "replicate",
    "the next copy to whom it helps most",
    replicate,
    spares,
    (
        Mistake(
            "all spare slots to the heaviest",
            "After its first copy an expert carries half per copy. Perhaps another is the heaviest "
            "then.",
            lambda weight, slots: shared(weight, slots, by=lambda w, _c: w),
        ),
        Mistake(
            "in turn, heaviest first",
            "An expert ten times as busy needs more than one copy before others need any.",
            heaviest_first,
        ),
        Mistake(
            "judged as after the copy",
            "The question is who is worst off now, not who would still be worst off with one copy "
            "more.",
            lambda weight, slots: shared(weight, slots, by=lambda w, c: w / (c + 1)),
        ),
        Mistake(
            "to the idlest",
            "A copy of an expert that nobody asks relieves nobody.",
            lambda weight, slots: shared(weight, slots, best=min),
        ),
        Mistake(
            "heaviest without one of their own",
            "Every expert must be somewhere. Spare slots are what is left after that.",
            lambda weight, slots: shared(weight, slots, start=()),
        ),
    ),
    (
        "What does a copy of an expert carry if it has c of them?",
        "One slot after another: who has most load per copy now?",
        "Start with one slot for each, in order. While slots are left, the expert with the largest "
        "load over copies gets one, and has one copy more.",
    ),
)


def parcels(generator: torch.Generator) -> Iterator[Case]:
    """Loads whose order is not that of their weight."""
    yield Case(([9, 1, 1, 5], 2), "four items, two packs")
    for n, packs in ((4, 4), (6, 2), (6, 3), (12, 4), (10, 5)):
        weight = torch.randperm(90, generator=generator)[:n].double() + 1  # [n]
        yield Case((weight.tolist(), packs), f"{n} items, {packs} packs")


def filled(weight, packs, *, order, room=True, lightest=min):
    """`pack` with another order or rule."""
    most = len(weight) // packs
    if most == 1:
        return [[item] for item in range(packs)]
    found, total = [[] for _ in range(packs)], [0.0] * packs
    for item in sorted(range(len(weight)), key=order):
        free = [i for i in range(packs) if not room or len(found[i]) < most]
        chosen = lightest(free, key=lambda i: total[i])
        found[chosen].append(item)
        total[chosen] += weight[item]
    return found


def dealt(weight, packs):
    ranked = sorted(range(len(weight)), key=lambda i: -weight[i])
    return [ranked[i::packs] for i in range(packs)]


def in_the_order_given(weight, packs):
    most = len(weight) // packs
    return [list(range(i * most, (i + 1) * most)) for i in range(packs)]


PACK = Exercise(
    "26.3",
    "pack",
    "equally many, nearly equally heavy",
    pack,
    parcels,
    (
        Mistake(
            "as they come",
            "Neighbours stay together, however heavy they are. This is no balancing at all.",
            in_the_order_given,
        ),
        Mistake(
            "lightest item first",
            "The heavy ones come last, when nothing is left to balance them with.",
            lambda weight, packs: filled(weight, packs, order=lambda i: weight[i]),
        ),
        Mistake(
            "no limit on the number",
            "A GPU has as many slots as any other. A pack of many light items does not fit.",
            lambda weight, packs: filled(weight, packs, order=lambda i: -weight[i], room=False),
        ),
        Mistake(
            "into the heaviest pack",
            "The next item should go where least has gathered so far.",
            lambda weight, packs: filled(weight, packs, order=lambda i: -weight[i], lightest=max),
        ),
        Mistake(
            "dealt in turn",
            "Like cards: the first pack gets the heavier one in every round.",
            dealt,
        ),
    ),
    (
        "Which item is hardest to place well, and when should it be placed?",
        "Two things decide where an item goes: does the pack have room, and how heavy is it?",
        "Heaviest first; among the packs that have room, into the lightest. If each holds one "
        "item, item i stays in pack i.",
    ),
)

EXERCISES = (DEPART, REPLICATE, PACK)

PREDICTIONS = (
    Prediction(
        "26.a",
        "Each of 8 experts of a token lives on one of 8 nodes, by chance. If the router may use 4 "
        "nodes only, what share of the rows between nodes is saved?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
    Prediction(
        "26.b",
        "256 experts of uneven load stand in order on 32 GPUs: how many times the mean does the "
        "busiest GPU do?",
        "times",
        1.2,
        1.0,
        32.0,
    ),
)
