"""FP8 layers inside a Transformer: which, with what parameters, and whether it learns."""

import pytest
import torch

from minids.config import TrainConfig, load
from minids.errors import UserError
from minids.lowp.linear import Fp8Linear
from minids.nn.experts import Experts, grouped_linear
from minids.nn.transformer import Transformer
from minids.train.optim import AdamW, Optimizer
from minids.train.precision import to_fp8
from minids.train.probe import choose

SMALL = [
    "model.hidden_size=32", "model.num_hidden_layers=2", "model.kv_lora_rank=16",
    "model.intermediate_size=48", "model.moe_intermediate_size=24", "model.q_lora_rank=16",
    "model.vocab_size=64",
]  # fmt: skip


def small():
    model = Transformer(load("tiny", SMALL).model)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def test_blocks_change_and_what_the_report_keeps_does_not():
    model = small()
    before = dict(model.named_parameters())
    changed = set(to_fp8(model))
    for name, module in model.named_modules():
        linear = isinstance(module, torch.nn.Linear)
        if isinstance(module, Experts):
            assert name in changed and module.grouped is not grouped_linear
        elif linear:
            assert isinstance(module, Fp8Linear) == (name != "lm_head") == (name in changed)
    assert not isinstance(model.layers[1].mlp.gate, torch.nn.Linear)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is p for name, p in before.items())
    assert to_fp8(model) == [
        "layers.1.mlp.experts",
        "mtp.0.mlp.experts",
    ]  # nothing is wrapped twice


def test_losses_are_close_and_gradients_point_the_same_way():
    tokens = torch.randint(0, 64, (4, 20), generator=torch.Generator().manual_seed(1))
    batch = type("Batch", (), {"tokens": tokens, "labels": tokens})
    found = []
    for fp8 in (False, True):
        model = small()
        for p in model.parameters():  # zero outputs would hide everything
            if p.ndim > 1:
                p.data += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
        if fp8:
            to_fp8(model)
        loss = model.loss(batch)
        loss.total.backward()
        grads = {n: p.grad.flatten() for n, p in model.named_parameters()}
        found.append((loss.main.item(), grads))
    (plain, exact), (eight, rough) = found
    assert 1e-6 < abs(plain - eight) / plain < 0.01
    for name, grad in exact.items():
        if "gate.weight" in name or not grad.any():
            continue  # a token may go to another expert
        assert torch.cosine_similarity(grad, rough[name], dim=0) > 0.9, name


def test_fp8_is_refused_without_units_and_the_simulation_is_named():
    with pytest.raises(UserError, match="fp8-sim") as caught:
        choose(TrainConfig(precision="fp8", device="cpu"))
    assert caught.value.where == "train.precision" and "\n" not in str(caught.value)


def test_the_simulation_runs_in_bfloat16_between_the_layers():
    machine = choose(TrainConfig(precision="fp8-sim", device="cpu"))
    assert machine.precision == "fp8-sim" and machine.dtype == torch.bfloat16


def test_moments_may_be_bfloat16_and_are_used_wide():
    w = {}
    for dtype in (None, torch.bfloat16):
        weight = torch.ones(40, 30)
        adamw = AdamW([("w", weight)], 0.9, 0.95, 1e-8, dtype)
        for step in range(5):
            weight.grad = torch.randn(40, 30, generator=torch.Generator().manual_seed(step))
            adamw.step(0.1, 0.0)
        w[dtype] = weight
    assert adamw.mean[0].dtype == adamw.square[0].dtype == torch.bfloat16
    gap = (w[None] - w[torch.bfloat16]).abs()
    assert 0 < gap.mean() < 0.002 and gap.max() < 0.05


def test_bfloat16_moments_are_half_the_state_and_load_again():
    model = small()
    for p in model.parameters():
        p.grad = torch.randn(p.shape)
    states = {}
    for dtype in ("float32", "bfloat16"):
        optimizer = Optimizer(model, TrainConfig(moment_dtype=dtype), torch.float32)
        optimizer.adamw.step(0.01, 0.1)
        states[dtype] = optimizer.state_dict()
        other = Optimizer(model, TrainConfig(moment_dtype=dtype), torch.float32)
        other.load_state_dict(states[dtype])
        assert all(torch.equal(v, states[dtype][k]) for k, v in other.state_dict().items())
    size = {d: sum(t.numel() * t.element_size() for t in s.values()) for d, s in states.items()}
    assert size["bfloat16"] == pytest.approx(size["float32"] / 2, rel=0.01)
