"""The ring sums, whatever it starts from; what a rank holds adds up."""

import pytest
import torch

from minids.dist import by_hand
from minids.dist.by_hand import batch_gradient, held, ring_turn
from minids.lab.together import together


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_a_ring_that_follows_the_turns_leaves_the_sum_everywhere(ranks):
    x = torch.randn(ranks, ranks, 2, dtype=torch.float64)
    wanted, pieces = x.sum(0), x.clone()
    for step in range(2 * (ranks - 1)):
        turns = [ring_turn(r, step, ranks) for r in range(ranks)]
        sent = [pieces[r, turns[r].send].clone() for r in range(ranks)]
        for r, turn in enumerate(turns):
            assert turns[r - 1].send == turn.receive
            got = sent[r - 1]
            pieces[r, turn.receive] = pieces[r, turn.receive] + got if turn.add else got
    torch.testing.assert_close(pieces, wanted.expand_as(pieces))


def test_stages_shard_one_thing_after_another():
    totals = [held(100, 4, stage).total for stage in range(4)]
    assert totals == [1600, 1000, 700, 400]


def test_two_ranks_by_hand_and_sharded_have_the_gradients_of_one_process():
    task = "minids.lab.many_shards:"
    ring = {"minids.dist.by_hand:ring_turn": ring_turn}
    for rank in together(task + "copies", 2, yours=ring):
        assert rank["error"] < 1e-10 < rank["error of the mean of means"]
    for rank in together(task + "shards", 2):
        assert rank["error"] < 1e-10
        assert rank["here"] == pytest.approx(rank["numbers"] / 2, rel=0.01)


def test_the_mean_over_targets_is_one_division():
    sums = [torch.tensor([6.0, 2.0]), torch.tensor([2.0, 0.0])]
    assert batch_gradient(sums, [3, 1]).tolist() == [2.0, 0.5]
    assert by_hand.Held(1, 2, 3).total == 6
