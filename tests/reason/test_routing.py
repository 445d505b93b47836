"""Keep routing: the learner asks whom the sampler asked, also when the router has moved."""

import pytest
import torch

from minids.generate.settings import Sampling
from minids.reason import routing
from minids.reason.rollout import mismatch, roll_out, score

PROMPTS = [[256, 1, 2, 3], [256, 9], [256, 4, 5, 6, 7, 8, 9, 10]]
EXPERTS = {
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}


@pytest.fixture
def model(tiny_model):
    found = tiny_model(**EXPERTS)
    assert any(found.moe_layers())
    return found


def rolled(model, tokenizer, *, keep=True, group=3):
    rng = torch.Generator().manual_seed(3)
    return roll_out(model, tokenizer, PROMPTS, group, Sampling(), 9, rng, keep_routing=keep)


def move_routers(model):
    """The selection biases move: other experts are chosen, the affinities stay what they were."""
    rng = torch.Generator().manual_seed(5)
    for layer in model.moe_layers():
        bias = layer.gate.e_score_correction_bias
        bias.copy_(torch.randn(bias.shape, generator=rng))


def test_log_probs_agree_though_the_router_has_moved(model, tokenizer):
    roll = rolled(model, tokenizer)
    assert mismatch(roll, score(model, roll, 1.0).logp).largest < 2e-4  # float32, other sums
    move_routers(model)
    assert mismatch(roll, score(model, roll, 1.0).logp).largest < 2e-4
    free = score(model, roll._replace(asked=None), 1.0)
    assert mismatch(roll, free.logp).largest > 0.01


def test_every_token_that_was_read_is_written_down(model, tokenizer):
    """Against the plain forward pass over whole rows: same experts at the same places."""
    roll = rolled(model, tokenizer)
    assert roll.asked is not None
    for row, prompt in enumerate(roll.prompts):
        n = int(roll.lengths[row])
        ids, routings = [*prompt, *roll.tokens[row, :n].tolist()], []
        model.hidden(torch.tensor([ids]), routings=routings)
        for layer, found in enumerate(routings):
            assert torch.equal(roll.asked[row, : len(ids) - 1, layer], found.expert[:-1])
        assert (roll.asked[row, len(ids) :] == -1).all()


def test_the_gate_learns_the_choice_does_not(model, tokenizer):
    roll = rolled(model, tokenizer)
    move_routers(model)
    score(model.requires_grad_(True), roll, 1.0).logp.sum().backward()
    for layer in model.moe_layers():
        assert layer.gate.weight.grad.abs().sum() > 0


def test_rows_of_a_part_are_those_of_the_whole(model, tokenizer):
    roll = rolled(model, tokenizer)
    move_routers(model)
    whole = score(model, roll, 1.0).logp
    for rows in (torch.tensor([4, 0]), torch.tensor([8])):
        torch.testing.assert_close(score(model, roll, 1.0, rows).logp, whole[rows])


def test_a_dense_model_has_no_routing_to_keep(tiny_model, tokenizer):
    dense = tiny_model(n_routed_experts=0)
    assert rolled(dense, tokenizer).asked is None
    assert rolled(tiny_model(**EXPERTS), tokenizer, keep=False).asked is None


def test_columns_beyond_the_record_are_free():
    asked = torch.arange(2 * 3 * 1 * 2).view(2, 3, 1, 2)
    found = routing.of_rows(asked, torch.tensor([1]), 5, torch.device("cpu"))
    assert found.shape == (1, 5, 2)
    assert found[0, :3].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert (found[0, 3:] == -1).all()
