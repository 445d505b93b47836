"""A power law through a few small runs, to say what a larger one would reach before it is paid for.

Loss cannot fall below the entropy of the text itself. What lies above that floor falls, over a few
orders of magnitude, like a power of the compute: a straight line once both are written as logs.
The law says nothing about runs unlike those it was fitted to, and gives no reason for itself.
(Kaplan et al. 2001.08361; Hoffmann et al. 2203.15556)
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from minids.errors import UserError


class Law(NamedTuple):
    """loss(x) = floor + scale · x^−exponent"""

    scale: float
    exponent: float
    floor: float

    def at(self, x: float) -> float:
        """The loss expected at x."""
        return self.floor + self.scale * x**-self.exponent

    def needed(self, loss: float) -> float:
        """The x at which the law reaches a loss above its floor."""
        return (self.scale / (loss - self.floor)) ** (1 / self.exponent)


def fit(x: Sequence[float], y: Sequence[float], floor: float) -> Law:
    """The straight line through (log x, log of what lies above the floor), by least squares."""
    if len(set(x)) < 2 or min(x) <= 0:
        raise UserError("x", f"{len(set(x))} different sizes", "two and more, all above 0")
    if min(y) <= floor:
        raise UserError("y", f"{min(y):g} is not above the floor", f"more than {floor:g}")
    across = [math.log(value) for value in x]
    up = [math.log(value - floor) for value in y]
    slope, height = statistics.linear_regression(across, up)
    return Law(math.exp(height), -slope, floor)


def without_each(
    x: Sequence[float], y: Sequence[float], floor: float, at: float
) -> tuple[float, float]:
    """Lowest and highest expectation at `at` when any one run is left out: how firm the line is."""
    found = []
    for i in range(len(x)):
        rest = [j for j in range(len(x)) if j != i]
        found.append(fit([x[j] for j in rest], [y[j] for j in rest], floor).at(at))
    return min(found), max(found)
