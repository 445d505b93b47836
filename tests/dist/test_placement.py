"""The published example's answer, what every placement must keep, and what it is good for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.dist.placement import gpu_loads, imbalance, in_order, pack, place, replicate
from minids.errors import UserError

LOAD = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
PUBLISHED = [  # README of deepseek-ai/EPLB
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


@pytest.mark.parametrize(("load", "slots"), [*zip(LOAD, PUBLISHED, strict=True)])
def test_the_published_example(load, slots):
    assert list(place(load, slots=16, gpus=8, nodes=2, groups=4).expert) == slots


@settings(max_examples=60, deadline=None)
@given(
    load=st.lists(st.integers(0, 1000), min_size=24, max_size=24),
    spare=st.sampled_from([0, 8, 16]),
    nodes=st.sampled_from([1, 2, 4]),
    groups=st.sampled_from([1, 4, 8]),
)
def test_all_work_is_done_and_every_gpu_has_as_many_slots(load, spare, nodes, groups):
    found = place(load, slots=24 + spare, gpus=8, nodes=nodes, groups=groups)
    assert set(found.expert) == set(range(24)) and len(found.expert) == 24 + spare
    assert sum(gpu_loads(load, found)) == pytest.approx(sum(load))
    if groups % nodes == 0:  # hierarchical: all copies of a group live in one node
        share, size = len(found.expert) // nodes, 24 // groups
        homes = {(e // size, slot // share) for slot, e in enumerate(found.expert)}
        assert len(homes) == groups


def test_spare_slots_go_where_a_copy_carries_most():
    assert replicate([8, 1, 5], 6) == [0, 1, 2, 0, 2, 0]  # 8 → 4, then 5, then 4


def test_heavy_items_go_to_the_lightest_pack_with_room():
    assert pack([9, 1, 1, 5], 2) == [[0, 2], [3, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_skewed_routing_is_evened_out(seed):
    draw = random.Random(seed)
    load = [draw.paretovariate(1.2) for _ in range(256)]
    before = imbalance(load, in_order(256, 32))
    after = imbalance(load, place(load, slots=288, gpus=32))
    hierarchical = imbalance(load, place(load, slots=288, gpus=32, nodes=4, groups=8))
    assert before > 1.8 and after < 1.1 and after <= hierarchical < before


@pytest.mark.parametrize(
    ("sizes", "field"),
    [
        ({"slots": 15, "gpus": 8}, "slots"),
        ({"slots": 8, "gpus": 8}, "slots"),
        ({"slots": 16, "gpus": 8, "nodes": 3}, "nodes"),
        ({"slots": 16, "gpus": 8, "groups": 5}, "groups"),
    ],
)
def test_what_cannot_be_dealt_out_is_named(sizes, field):
    with pytest.raises(UserError) as error:
        place([1.0] * 12, **sizes)
    assert error.value.where == field
