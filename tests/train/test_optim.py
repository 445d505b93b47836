"""Our optimizers against torch's own."""

import pytest
import torch

from minids.config import TrainConfig
from minids.nn.transformer import Transformer
from minids.train.comm import Solo
from minids.train.muon import FIVE_STEPS, HYBRID_STEPS, Muon, as_matrices, orthogonalize
from minids.train.optim import AdamW, Optimizer

STEPS = 20


def parameters(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def test_adamw_follows_torch_for_twenty_steps():
    mine, theirs = parameters((5, 7), (11,)), parameters((5, 7), (11,))
    ours = AdamW([("a", mine[0]), ("b", mine[1])], 0.9, 0.95, 1e-8)
    peer = torch.optim.AdamW(
        [
            {"params": [theirs[0]], "weight_decay": 0.1},
            {"params": [theirs[1]], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    for step in range(STEPS):
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            q.grad = p.grad.clone()
        ours.step(0.01, 0.1)
        peer.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 13), (13, 5), (8, 8)])
def test_muon_follows_torch_for_twenty_steps(shape):
    # torch always runs Newton-Schulz in bfloat16, so we do here, and keeps the momentum as an
    # average: the same direction on another scale, visible only to eps and rounding.
    (mine,), (theirs,) = parameters(shape), parameters(shape)
    ours = Muon([("w", mine)], 0.95, torch.bfloat16)
    peer = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(STEPS):
        mine.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        theirs.grad = mine.grad.clone()
        ours.step(0.02, 0.1, Solo())
        peer.step()
    torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-3)
    assert (mine - parameters(shape)[0]).abs().max() > 0.05  # it moved: the test is not about zeros


def test_five_steps_bring_singular_values_near_one():
    x = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(x, torch.float32, FIVE_STEPS))
    assert values.min() > 0.6 and values.max() < 1.25  # they do not converge to 1, by design


def test_the_hybrid_of_v4_ends_at_one():
    x = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(x, torch.float32, HYBRID_STEPS))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=2e-3)


def test_an_experts_gate_and_up_are_two_maps():
    stack = torch.arange(2 * 6 * 3).view(2, 6, 3).float()
    maps = as_matrices(stack, "experts.gate_up_proj")
    assert maps.shape == (4, 3, 3)
    torch.testing.assert_close(maps[1], stack[0, 3:])


def test_stacked_experts_are_updated_as_if_alone():
    (stack,) = parameters((3, 4, 6))
    alone = [torch.nn.Parameter(stack[i].detach().clone()) for i in range(3)]
    grad = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    stack.grad = grad.clone()
    Muon([("down_proj", stack)], 0.95, torch.float32).step(0.02, 0.1, Solo())
    for i, weight in enumerate(alone):
        weight.grad = grad[i].clone()
        Muon([("w", weight)], 0.95, torch.float32).step(0.02, 0.1, Solo())
        torch.testing.assert_close(stack[i], weight, rtol=0, atol=1e-6)


def test_every_parameter_has_one_owner(micro):
    model = Transformer(micro().model)
    optimizer = Optimizer(model, TrainConfig(), torch.float32)
    muon = [name for members in optimizer.muon.groups.values() for name, _ in members]
    assert sorted(optimizer.adamw.names + muon) == sorted(n for n, _ in model.named_parameters())
    assert {"embed_tokens.weight", "norm.weight"} <= set(optimizer.adamw.names), "the head is tied"
    assert "layers.0.self_attn.kv_b_proj.weight" in muon
    assert "layers.1.mlp.gate.weight" in optimizer.adamw.names


def test_state_comes_back_bit_for_bit():
    first, second = parameters((4, 6), (5,)), parameters((4, 6), (5,))

    class Two(torch.nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.w, self.b = weights

    def step(optimizer, weights, seed):
        for p in weights:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        optimizer.step(1.0, Solo())

    a, b = (Optimizer(Two(w), TrainConfig(), torch.float32) for w in (first, second))
    step(a, first, 0)
    b.load_state_dict({k: v.clone() for k, v in a.state_dict().items()})
    with torch.no_grad():
        for p, q in zip(first, second, strict=True):
            q.copy_(p)
    step(a, first, 1)
    step(b, second, 1)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
