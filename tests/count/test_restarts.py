"""Formulas of saving and failing against runs that fail at random."""

import statistics

import pytest

from minids.count.restarts import best_interval, goodput, mean_between, simulate, wasted

HOUR = 3600.0
CASES = [(1200.0, 60.0, 600.0, 3 * HOUR), (300.0, 30.0, 120.0, HOUR), (3000.0, 300.0, 0.0, HOUR)]


@pytest.mark.parametrize("case", CASES)
def test_simulated_runs_have_the_goodput_of_the_formula(case):
    found = [simulate(*case, useful_s=2000 * case[3], seed=seed) for seed in range(5)]
    assert statistics.mean(found) == pytest.approx(goodput(*case), rel=0.01)


def test_the_first_order_is_the_limit_of_the_exact_one():
    for scale, error in ((1, 0.05), (100, 0.0005)):
        interval, save, restart, between = 1200.0, 60.0, 300.0, 20 * HOUR * scale
        exact = 1 / goodput(interval, save, restart, between) - 1
        assert wasted(interval, save, restart, between) == pytest.approx(exact, rel=error * 3)


@pytest.mark.parametrize(("save", "between"), [(60.0, 10 * HOUR), (5.0, HOUR), (300.0, 100 * HOUR)])
def test_no_other_interval_wastes_less(save, between):
    best = best_interval(save, between)
    least = wasted(best, save, 100.0, between)
    assert least < min(wasted(best * by, save, 100.0, between) for by in (0.9, 0.99, 1.01, 1.1))
    assert save / best == pytest.approx(best / 2 / between)  # both wastes are equal there
    around = [best * 1.02**i for i in range(-100, 100)]
    exact = max(around, key=lambda t: goodput(t, save, 100.0, between))
    assert exact == pytest.approx(best, rel=0.05)


def test_failures_add_up_over_devices():
    assert mean_between(2048, 2048 * HOUR) == HOUR
    assert simulate(100.0, 0.0, 0.0, 1e12, useful_s=1000.0, seed=1) == 1.0
