"""The guard: skips what is wrong, never what is ordinary, and is not blinded by what it saw."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minids.config import TrainConfig
from minids.train.guard import SPEAKS_AFTER, Guard, RouterWatch


def warmed(cfg: TrainConfig | None = None, loss: float = 2.0) -> Guard:
    guard = Guard(cfg or TrainConfig())
    for i in range(SPEAKS_AFTER + 4):
        assert guard.judge(loss + 0.01 * (i % 3), 1.0) == "accept"
    return guard


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_and_forgotten(bad):
    guard = warmed()
    before = list(guard.losses)
    assert guard.judge(bad, 1.0) == "skip"
    assert guard.judge(2.0, bad) == "skip"
    assert list(guard.losses) == before
    assert guard.judge(2.0, 1.0) == "accept"


def test_a_spike_is_skipped_and_named():
    guard = warmed()
    assert guard.judge(20.0, 1.0) == "skip"
    assert "spikes" in guard.reason


@given(st.floats(0.1, 20.0), st.lists(st.floats(-1e-9, 1e-9), min_size=40, max_size=40))
def test_a_constant_loss_never_skips(level, noise):
    guard = Guard(TrainConfig())
    assert all(guard.judge(level + n, 1.0) == "accept" for n in noise)


@given(st.lists(st.sampled_from([1.0, 2.0, math.nan, math.inf, 500.0]), max_size=80))
def test_only_finite_accepted_losses_are_remembered(losses):
    guard = Guard(TrainConfig())
    for loss in losses:
        guard.judge(loss, 1.0)
    assert all(math.isfinite(x) for x in guard.losses)


def test_skips_lead_to_roll_backs_and_then_to_the_end():
    guard = warmed(TrainConfig(max_skips=2, max_rollbacks=1))
    verdicts = [guard.judge(math.nan, 1.0) for _ in range(6)]
    assert verdicts == ["skip", "skip", "roll back", "skip", "skip", "stop"]


def test_memory_survives_a_save():
    guard = warmed()
    guard.judge(math.nan, 1.0)
    again = Guard(TrainConfig())
    again.load_state_dict(guard.state_dict())
    assert again == Guard(TrainConfig(), guard.losses, guard.skipped_in_a_row, guard.rollbacks)
    assert again.judge(20.0, 1.0) == "skip"


def test_dead_experts_and_collapse_are_named_once():
    watch = RouterWatch(patience=3)
    said = [watch.look([[5, 5, 5, 5], [0, 20, 0, 0]]) for _ in range(6)]
    assert said[0] == said[1] == said[3] == []
    assert any("expert 0 saw no token" in text for text in said[2])
    watch = RouterWatch(patience=3, limit=3.0)
    texts = [text for _ in range(3) for text in watch.look([[17, 1, 1, 1]])]
    assert any("router collapse" in text for text in texts)
