"""Lesson 28: a run's bill, the utilisation that a published bill implies, a line through runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minids.count import scaling
from minids.count.cost import HOUR, Training, days, implied_mfu, train
from minids.count.hardware import TABLE
from minids.lab.exercise import Case, Exercise, Mistake, Prediction

if TYPE_CHECKING:
    import torch

DTYPES = ("bfloat16", "fp8", "float32")

# 28.1 train


def bills(generator: torch.Generator) -> Iterator[Case]:
    """Runs of all sizes on machines with and without FP8 units."""
    import torch

    for i, machine in enumerate(TABLE[:9]):
        size, share = torch.rand(2, generator=generator).tolist()
        done, mfu = 10 ** (20 + 5 * size), 0.2 + 0.4 * share
        devices = 8 * (1 + int(torch.randint(400, (), generator=generator)))
        price = 1 + 0.25 * i
        label = f"{done:.0e} FLOPs on {devices:,} {machine.name}"
        yield Case((done, machine, mfu, devices, price, DTYPES[i % 3]), label)


def bill(done, machine, mfu, devices, price, dtype, *, share=None, peak=None) -> Training:
    """`train` with one thing done otherwise."""
    hours = done / ((peak or machine.flops(dtype)) * (share or mfu)) / HOUR
    wall, energy = days(hours, devices), hours * machine.watts / 1000
    return Training(done, hours, wall, hours * price, mfu, energy)


def wall_clock_rent(done, machine, mfu, devices, price, dtype):
    whole = bill(done, machine, mfu, devices, price, dtype)
    return whole._replace(dollars=whole.hours / devices * price)


def at_the_peak(done, machine, mfu, devices, price, dtype):
    return bill(done, machine, mfu, devices, price, dtype, share=1.0)


def times_utilisation(done, machine, mfu, devices, price, dtype):
    return bill(done, machine, mfu, devices, price, dtype, share=1 / mfu)


def always_bfloat16(done, machine, mfu, devices, price, dtype):
    return bill(done, machine, mfu, devices, price, dtype, peak=machine.flops("bfloat16"))


def seconds_as_hours(done, machine, mfu, devices, price, dtype):
    return bill(done * HOUR, machine, mfu, devices, price, dtype)._replace(flops=done)


def one_device_days(done, machine, mfu, devices, price, dtype):
    whole = bill(done, machine, mfu, devices, price, dtype)
    return whole._replace(days=days(whole.hours, 1))


TRAIN = Exercise(
    "28.1",
    "train",
    "from FLOPs to hours, days, dollars and energy",
    train,
    bills,
    (
        Mistake(
            "rent of one device only",
            "Every device is paid for every hour. A cluster is faster, not cheaper.",
            wall_clock_rent,
        ),
        Mistake(
            "utilisation left out",
            "At the peak of the data sheet nothing ever runs: memory, links and waiting take "
            "their share of each second.",
            at_the_peak,
        ),
        Mistake(
            "utilisation on the wrong side",
            "A worse machine would need less time. The share of the peak is what one divides by.",
            times_utilisation,
        ),
        Mistake(
            "always the bfloat16 peak",
            "Which units multiply decides: FP8 runs twice as fast as bfloat16 on an H800.",
            always_bfloat16,
        ),
        Mistake(
            "seconds taken for hours",
            "The peak is per second, the rent per hour: the bill is 3,600 times too high.",
            seconds_as_hours,
        ),
        Mistake(
            "days of one device",
            "The calendar counts for all devices at once; only the bill adds them up.",
            one_device_days,
        ),
    ),
    (
        "Units first: FLOPs, over FLOPs per second, are seconds of how many devices?",
        "The peak times the utilisation is what a device does in a second. An hour has HOUR of "
        "them, a kilowatt 1,000 watts.",
        "Hours of all devices together; from these follow the days (there is a function), the "
        "rent and the energy, each by one more factor.",
    ),
    rtol=1e-9,
    atol=0.0,
)

# 28.2 implied_mfu


def published(generator: torch.Generator) -> Iterator[Case]:
    """FLOPs and hours such that some share of the peak comes out."""
    import torch

    for i, machine in enumerate(TABLE[:9]):
        dtype = DTYPES[(i + i // 3) % 3]
        share, size = torch.rand(2, generator=generator).tolist()
        hours = 10 ** (3 + 4 * size)
        done = hours * HOUR * machine.flops(dtype) * (0.1 + 0.5 * share)
        yield Case((done, hours, machine, dtype), f"{hours:,.0f} hours of {machine.name}, {dtype}")


IMPLIED = Exercise(
    "28.2",
    "implied_mfu",
    "the share of the peak that a bill tells",
    implied_mfu,
    published,
    (
        Mistake(
            "upside down",
            "What was done over what could have been done, not the other way round: a share is "
            "below 1.",
            lambda done, hours, machine, dtype="bfloat16": 1 / implied_mfu(
                done, hours, machine, dtype
            ),
        ),
        Mistake(
            "hours taken for seconds",
            "The peak is per second. A utilisation of several hundred should raise an eyebrow.",
            lambda done, hours, machine, dtype="bfloat16": HOUR * implied_mfu(
                done, hours, machine, dtype
            ),
        ),
        Mistake(
            "always the bfloat16 peak",
            "A share of which peak? The same run is at half the share of FP8's.",
            lambda done, hours, machine, dtype="bfloat16": implied_mfu(  # noqa: ARG005
                done, hours, machine, "bfloat16"
            ),
        ),
        Mistake(
            "multiplied by 8 devices",
            "The hours are device hours already: all devices are in them.",
            lambda done, hours, machine, dtype="bfloat16": implied_mfu(done, hours, machine, dtype)
            / machine.per_node,
        ),
    ),
    (
        "It is the first exercise read backwards: hours are known, the utilisation is not.",
        "How many FLOPs could those device hours have held at the peak?",
        "Done over possible. Possible is hours, times seconds of an hour, times the peak of that "
        "dtype.",
    ),
    rtol=1e-9,
    atol=0.0,
)  # fmt: skip

# 28.3 fit


def runs(generator: torch.Generator) -> Iterator[Case]:
    """Losses near a law, their sizes in any order."""
    import torch

    for n in (2, 3, 4, 6):
        at = torch.randperm(n, generator=generator) + 0.6 * torch.rand(
            n, generator=generator
        )  # [n]
        x = (10 ** (9 + 5 * at.double() / n)).tolist()  # [n]
        scale, exponent, floor = torch.rand(3, generator=generator).tolist()
        law = scaling.Law(20 + 60 * scale, 0.08 + 0.1 * exponent, 0.5 + floor)
        noise = (0.15 * torch.randn(n, generator=generator)).exp().tolist()  # [n]
        y = [law.floor + (law.at(a) - law.floor) * b for a, b in zip(x, noise, strict=True)]
        yield Case((x, y, law.floor), f"{n} runs above {law.floor:.2f}")


def of_logs(x, y, floor, *, base=math.e, left=True, centred=True, turned=False):
    """`fit` with one thing done otherwise."""
    across = [math.log(v, base) for v in x]
    up = [math.log(v - floor if left else v) for v in y]
    if turned:
        back = of_pairs(up, across, centred)
        slope, start = 1 / back[0], -back[1] / back[0]
    else:
        slope, start = of_pairs(across, up, centred)
    return scaling.Law(math.exp(start), -slope, floor)


def of_pairs(x, y, centred):
    """Slope and constant of least squares."""
    mean_x, mean_y = (sum(v) / len(v) if centred else 0.0 for v in (x, y))
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slope /= sum((a - mean_x) ** 2 for a in x)
    return slope, mean_y - slope * mean_x


def between_ends(x, y, floor):
    first, last = (pick(range(len(x)), key=x.__getitem__) for pick in (min, max))
    return scaling.fit([x[first], x[last]], [y[first], y[last]], floor)


def with_its_sign(x, y, floor):
    law = scaling.fit(x, y, floor)
    return law._replace(exponent=-law.exponent)


FIT = Exercise(
    "28.3",
    "fit",
    "a straight line through logs",
    scaling.fit,
    runs,
    (
        Mistake(
            "floor left in",
            "The loss as it is does not fall to zero, so its log is no straight line. What obeys "
            "the law is what lies above the floor.",
            lambda x, y, floor: of_logs(x, y, floor, left=False),
        ),
        Mistake(
            "line through the origin",
            "Without its means the line must pass through log x = 0, a compute of one FLOP.",
            lambda x, y, floor: of_logs(x, y, floor, centred=False),
        ),
        Mistake(
            "logs of two bases",
            "One log to base 10, the other to base e: the exponent is off by a factor of 2.3.",
            lambda x, y, floor: of_logs(x, y, floor, base=10),
        ),
        Mistake(
            "compute explained by loss",
            "The line of x over y is another one. Errors are in the loss; the compute is known "
            "exactly.",
            lambda x, y, floor: of_logs(x, y, floor, turned=True),
        ),
        Mistake(
            "first and last run only",
            "The runs between the ends say nothing then, and the noise of two runs decides.",
            between_ends,
        ),
        Mistake(
            "exponent with its sign",
            "The law has a minus already: x to the power of minus the exponent. A loss that falls "
            "has a positive exponent.",
            with_its_sign,
        ),
    ),
    (
        "scale · x^−exponent is a straight line in other coordinates: which two?",
        "Python's statistics module draws a line through points; it needs to be told which ones.",
        "Log of x, log of what lies above the floor. The slope is the exponent turned round; the "
        "line's height at log x = 0 is the log of the scale.",
    ),
    rtol=1e-6,
    atol=0.0,
)

EXERCISES = (TRAIN, IMPLIED, FIT)

PREDICTIONS = (
    Prediction(
        "28.a",
        "What share of its cards' bfloat16 peak did DeepSeek-V3's pre-training reach?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
    Prediction(
        "28.b",
        "Four small runs end 2.9, 1.4, 0.7 and 0.6 nats above the floor, each with about twice the "
        "compute of the one before. Where does a fifth, twice as large again, end?",
        "nats above the floor",
        0.4,
        0.0,
        3.0,
    ),
)
