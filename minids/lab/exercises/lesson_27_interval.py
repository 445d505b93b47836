"""Exercises 27.1 and 27.2: what failures and saves waste, and the interval that wastes least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minids.count.restarts import best_interval, wasted
from minids.lab.exercise import Case, Exercise, Mistake

if TYPE_CHECKING:
    import torch


def clusters(generator: torch.Generator) -> Iterator[Case]:
    """Short and long intervals, saves, restarts."""
    import torch

    for i in range(6):
        a, b, c, d = torch.rand(4, generator=generator).tolist()
        interval, save, restart = 300 + 3000 * a, 10 + 100 * b, 60 + 1000 * c
        between = 3600 * (2 + 50 * d)
        label = f"every {interval:.0f} s, {save:.0f} s a save, a failure in {between:.0f} s"
        yield Case((interval, save, restart if i else 0.0, between), label)


def whole_interval_lost(interval_s, save_s, restart_s, between_s):
    return save_s / interval_s + (interval_s + restart_s) / between_s


def restart_forgotten(interval_s, save_s, _restart_s, between_s):
    return save_s / interval_s + interval_s / 2 / between_s


def saves_forgotten(interval_s, _save_s, restart_s, between_s):
    return (interval_s / 2 + restart_s) / between_s


def restart_per_save(interval_s, save_s, restart_s, between_s):
    return (save_s + restart_s) / interval_s + interval_s / 2 / between_s


def of_all_time(interval_s, save_s, restart_s, between_s):
    share = wasted(interval_s, save_s, restart_s, between_s)
    return share / (1 + share)


def failures_per_interval(interval_s, save_s, restart_s, between_s):
    return save_s / interval_s + (interval_s / 2 + restart_s) * between_s / interval_s


WASTED = Exercise(
    "27.1",
    "wasted",
    "saves, work done again, restarts",
    wasted,
    clusters,
    (
        Mistake(
            "a whole interval lost",
            "A failure comes at any moment between two saves: sometimes right behind one. On "
            "average half of the interval is done again.",
            whole_interval_lost,
        ),
        Mistake(
            "restart forgotten",
            "After a failure a node is replaced, processes meet, weights are read. All others wait "
            "for that.",
            restart_forgotten,
        ),
        Mistake(
            "saves forgotten",
            "Then saving all the time would be best.",
            saves_forgotten,
        ),
        Mistake(
            "a restart at every save",
            "A run restarts after a failure, not after a save.",
            restart_per_save,
        ),
        Mistake(
            "share of all time",
            "What is asked for is the waste per second of useful work; the second formula of the "
            "derivation differentiates that one.",
            of_all_time,
        ),
        Mistake(
            "failures the wrong way round",
            "Failures in a useful second are one over the time between them.",
            failures_per_interval,
        ),
    ),
    (
        "Per useful second: how many saves, how many failures?",
        "One save per interval. One failure per between_s, each costs what is done again and a "
        "restart.",
        "Two quotients, added: a save over an interval; half an interval and a restart over the "
        "time between failures.",
    ),
    rtol=1e-9,
    atol=0.0,
)


def rates(generator: torch.Generator) -> Iterator[Case]:
    """Saves of seconds and minutes, failures of hours and days."""
    import torch

    for _ in range(5):
        a, b = torch.rand(2, generator=generator).tolist()
        save, between = 3 + 300 * a, 3600 * (1 + 80 * b)
        yield Case((save, between), f"{save:.0f} s a save, a failure in {between / 3600:.0f} h")


def without_the_two(save_s, between_s):
    return (save_s * between_s) ** 0.5


def mean_of_both(save_s, between_s):
    return (save_s + between_s) / 2


def half_a_failure(_save_s, between_s):
    return between_s / 2


def no_root(save_s, between_s):
    return 2 * save_s * between_s


def over_the_save(save_s, between_s):
    return (2 * between_s / save_s) ** 0.5


INTERVAL = Exercise(
    "27.2",
    "best_interval",
    "how often to save",
    best_interval,
    rates,
    (
        Mistake(
            "the half forgotten",
            "A failure costs half an interval, not a whole one. The half becomes a two under the "
            "root.",
            without_the_two,
        ),
        Mistake(
            "mean of both times",
            "Arithmetic between seconds and days is ruled by the days. Where one term falls and "
            "the other climbs, a product decides.",
            mean_of_both,
        ),
        Mistake(
            "half the time between failures",
            "That a save may cost a second or an hour must change something.",
            half_a_failure,
        ),
        Mistake(
            "root forgotten",
            "The derivative gives the square of the interval: the result was in square seconds.",
            no_root,
        ),
        Mistake(
            "save on the wrong side",
            "Dearer saves should be rarer. Check the unit: a number of what?",
            over_the_save,
        ),
    ),
    (
        "Take `wasted` as a function of the interval alone. Which terms move?",
        "One falls like 1/t, one climbs like t. At the lowest point the derivative is zero.",
        "save/t² equals one over twice the time between failures; solve for t.",
    ),
    rtol=1e-9,
    atol=0.0,
)
