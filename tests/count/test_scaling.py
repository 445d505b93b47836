"""A law goes through points that obey it, and says how firm it is."""

import math

import numpy as np
import pytest

from minids.count.scaling import Law, fit, without_each
from minids.errors import UserError

LAW = Law(scale=40.0, exponent=0.15, floor=1.2)
SIZES = [1e9, 4e9, 3e10, 2e11, 9e11]


def test_points_of_a_law_give_the_law_back():
    found = fit(SIZES, [LAW.at(x) for x in SIZES], LAW.floor)
    assert found == pytest.approx(LAW, rel=1e-9)
    assert without_each(SIZES, [LAW.at(x) for x in SIZES], 1.2, 1e14) == pytest.approx(
        (LAW.at(1e14), LAW.at(1e14)), rel=1e-9
    )


def test_with_noise_it_is_numpy_s_least_squares():
    noise = np.exp(np.random.default_rng(3).normal(0, 0.1, len(SIZES)))
    y = [LAW.floor + (LAW.at(x) - LAW.floor) * n for x, n in zip(SIZES, noise, strict=True)]
    slope, constant = np.polyfit(np.log(SIZES), np.log(np.array(y) - LAW.floor), 1)
    found = fit(SIZES, y, LAW.floor)
    assert (found.exponent, math.log(found.scale)) == pytest.approx((-slope, constant))
    low, high = without_each(SIZES, y, LAW.floor, 1e13)
    assert low < found.at(1e13) < high


def test_what_is_needed_is_what_reaches_it():
    assert LAW.at(LAW.needed(1.5)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("x", "y"), [([3.0, 3.0], [2.0, 1.9]), ([0.0, 1.0], [2.0, 1.9]), ([1.0, 2.0], [2.0, 1.2])]
)
def test_what_has_no_line_is_refused(x, y):
    with pytest.raises(UserError):
        fit(x, y, 1.2)
