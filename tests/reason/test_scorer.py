"""The learned score: it finds a line that is there, keeps finite, and reads the last token."""

import torch

from minids.lab.states import state
from minids.reason.chat import prompt_ids
from minids.reason.passrate import attempt
from minids.reason.scorer import fit, last_states
from minids.reason.tasks import held_out_set


def test_a_line_that_is_there_is_found_and_shuffled_answers_give_none():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 7, generator=generator, dtype=torch.float64)
    right = (x[:, 2] - 0.5 * x[:, 5] > 0.3).tolist()
    score = fit(5 + 3 * x[:400], right[:400])
    hits = [(s > 0) == r for s, r in zip(score(5 + 3 * x[400:]), right[400:], strict=True)]
    assert sum(hits) > 190
    lot = (torch.rand(400, generator=generator) < 0.5).tolist()
    told = fit(x[:400], lot)
    hits = [(s > 0) == r for s, r in zip(told(x[400:]), right[400:], strict=True)]
    assert 60 < sum(hits) < 140


def test_the_fit_is_the_minimum_by_autograd():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    right = (torch.rand(50, generator=generator) < 0.3).tolist()
    score = fit(x, right, ridge=3.0)
    w = score.weight.clone().requires_grad_()
    b = score.bias.clone().requires_grad_()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    y = torch.tensor(right, dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z @ w + b, y, reduction="sum")
    loss = loss + 1.5 * (w.square().sum() + b.square())
    for gradient in torch.autograd.grad(loss, (w, b)):
        assert gradient.abs().max() < 1e-9


def test_all_right_or_all_wrong_stays_finite():
    x = torch.ones(5, 3, dtype=torch.float64)
    for truth in (True, False):
        assert all((s > 0) == truth for s in fit(x, [truth] * 5)(x))


def test_states_are_those_of_the_last_token_in_the_order_given():
    found = state("base")
    problems = held_out_set("addition", 3, 4)
    tried = attempt(found.model, found.tokenizer, problems, samples=2, temperature=1.0, longest=24)
    states = last_states(found.model, found.tokenizer, tried)
    for one, its in zip(tried, states, strict=True):
        ids = prompt_ids(found.tokenizer, one.problem.prompt) + one.tokens
        alone = found.model.hidden(torch.tensor([ids]))[0, -1].double()
        torch.testing.assert_close(its, alone, rtol=1e-4, atol=1e-4)
