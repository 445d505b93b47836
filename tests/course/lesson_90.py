"""Exercises of a lesson that exists for tests only."""

import torch

from minids.lab.exercise import Case, Exercise, Mistake


def doubled(x):
    return 2.0 * x


def mean(x):
    return x.mean()


def cases(generator):
    for n in (1, 3, 7):
        yield Case((torch.randn(n, generator=generator),), f"{n} numbers")


EXERCISES = (
    Exercise(
        id="90.1",
        name="doubled",
        title="twice as much",
        reference=doubled,
        cases=cases,
        mistakes=(
            Mistake("squared", "squaring doubles two only", lambda x: x * x),
            Mistake("halved", "this is the other way round", lambda x: x / 2),
            Mistake("two added", "adding two doubles two only", lambda x: x + 2),
        ),
        hints=("multiply", "by a number", "that is even"),
        gradients=True,
    ),
    Exercise(
        id="90.2",
        name="mean",
        title="the mean",
        reference=mean,
        cases=cases,
        mistakes=(
            Mistake("sum", "a sum grows with the count", lambda x: x.sum()),
            Mistake("median", "the middle is not the mean", lambda x: x.median()),
            Mistake("largest", "the largest is not the mean", lambda x: x.max()),
        ),
        hints=("add", "divide", "by how many"),
    ),
)
