"""What failures cost a long run, and how often it should save.

Work since the last checkpoint is lost with a failure, on average half an interval; a checkpoint
itself takes time. Saving often loses little and waits much, and the other way round. Failures come
at random at a constant rate, as of many parts that wear out independently; the run starts anew from
its newest checkpoint. All times in one unit. (Young 1974; Daly 2006)
"""

from __future__ import annotations

import math
import random


def mean_between(devices: int, device_s: float) -> float:
    """Time between failures of a run that needs all its devices, each failing every `device_s`."""
    return device_s / devices


def wasted(interval_s: float, save_s: float, restart_s: float, between_s: float) -> float:
    """Share of the useful time that is lost besides: saves, work done again, restarts.

    To first order: an interval, a save and a restart are much shorter than the time `between_s`
    failures.
    """
    again_s = interval_s / 2 + restart_s  # of each failure
    return save_s / interval_s + again_s / between_s


def best_interval(save_s: float, between_s: float) -> float:
    """Useful time between two saves at which the least is wasted. (Young 1974)"""
    return math.sqrt(2 * save_s * between_s)


def goodput(interval_s: float, save_s: float, restart_s: float, between_s: float) -> float:
    """Useful share of all time, exactly, if failures are independent. (Daly 2006, eq. 10)

    They may strike while saving and while starting too. An interval is repeated until it ends.
    """
    tries_s = between_s * math.expm1((interval_s + save_s) / between_s)
    return interval_s / (math.exp(restart_s / between_s) * tries_s)


def simulate(
    interval_s: float, save_s: float, restart_s: float, between_s: float, *, useful_s: float,
    seed: int,
) -> float:  # fmt: skip
    """One run of `useful_s` with failures drawn at random → its goodput."""
    draw = random.Random(seed)
    now, done, failure = 0.0, 0.0, draw.expovariate(1 / between_s)
    while done < useful_s:
        end = now + interval_s + save_s
        if end <= failure:
            now, done = end, done + interval_s
            continue
        now = failure
        failure = now + draw.expovariate(1 / between_s)
        while failure < now + restart_s:  # once more, while starting
            now, failure = failure, failure + draw.expovariate(1 / between_s)
        now += restart_s
    return done / now
