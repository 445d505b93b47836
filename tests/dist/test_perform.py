"""Real processes carry out every schedule in its order, with the gradients of one process."""

from itertools import pairwise

import pytest

from minids.dist import perform as performing
from minids.dist.perform import alone, perform
from minids.dist.schedules import SCHEDULES, Action, made, parts, waits_for
from minids.errors import UserError

P, M = 4, 8


@pytest.fixture(scope="module")
def performed():
    schedules = [rule(P, M) for rule in SCHEDULES.values()]
    return dict(zip(SCHEDULES, perform(schedules, unit_s=0.002), strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_rank_does_all_of_its_order_in_order(name, performed):
    table = performed[name].table
    for rank, order in enumerate(table.schedule.orders):
        mine = [event for event in table.events if event.rank == rank]
        assert tuple(event.action for event in mine) == order
        assert all(a.end <= b.start for a, b in pairwise(mine))


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_the_timetable_says_must_be_earlier_was_earlier(name, performed):
    table = performed[name].table
    end = {}
    for event in table.events:
        for kind, stage, micro in parts(event.action):
            end["I" if kind == "B" else kind, stage, micro] = event.end
    for event in table.events:
        for part in parts(event.action):
            for need in waits_for(*part, table.schedule.stages):
                assert end[need] <= event.start, (event, need)


@pytest.mark.parametrize("name", SCHEDULES)
def test_gradients_are_those_of_one_process(name, performed):
    assert performed[name].error <= 1e-12


def test_a_wrong_gradient_is_seen(monkeypatch):
    right = alone(2, 2)
    monkeypatch.setattr(performing, "alone", lambda *_: [2 * grad for grad in right])
    [found] = perform([SCHEDULES["1f1b"](2, 2)], unit_s=0.001)
    assert found.error == pytest.approx(0.5)


def test_ranks_that_would_wait_for_ever_are_not_started():
    stuck = made("stuck", [[Action("B", 0, 0), Action("F", 0, 0)], [Action("F", 1, 0)]], 2, 1)
    with pytest.raises(UserError, match="wait for each other"):
        perform([stuck])
