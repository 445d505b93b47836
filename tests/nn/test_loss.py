import pytest
import torch

from minids.nn import loss
from minids.nn.loss import IGNORE, cross_entropy, cross_entropy_in_blocks


def problem(T=37, d=6, V=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(T, d, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(V, d, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, V, (T,), generator=generator)
    labels[torch.rand(T, generator=generator) < 0.3] = IGNORE
    head = head.float() if dtype == torch.bfloat16 else head.to(dtype)
    return state, head.requires_grad_(), labels


@pytest.mark.parametrize("shortest", [1, 5, 512])
def test_blocks_give_the_same_loss_and_gradients(monkeypatch, shortest):
    monkeypatch.setattr(loss, "SHORTEST", shortest)
    monkeypatch.setattr(loss, "NEAR", 1)
    state, head, labels = problem()
    want, got = cross_entropy(state, head, labels), cross_entropy_in_blocks(state, head, labels)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    for mine, yours in zip(
        torch.autograd.grad(3 * got, (state, head)),
        torch.autograd.grad(3 * want, (state, head)),
        strict=True,
    ):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-12)


def test_blocks_in_bfloat16_stay_near():
    state, head, labels = problem(dtype=torch.bfloat16)
    want, got = cross_entropy(state, head, labels), cross_entropy_in_blocks(state, head, labels)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    mine, yours = (torch.autograd.grad(x, (state, head)) for x in (got, want))
    torch.testing.assert_close(mine[0], yours[0], rtol=0, atol=0.05)
    torch.testing.assert_close(mine[1], yours[1], rtol=0, atol=0.05)


@pytest.mark.parametrize("rule", [cross_entropy, cross_entropy_in_blocks])
def test_nothing_to_predict_costs_nothing_and_is_not_nan(rule):
    state, head, labels = problem()
    out = rule(state, head, torch.full_like(labels, IGNORE))
    assert out == 0
    assert all(g.abs().max() == 0 for g in torch.autograd.grad(out, (state, head)))


@pytest.mark.parametrize("rule", [cross_entropy, cross_entropy_in_blocks])
def test_huge_logits_stay_finite(rule):
    state, head, labels = problem(dtype=torch.float32)
    out = rule(1e5 * state, head, labels)
    assert out.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out, (state, head)))
