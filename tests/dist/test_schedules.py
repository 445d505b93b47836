"""Timetables against the published bubbles, and what every order must keep."""

from types import SimpleNamespace

import pytest

from minids.count.plan import bubble
from minids.dist.schedules import (
    SCHEDULES,
    Action,
    Durations,
    made,
    parts,
    peak_in_flight,
    play,
)
from minids.errors import UserError

SIZES = [(2, 4), (4, 8), (4, 16), (8, 24)]
F, B, W, BOTH = 1.0, 2.0, 1.0, 3.0
WAITING = {  # DeepSeek-V3 Table 2, and its sources; stages of interleaving and V are half as long
    "gpipe": lambda p: (p - 1) * (F + B),
    "1f1b": lambda p: (p - 1) * (F + B),
    "interleaved": lambda p: (p - 1) * (F + B),
    "zb1p": lambda p: (p - 1) * (F + B - 2 * W),
    "dualpipe": lambda p: (p / 2 - 1) * (BOTH + B - 3 * W),
    "dualpipev": lambda p: (p - 1) * (BOTH + B - 3 * W),
}
HELD = ("gpipe", "1f1b", "zb1p", "dualpipe", "dualpipev")


def held(name, p, m, r):
    """Micro-batches in flight on rank r, as published; V's are of half stages."""
    return {"gpipe": m, "1f1b": p - r, "zb1p": p, "dualpipe": p + 1, "dualpipev": 2 * p + 1}[name]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_every_rank_waits_as_long_as_published(name, p, m):
    table = play(SCHEDULES[name](p, m))
    assert {table.bubble(r) for r in range(p)} == {WAITING[name](p)}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_every_rank_holds_as_many_micro_batches_as_published(name, p, m):
    table = play(SCHEDULES[name](p, m))
    found = [peak_in_flight(table, r) for r in range(p)]
    assert found == [held(name, p, m, r) for r in range(p)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_the_plan_s_formula_is_the_timetable_s_share(name, p, m):
    assert play(SCHEDULES[name](p, m)).share == pytest.approx(bubble(name, p, m))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_stage_sees_every_micro_batch_once_each_way(name):
    p, m = 4, 8
    schedule = SCHEDULES[name](p, m)
    done = [part for order in schedule.orders for action in order for part in parts(action)]
    every = {(stage, micro) for stage in range(schedule.stages) for micro in range(m)}
    for kinds in ("F", "BI", "BW"):
        found = [(stage, micro) for kind, stage, micro in done if kind in kinds]
        assert len(found) == len(every) and set(found) == every


@pytest.mark.parametrize("name", SCHEDULES)
def test_nothing_starts_before_what_it_needs_and_ranks_do_one_thing_at_a_time(name):
    table = play(SCHEDULES[name](4, 8), Durations(f=1.0, b=2.5, w=1.25, both=3.0))
    end = {}
    for event in table.events:
        for kind, stage, micro in parts(event.action):
            end["I" if kind == "B" else kind, stage, micro] = event.end
    free = [0.0] * 4
    for event in table.events:
        assert event.start >= free[event.rank]
        free[event.rank] = event.end
        for kind, stage, micro in parts(event.action):
            if kind == "F" and stage:
                assert end["F", stage - 1, micro] <= event.start
            if kind in "BI":
                assert end["F", stage, micro] <= event.start
                if stage < table.schedule.stages - 1:
                    assert end["I", stage + 1, micro] <= event.start


def test_ranks_that_wait_for_each_other_are_an_error():
    wrong = made("wrong", [[Action("B", 0, 0), Action("F", 0, 0)], []], 1, 1)
    with pytest.raises(UserError, match="wait for each other at B0:0"):
        play(wrong)


@pytest.mark.parametrize(
    ("name", "p", "m"), [("interleaved", 4, 6), ("dualpipe", 3, 8), ("dualpipe", 4, 6),
                         ("dualpipev", 4, 7)],
)  # fmt: skip
def test_impossible_sizes_are_named(name, p, m):
    with pytest.raises(UserError):
        SCHEDULES[name](p, m)


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (4, 16)])
def test_dualpipev_is_the_order_that_torch_computes(p, m):
    from torch.distributed.pipelining import schedules as theirs

    order_of = getattr(theirs.ScheduleDualPipeV, "_calculate_single_rank_operations", None)
    if order_of is None:
        pytest.skip("this torch computes it elsewhere")
    word = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}

    def flat(action):
        if action.computation_type.name == "OVERLAP_F_B":
            return [part for sub in action.sub_actions for part in flat(sub)]
        return [(word[action.computation_type.name], action.stage_index, action.microbatch_index)]

    sizes = SimpleNamespace(pp_group_size=p, _num_stages=2 * p, _n_microbatches=m)
    for rank, order in enumerate(SCHEDULES["dualpipev"](p, m).orders):
        found = [part for action in order_of(sizes, rank) if action for part in flat(action)]
        assert found == [tuple(part) for action in order for part in parts(action)]
