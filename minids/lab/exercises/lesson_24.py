"""Lesson 24, data and shards: one division for the batch, a ring that sums, what a rank holds.

Axes: G ranks, n numbers of a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minids.dist.by_hand import Held, Turn, batch_gradient, held, ring_turn
from minids.lab.exercise import Case, Exercise, Mistake, Prediction

# 24.1 batch_gradient


def parts(generator: torch.Generator) -> Iterator[Case]:
    """Ranks whose rows have different numbers of targets; one rank may have none."""
    for ranks, n in ((1, 3), (2, 4), (3, 5), (4, 2)):
        targets = torch.randint(1, 90, (ranks,), generator=generator).tolist()
        if ranks == 4:
            targets[2] = 0
        sums = [
            count**0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
            for count in targets
        ]
        yield Case((sums, targets), f"{ranks} ranks with {', '.join(map(str, targets))} targets")


def mean_of_means(sums, targets):
    found = [x / max(1, count) for x, count in zip(sums, targets, strict=True)]
    return torch.stack(found).mean(0)


BATCH = Exercise(
    "24.1",
    "batch_gradient",
    "one sum over all ranks, one division",
    batch_gradient,
    parts,
    (
        Mistake(
            "mean of the ranks' means",
            "A rank with few targets would count as much as one with many, and the same batch "
            "would give another gradient on another number of ranks.",
            mean_of_means,
        ),
        Mistake(
            "divided by the ranks",
            "The ranks hand over sums over their targets. How many ranks there are is of no "
            "interest to the model.",
            lambda sums, targets: torch.stack(sums).sum(0) / len(targets),
        ),
        Mistake(
            "sum of the means",
            "With twice the ranks the step would be twice as large.",
            lambda sums, targets: len(sums) * mean_of_means(sums, targets),
        ),
        Mistake(
            "not divided at all",
            "Longer batches would make longer steps: a learning rate is tuned for a mean.",
            lambda sums, targets: torch.stack(sums).sum(0) + 0 * sum(targets),
        ),
        Mistake(
            "first rank's targets only",
            "Every rank has targets of its own, and not equally many.",
            lambda sums, targets: torch.stack(sums).sum(0) / targets[0],
        ),
    ),
    (
        "What would one process have computed, with all rows in its hands?",
        "A sum of sums is the sum of all; a mean of means is not the mean of all.",
        "Add up what the ranks hand over, then divide once, by the targets of all ranks.",
    ),
)

# 24.2 ring_turn


def turns(generator: torch.Generator) -> Iterator[Case]:
    """Every rank of small rings in every step, larger ones here and there."""
    for ranks in (2, 3, 4):
        for step in range(2 * (ranks - 1)):
            yield Case((step % ranks, step, ranks), f"rank {step % ranks} of {ranks}, step {step}")
    for ranks in (5, 8):
        for rank in torch.randperm(ranks, generator=generator)[:3].tolist():
            step = int(torch.randint(2 * (ranks - 1), (), generator=generator))
            yield Case((rank, step, ranks), f"rank {rank} of {ranks}, step {step}")
        yield Case((0, ranks - 2, ranks), f"rank 0 of {ranks}, last sum")
        yield Case((0, ranks - 1, ranks), f"rank 0 of {ranks}, first copy")


RING = Exercise(
    "24.2",
    "ring_turn",
    "what to send, what to expect, add or replace",
    ring_turn,
    turns,
    (
        Mistake(
            "own piece every time",
            "A rank that always sends its own piece tells its neighbour the same thing again, and "
            "nobody further away ever hears of it.",
            lambda rank, step, ranks: Turn(rank, (rank - 1) % ranks, step < ranks - 1),
        ),
        Mistake(
            "pieces run the other way",
            "What a rank has just received and added to is what it must pass on next.",
            lambda rank, step, ranks: Turn(
                (rank + step) % ranks, (rank + step + 1) % ranks, step < ranks - 1
            ),
        ),
        Mistake(
            "always added",
            "In the second half the sums are complete; adding them to each other counts twice.",
            lambda rank, step, ranks: ring_turn(rank, step, ranks)._replace(add=True),
        ),
        Mistake(
            "one sum too many",
            "A piece needs G − 1 additions: it starts with one rank's own share.",
            lambda rank, step, ranks: ring_turn(rank, step, ranks)._replace(add=step < ranks),
        ),
        Mistake(
            "sent and received alike",
            "The rank before is at another piece: the one it received a step ago.",
            lambda rank, step, ranks: Turn(
                (rank - step) % ranks, (rank - step) % ranks, step < ranks - 1
            ),
        ),
    ),
    (
        "Follow one piece round the ring: where is it after each step?",
        "In step 0 rank r sends piece r. What it receives then it sends on in step 1.",
        "Both numbers fall by one each step, modulo G; what arrives is one behind what leaves. "
        "The first G − 1 steps add.",
    ),
)

# 24.3 held


def stages(generator: torch.Generator) -> Iterator[Case]:
    """All stages, one rank and many."""
    for stage in range(4):
        for ranks in (1, 2, 64):
            numbers = 1000 * int(torch.randint(1, 10_000, (), generator=generator))
            yield Case((numbers, ranks, stage), f"ZeRO {stage}, {ranks} ranks")


def held_as(numbers, ranks, stage, *, weights=3, gradients=2, moments=1, size=8) -> Held:
    """`held` with other stages or another size of the moments."""
    share = numbers / ranks
    return Held(
        4 * (share if stage >= weights else numbers),
        4 * (share if stage >= gradients else numbers),
        size * (share if stage >= moments else numbers),
    )


HELD = Exercise(
    "24.3",
    "held",
    "bytes a rank keeps, stage by stage",
    held,
    stages,
    (
        Mistake(
            "everything in parts at once",
            "Each stage takes one thing more apart. Stage 1 leaves gradients and weights whole.",
            lambda numbers, ranks, stage: held_as(numbers, ranks, stage, weights=1, gradients=1),
        ),
        Mistake(
            "weights before gradients",
            "Moments are needed once a step, gradients during one backward pass, weights in every "
            "pass: they are taken apart in this order.",
            lambda numbers, ranks, stage: held_as(numbers, ranks, stage, weights=2, gradients=3),
        ),
        Mistake(
            "weights first",
            "The moments are half of all bytes and needed least often, so they go first.",
            lambda numbers, ranks, stage: held_as(numbers, ranks, stage, weights=1, moments=3),
        ),
        Mistake(
            "one moment only",
            "AdamW keeps two numbers for each weight: the mean of gradients and of their squares.",
            lambda numbers, ranks, stage: held_as(numbers, ranks, stage, size=4),
        ),
        Mistake(
            "stages counted one too high",
            "Stage 0 takes nothing apart, stage 1 the moments.",
            lambda numbers, ranks, stage: held_as(numbers, ranks, stage + 1),
        ),
    ),
    (
        "Sixteen bytes for each number with stage 0. Which of them does which stage divide?",
        "Moments from stage 1 on, then gradients, then weights.",
        "For each of the three: its bytes times the share of a rank if the stage has reached it, "
        "else times all numbers.",
    ),
    rtol=1e-9,
    atol=0.0,
)

EXERCISES = (BATCH, RING, HELD)

PREDICTIONS = (
    Prediction(
        "24.a",
        "Four ranks sum a gradient: rank 0 collects and returns it, or a ring passes pieces round. "
        "How many times less does the busiest rank send and receive in the ring?",
        "times",
        4.0,
        0.1,
        100.0,
    ),
    Prediction(
        "24.b",
        "V3's 671 billion numbers, trained with float32 AdamW and a whole copy on every GPU: how "
        "many GB per GPU?",
        "GB",
        1000.0,
        1.0,
        1e6,
    ),
)
