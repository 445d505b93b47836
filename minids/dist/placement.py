"""Where each expert lives when some are asked far more often than others: EPLB.

Under expert parallelism the busiest GPU sets the pace. Two moves even it out: give spare slots to
copies of the most loaded experts, and put copies on GPUs so that no GPU gets all the busy ones.
Hierarchical: groups of experts are first dealt to nodes, so that a token limited to few groups
still reaches few nodes; global: one big pool, for many small nodes. Both rules are greedy.
Axes: e experts, R slots (physical experts: one and more of each).  (DeepSeek-V3 §3.4.1,
deepseek-ai/EPLB)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minids.errors import UserError


class Placement(NamedTuple):
    """Which expert each slot holds; GPU i owns slots i·R/gpus … (i+1)·R/gpus."""

    expert: tuple[int, ...]  # [R] expert of each slot
    gpus: int

    @property
    def slots(self) -> dict[int, list[int]]:
        """All slots of each expert, in order."""
        found: dict[int, list[int]] = {}
        for slot, expert in enumerate(self.expert):
            found.setdefault(expert, []).append(slot)
        return found

    def on(self, gpu: int) -> tuple[int, ...]:
        """The experts of one GPU, in the order of its slots."""
        share = len(self.expert) // self.gpus
        return self.expert[gpu * share : (gpu + 1) * share]


def pack(weight: Sequence[float], packs: int) -> list[list[int]]:
    """Deal items into packs of equal number and nearly equal weight → the items of each pack.

    Heaviest first, each into the lightest pack that still has room.
    """
    room = len(weight) // packs
    if room == 1:  # one each: nothing to balance, so everything stays where it is
        return [[item] for item in range(packs)]
    filled: list[list[int]] = [[] for _ in range(packs)]
    total = [0.0] * packs
    for item in sorted(range(len(weight)), key=lambda item: -weight[item]):
        open_ones = [i for i in range(packs) if len(filled[i]) < room]
        lightest = min(open_ones, key=lambda i: total[i])
        filled[lightest].append(item)
        total[lightest] += weight[item]
    return filled


def replicate(weight: Sequence[float], slots: int) -> list[int]:
    """One slot for every item, each spare slot to the item with most weight per copy → [slots]"""
    copies, found = [1] * len(weight), list(range(len(weight)))
    while len(found) < slots:
        busiest = max(range(len(weight)), key=lambda item: weight[item] / copies[item])
        found.append(busiest)
        copies[busiest] += 1
    return found


def place(
    load: Sequence[float], *, slots: int, gpus: int, nodes: int = 1, groups: int = 1
) -> Placement:
    """A layer's placement from the load of its experts.  load [e] → Placement of `slots` slots

    Hierarchical where the groups divide among the nodes, otherwise global. Raises UserError if
    slots, GPUs and nodes do not divide.
    """
    check(len(load), slots, gpus, nodes, groups)
    if groups % nodes:
        groups = nodes = 1
    size = len(load) // groups
    by_group = [sum(load[g * size : (g + 1) * size]) for g in range(groups)]
    order = []
    for held in pack(by_group, nodes):  # groups to nodes …
        experts = [g * size + i for g in held for i in range(size)]
        weight = [load[expert] for expert in experts]
        copy = replicate(weight, slots // nodes)  # … copies inside each node …
        each = [weight[item] / copy.count(item) for item in copy]
        for chosen in pack(each, gpus // nodes):  # … copies to its GPUs
            order += [experts[copy[slot]] for slot in chosen]
    return Placement(tuple(order), gpus)


def check(experts: int, slots: int, gpus: int, nodes: int, groups: int) -> None:
    """Raises UserError for sizes that cannot be dealt out evenly."""
    if experts % groups:
        raise UserError("groups", f"{groups} of {experts} experts", f"divisors of {experts}")
    if gpus % nodes:
        raise UserError("nodes", f"{nodes} for {gpus} GPUs", f"divisors of {gpus}")
    if slots % gpus or slots < experts:
        what = f"{slots} for {experts} experts on {gpus} GPUs"
        raise UserError("slots", what, f"multiples of {gpus}, {experts} and more")


def in_order(experts: int, gpus: int) -> Placement:
    """The placement without any balancing: expert after expert, GPU after GPU."""
    return Placement(tuple(range(experts)), gpus)


def gpu_loads(load: Sequence[float], placement: Placement) -> list[float]:
    """What each GPU has to do when the copies of an expert share its load evenly.  → [gpus]"""
    copies = {expert: len(slots) for expert, slots in placement.slots.items()}
    return [sum(load[e] / copies[e] for e in placement.on(gpu)) for gpu in range(placement.gpus)]


def imbalance(load: Sequence[float], placement: Placement) -> float:
    """Load of the busiest GPU over the mean: 1 is perfect, and the layer is that much slower."""
    loads = gpu_loads(load, placement)
    return max(loads) / (sum(loads) / len(loads))
