"""Input nobody wants: empty completions, masked rows, even groups, NaN, a nucleus of one token."""

import math

import pytest
import torch

from minids.errors import UserError
from minids.generate.settings import Sampling
from minids.reason import grpo
from minids.reason.rewards import judge
from minids.reason.rollout import mismatch, roll_out, score
from minids.reason.settings import LOSSES, Objective
from minids.reason.tasks import problem

PROMPTS = [[256, 1, 2, 3], [256, 9]]


def test_an_empty_completion_is_judged_and_pays_nothing():
    for text in ("", " ", "<think></think><answer></answer>"):
        found = judge(problem("addition", 1, 1, 0), text)
        assert found.total == 0.0
        assert found.scorable
        assert found.verdict.kind == "malformed"


@pytest.mark.parametrize("loss", LOSSES.split())
def test_masked_rows_move_nothing_whatever_stands_in_them(loss):
    mask = torch.tensor([[1.0, 1, 0], [0, 0, 0]])  # [N s]
    logp = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    old = torch.full((2, 3), -1.1, dtype=torch.float64)
    batch = grpo.Rollouts(old, old, None, mask.double(), torch.tensor([1.0, -1.0]).double())
    found = grpo.policy_loss(logp, batch, Objective(loss=loss), grpo.Sizes(2, 2.0, 2.0, 3))
    found.total.backward()
    assert torch.isfinite(found.total)
    assert logp.grad is not None
    assert not (logp.grad * (1 - mask)).any()
    assert logp.grad[0, :2].any()


def test_even_groups_have_no_advantage_and_no_nan():
    for scale in ("group", "batch", "none"):
        found = grpo.advantages(torch.ones(8, dtype=torch.float64), 4, scale)
        assert torch.isfinite(found).all()
        assert found.abs().max() < 1e-6


def test_a_nucleus_of_one_token_is_certain_on_both_sides(tiny_model, tokenizer):
    model = tiny_model()
    rng = torch.Generator().manual_seed(1)
    for rule in (Sampling(top_p=1e-6), Sampling(top_k=1)):
        roll = roll_out(model, tokenizer, PROMPTS, 2, rule, 5, rng)
        assert roll.logp.abs().max() < 1e-6
        assert mismatch(roll, score(model, roll, 1.0).logp).largest < 1e-6
        assert torch.equal(roll.tokens[0], roll.tokens[1])


def test_nan_in_the_weights_is_one_error_of_code_3(tiny_model, tokenizer):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = math.nan
    with pytest.raises(UserError) as found:
        roll_out(model, tokenizer, PROMPTS, 2, Sampling(), 5, torch.Generator().manual_seed(1))
    assert found.value.code == 3
