"""The instruments of lesson 06: silent on healthy runs, loud on what each is for."""

import math

import pytest
import torch

from minids.lab import clinic_run, evidence
from minids.nn import mla
from minids.nn.transformer import Transformer
from minids.train.guard import LEAST_SPREAD

SEEDS = range(20)


def healthy(seed, n=90):
    generator = torch.Generator().manual_seed(seed)
    noise = 1 + 0.02 * torch.randn(n, generator=generator, dtype=torch.float64)
    return [(2 + 5 * math.exp(-i / 12)) * noise[i].item() for i in range(n)]


def test_our_model_does_not_leak_and_a_mask_off_by_one_does():
    generator = torch.Generator().manual_seed(0)
    model = Transformer(clinic_run.model_config(31, balanced=True)).double()
    model.compute_dtype = torch.float64
    model.init_weights(generator)
    tokens = torch.randint(31, (2, 12), generator=generator)
    for at in (1, 6, 11):
        assert evidence.future_leak(model, tokens, at, 31) < 1e-12
        with clinic_run.swapped(mla, "attend", clinic_run.attend_one_ahead):
            assert evidence.future_leak(model, tokens, at, 31) > 1e-3
    assert evidence.future_leak(model, tokens, 6, 31) < 1e-12, "the model's own attention is back"


def test_a_leak_is_measured_by_what_may_not_move():
    echo = torch.eye(7)  # says its own token: what comes later does not matter
    tokens = torch.tensor([[1, 2, 3, 4]])
    assert evidence.future_leak(lambda t: echo[t], tokens, 2, 7) == 0.0
    assert evidence.future_leak(lambda t: echo[t.roll(-1, 1)], tokens, 2, 7) == 1.0
    assert evidence.future_leak(lambda t: echo[t.roll(1, 1)][:, 1:], tokens, 1, 7) == 0.0


def test_the_update_ratio_has_no_unit_and_survives_zeros():
    generator = torch.Generator().manual_seed(1)
    old = [torch.randn(5, 3, generator=generator), torch.randn(4, generator=generator)]
    new = [w + 0.01 * w.roll(1, 0) for w in old]
    ratio = evidence.update_ratio(old, new)
    torch.testing.assert_close(ratio, torch.full((2,), 0.01))
    larger = evidence.update_ratio([100 * w for w in old], [100 * w for w in new])
    torch.testing.assert_close(larger, ratio)
    still = evidence.update_ratio([torch.zeros(3)], [torch.ones(3)])
    assert torch.isfinite(still).all() and still > 1e6


@pytest.mark.parametrize("seed", range(3))
def test_evenness_is_torchs_entropy_over_its_largest(seed):
    load = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(seed)) + 1
    oracle = torch.distributions.Categorical(load.sum(0).double()).entropy() / math.log(5)
    assert evidence.expert_health(load, 0.1).evenness == pytest.approx(oracle.item(), abs=1e-12)


def test_all_alike_is_one_and_one_for_all_is_zero():
    assert evidence.expert_health(torch.ones(2, 4), 0.1) == (pytest.approx(1.0), [])
    alone = evidence.expert_health(torch.tensor([[0, 8, 0], [0, 9, 0]]), 0.1)
    assert alone == (pytest.approx(0.0), [0, 2])


def test_no_spike_is_seen_on_healthy_curves():
    assert [seed for seed in SEEDS if evidence.spikes(healthy(seed), 10, 6.0)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_spikes_are_found_where_they_are_one_behind_the_other(seed):
    loss = healthy(seed)
    for place in (40, 41, 60):
        loss[place] *= 1.5
    loss[75] = math.nan
    assert evidence.spikes(loss, 10, 6.0) == [40, 41, 60, 75]


def test_the_smallest_spread_is_that_of_the_guard():
    assert evidence.LEAST_SPREAD == LEAST_SPREAD


def test_repeats_counts_rows_seen_before_whatever_their_step():
    assert evidence.repeats([["a", "b"], ["c", "d"]]) == 0.0
    assert evidence.repeats([["a", "b"], ["b", "c"]]) == 0.25
    assert evidence.repeats([["a", "a"]] * 4) == 7 / 8
    assert evidence.repeats([]) == 0.0
