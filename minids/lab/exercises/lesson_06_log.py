"""Lesson 06: instruments that read the log.  Axes: e experts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor

from minids.lab.evidence import Health, expert_health, spikes
from minids.lab.exercise import Case, Exercise, Mistake

# 06.3 expert_health


def load_cases(generator: torch.Generator) -> Iterator[Case]:
    """Even, one for all, uneven, an expert that wakes late, and one that works in bursts."""
    yield Case((torch.tensor([[4, 4], [4, 4]]), 0.1), "even")
    yield Case((torch.tensor([[0, 9, 0], [0, 9, 0]]), 0.1), "one for all")
    for e, share in ((4, 0.5), (6, 0.1), (8, 0.2)):
        load = torch.randint(20, 60, (5, e), generator=generator)  # [steps e]
        load[:, 1] = torch.randint(0, 3, (5,), generator=generator)
        yield Case((load, share), "one starves")
    bursts = torch.tensor([[30, 0, 10], [0, 30, 10], [0, 30, 10], [30, 0, 10]])
    yield Case((bursts, 0.5), "two work by turns")
    late = torch.tensor([[50, 50, 0, 60], [50, 50, 1, 60], [50, 40, 2, 68]])
    yield Case((late, 0.1), "one hardly works")
    busy = torch.tensor([[90, 4, 3, 3], [88, 5, 3, 4]])
    yield Case((busy, 0.1), "one takes most")
    yield Case((torch.tensor([[10, 30]]), 0.5), "exactly the share")


def evenness_of(p: Tensor) -> float:
    return (torch.special.entr(p).sum() / math.log(len(p))).item()


def shares_of(load: Tensor) -> Tensor:
    total = load.double().sum(0)
    return total / total.sum()


def in_bits(load, share):
    p = shares_of(load)
    dead = (p < share / len(p)).nonzero().flatten().tolist()
    return Health((torch.special.entr(p).sum() / math.log(2)).item(), dead)


def per_step_entropy(load, share):
    each = [evenness_of(row.double() / row.sum()) for row in load]
    p = shares_of(load)
    return Health(sum(each) / len(each), (p < share / len(p)).nonzero().flatten().tolist())


def last_step_only(load, share):
    p = load[-1].double() / load[-1].sum()
    return Health(evenness_of(p), (p < share / len(p)).nonzero().flatten().tolist())


def share_of_all(load, share):
    p = shares_of(load)
    return Health(evenness_of(p), (p < share).nonzero().flatten().tolist())


def exactly_none(load, share):
    del share
    p = shares_of(load)
    return Health(evenness_of(p), (p == 0).nonzero().flatten().tolist())


def naive_logarithm(load, share):
    p = shares_of(load)
    evenness = (-(p * p.log()).sum() / math.log(len(p))).item()
    return Health(evenness, (p < share / len(p)).nonzero().flatten().tolist())


def share_of_busiest(load, share):
    p = shares_of(load)
    return Health(evenness_of(p), (p < share * p.max()).nonzero().flatten().tolist())


HEALTH = Exercise(
    "06.3",
    "expert_health",
    "how evenly experts work, and which are dead",
    expert_health,
    load_cases,
    (
        Mistake(
            "zero times infinity",
            "An expert without visits gives 0 · ln 0 = NaN, just in the case that matters. In an "
            "entropy this term counts as 0.",
            naive_logarithm,
        ),
        Mistake(
            "entropy not normalised",
            "In bits, 8 even experts give 3 and 256 give 8: the number says nothing without e. "
            "Divided by the largest possible entropy it runs from 0 to 1.",
            in_bits,
        ),
        Mistake(
            "steps taken one by one",
            "Entropies of single steps are averaged. Experts that work by turns then look idle, "
            "although all of them learn.",
            per_step_entropy,
        ),
        Mistake(
            "last step only",
            "One batch may hold no work for a living expert. All steps given count.",
            last_step_only,
        ),
        Mistake(
            "share of all visits",
            "The limit is a share of a fair load, which is 1/e of all visits. Against all visits "
            "itself, with many experts every one of them is dead.",
            share_of_all,
        ),
        Mistake(
            "dead means exactly zero",
            "An expert with three tokens in a thousand learns nothing either.",
            exactly_none,
        ),
        Mistake(
            "measured by the busiest",
            "The limit hangs on the busiest expert: where one takes most, healthy ones count as "
            "dead.",
            share_of_busiest,
        ),
    ),
    (
        "First one load for all steps together, then shares that add up to 1.",
        "Entropy is largest when all shares are 1/e, and then it is ln e. What is 0 · ln 0?",
        "Sum over steps, divide by the sum; evenness is Σ −p ln p over ln e; dead are those with "
        "p below share/e.",
    ),
    atol=1e-9,
)

# 06.4 spikes


def falling(n: int, generator: torch.Generator) -> list[float]:
    """A healthy curve."""
    noise = torch.randn(n, generator=generator, dtype=torch.float64) * 0.03
    return [2.0 + 5.0 * math.exp(-i / 8) + noise[i].item() for i in range(n)]


def loss_cases(generator: torch.Generator) -> Iterator[Case]:
    """Healthy, flat, one spike, a plateau of spikes, two apart, NaN."""
    yield Case(([3.0] * 6, 4, 6.0), "flat")
    yield Case((falling(30, generator), 8, 6.0), "healthy")
    for window, places in ((5, [20]), (6, [15, 16, 17]), (8, [12, 25]), (4, [3, 11])):
        loss = falling(32, generator)
        for place in places:
            loss[place] += 4.0
        yield Case((loss, window, 6.0), f"raised at {places}")
    loss = falling(30, generator)
    loss[20], loss[21], loss[24] = math.nan, loss[19] + 1.0, loss[19] + 6.0
    yield Case((loss, 8, 6.0), "not a number")
    loss = [3.0 + 0.001 * (i % 3) for i in range(24)]
    loss[18] = 3.05
    yield Case((loss, 6, 6.0), "almost flat, a small bump")
    loss = falling(20, generator)
    recent = loss[2:10]
    loss[10] = (by_median(recent, 4.0) + by_mean(recent, 4.0)) / 2
    yield Case((loss, 8, 4.0), "a bump near the limit")
    loss = falling(40, generator)
    loss[30] -= 1.5
    yield Case((loss, 8, 6.0), "a lucky step")
    loss = [300.0 + 0.1 * (i % 3) for i in range(12)] + [310.0]
    yield Case((loss, 6, 6.0), "large and almost flat")


def detector(loss, window, factor, limit, keep=False, ahead=False, nan=True):
    """The detector with its parts exchangeable."""
    found, accepted = [], []
    for step, x in enumerate(loss):
        recent = loss[max(0, step - window // 2) :][:window] if ahead else accepted[-window:]
        if len(recent) == window:
            top = limit(recent, factor)
            if not x <= top if nan else x > top:
                found.append(step)
                if not keep:
                    continue
        accepted.append(x)
    return found


def by_median(recent, factor):
    middle = statistics.median(recent)
    spread = 1.4826 * statistics.median(abs(r - middle) for r in recent)
    return middle + factor * max(spread, 0.02 * middle)


def by_mean(recent, factor):
    mean = statistics.fmean(recent)
    return mean + factor * max(statistics.pstdev(recent), 0.02 * mean)


def spikes_remembered(loss, window, factor):
    return detector(loss, window, factor, by_median, keep=True)


def mean_and_deviation(loss, window, factor):
    return detector(loss, window, factor, by_mean)


def no_floor(loss, window, factor):
    def limit(recent, factor):
        middle = statistics.median(recent)
        return middle + factor * 1.4826 * statistics.median(abs(r - middle) for r in recent)

    return detector(loss, window, factor, limit)


def nan_missed(loss, window, factor):
    return detector(loss, window, factor, by_median, nan=False)


def whole_run(loss, window, factor):
    finite = [x for x in loss if x == x]
    top = by_median(finite, factor)
    return [step for step, x in enumerate(loss) if step >= window and not x <= top]


def both_ways(loss, window, factor):
    found, accepted = [], []
    for step, x in enumerate(loss):
        recent = accepted[-window:]
        if len(recent) == window:
            middle = statistics.median(recent)
            if not abs(x - middle) <= by_median(recent, factor) - middle:
                found.append(step)
                continue
        accepted.append(x)
    return found


def jump_from_last(loss, window, factor):
    def limit(recent, factor):
        return by_median(recent, factor) - statistics.median(recent) + recent[-1]

    return detector(loss, window, factor, limit)


SPIKES = Exercise(
    "06.4",
    "spikes",
    "steps that stand out",
    spikes,
    loss_cases,
    (
        Mistake(
            "spikes remembered",
            "Spikes enter the window, lift the limit, and hide the spikes that follow. Only "
            "accepted losses are remembered.",
            spikes_remembered,
        ),
        Mistake(
            "mean and deviation",
            "On a falling curve, mean and deviation are moved by its oldest values. Medians "
            "give way less.",
            mean_and_deviation,
        ),
        Mistake(
            "no smallest spread",
            "On a flat stretch the spread is almost 0 and every ripple becomes a spike.",
            no_floor,
        ),
        Mistake(
            "NaN passes",
            "Every comparison with NaN is false, so x > limit lets it through, and from then on "
            "the median is NaN as well. Ask whether x is within the limit.",
            nan_missed,
        ),
        Mistake(
            "whole run at once",
            "The median of the whole run looks into the future, and the high losses of the "
            "beginning make it blind. A guard knows only what came before.",
            whole_run,
        ),
        Mistake(
            "good luck reported",
            "A loss far below the rest is no spike; only what lies above is harmful.",
            both_ways,
        ),
        Mistake(
            "compared with the last",
            "The last loss is one noisy number. The median of the window is the reference.",
            jump_from_last,
        ),
    ),
    (
        "At each step: what is usual, how much does it vary, and does this loss exceed both?",
        "Median and median absolute deviation of the last accepted losses; a smallest spread; and "
        "what stands out is not accepted.",
        "With a full window: limit = median + factor · max(1.4826 · deviation, 0.02 · median). "
        "If not loss ≤ limit: note the step and go on; otherwise accept it.",
    ),
)
