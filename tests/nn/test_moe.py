"""The routers against a second statement of the published rules, written in plain Python."""

import math

import pytest
import torch

from minids.nn.moe import (
    MoE,
    largest,
    route_v2,
    route_v3,
    updated_bias,
    v2_balance_loss,
    v3_balance_loss,
)

V2 = {"topk_method": "group_limited_greedy", "scoring_func": "softmax", "norm_topk_prob": False}
V2 |= {"n_routed_experts": 12, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2}
V2 |= {"routed_scaling_factor": 0.7}
V3 = {"n_routed_experts": 12, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2}


def problem(cfg, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, cfg.hidden_size, generator=generator)
    centroid = 0.3 * torch.randn(cfg.n_routed_experts, cfg.hidden_size, generator=generator)
    return x, centroid, 0.3 * torch.randn(cfg.n_routed_experts, generator=generator)


def best(values, k):
    """Positions of the k largest, ties to the first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def inside_best_groups(choice, group_score, cfg):
    size = len(choice) // cfg.n_group
    groups = [choice[g * size : (g + 1) * size] for g in range(cfg.n_group)]
    kept = best([group_score(group) for group in groups], cfg.topk_group)
    return [c if i // size in kept else -math.inf for i, c in enumerate(choice)]


def published_v3(logits, bias, cfg):
    """DeepSeek-V3 §2.1.2: one token's logits → {expert: weight}."""
    s = [1 / (1 + math.exp(-z)) for z in logits]
    choice = [a + b for a, b in zip(s, bias, strict=True)]
    choice = inside_best_groups(choice, lambda group: sum(sorted(group)[-2:]), cfg)
    chosen = best(choice, cfg.num_experts_per_tok)
    total = sum(s[i] for i in chosen)
    return {i: cfg.routed_scaling_factor * s[i] / total for i in chosen}


def published_v2(logits, cfg):
    """DeepSeek-V2 §2.2.1–2.2.2: one token's logits → {expert: weight}."""
    top = max(logits)
    e = [math.exp(z - top) for z in logits]
    s = [a / sum(e) for a in e]
    chosen = best(inside_best_groups(s, max, cfg), cfg.num_experts_per_tok)
    return {i: cfg.routed_scaling_factor * s[i] for i in chosen}


@pytest.mark.parametrize("groups", [{}, {"n_group": 1, "topk_group": 1}])
@pytest.mark.parametrize("version", [2, 3])
def test_the_published_rule_chooses_the_same_for_ten_thousand_tokens(tiny_model, version, groups):
    cfg = tiny_model(**((V2 if version == 2 else V3) | groups))
    x, centroid, bias = problem(cfg, 10_000)
    got = route_v2(x, centroid, cfg) if version == 2 else route_v3(x, centroid, bias, cfg)
    logits = (x.double() @ centroid.double().T).tolist()
    for token, z in enumerate(logits):
        want = published_v2(z, cfg) if version == 2 else published_v3(z, bias.tolist(), cfg)
        mine = dict(zip(got.expert[token].tolist(), got.gate[token].tolist(), strict=True))
        assert mine.keys() == want.keys()
        assert all(abs(mine[i] - want[i]) < 1e-6 for i in want)
    assert torch.equal(got.load, torch.bincount(got.expert.flatten(), minlength=12))
    assert got.load.sum() == 30_000


def test_bias_steers_the_choice_and_never_reaches_the_gate(tiny_model):
    cfg = tiny_model(**V3, norm_topk_prob=False, routed_scaling_factor=1.0)
    x, centroid, bias = problem(cfg, 100)
    for b in (bias, bias + 7, 100 * bias):
        got = route_v3(x, centroid, b, cfg)
        assert torch.equal(got.gate, got.affinity.gather(-1, got.expert))
    moved = route_v3(x, centroid, bias + 7, cfg).expert
    assert torch.equal(moved, route_v3(x, centroid, bias, cfg).expert)  # only differences steer
    wanted = torch.zeros(12).index_fill(0, torch.tensor([4, 5]), 50.0)
    assert {4, 5} <= set(route_v3(x, centroid, wanted, cfg).expert[0].tolist())


def test_no_gradient_reaches_the_bias(tiny_model):
    cfg = tiny_model(**V3)
    x, centroid, bias = problem(cfg, 100)
    bias.requires_grad_()
    centroid.requires_grad_()
    gate = route_v3(x, centroid, bias, cfg).gate
    toward = gate.square().sum()
    assert torch.autograd.grad(toward, bias, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(toward, centroid)[0].abs().max() > 0


@pytest.mark.parametrize("version", [2, 3])
def test_a_token_reaches_no_more_groups_than_allowed(tiny_model, version):
    cfg = tiny_model(**(V2 if version == 2 else V3))
    x, centroid, bias = problem(cfg, 500)
    bias -= 3  # allowed choices below zero must still beat forbidden ones
    got = route_v2(x, centroid, cfg) if version == 2 else route_v3(x, centroid, bias, cfg)
    groups = [set((row // 3).tolist()) for row in got.expert]
    assert max(len(g) for g in groups) == cfg.topk_group
    assert all(len(set(row.tolist())) == 3 for row in got.expert)


def test_a_tie_goes_to_the_lower_index():
    assert largest(torch.zeros(2, 300), 5).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert largest(torch.tensor([[1.0, 3.0, 2.0, 3.0]]), 3).tolist() == [[1, 3, 2]]


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid", "sqrtsoftplus"])
def test_scores_are_float32_for_bfloat16_tokens(tiny_model, scoring):
    cfg = tiny_model(scoring_func=scoring)
    x, centroid, bias = problem(cfg, 50)
    rough = route_v3(x.bfloat16(), centroid, bias, cfg)
    exact = route_v3(x.bfloat16().float(), centroid, bias, cfg)
    assert rough.affinity.dtype == torch.float32
    assert torch.equal(rough.expert, exact.expert)
    assert torch.equal(rough.gate, exact.gate)


def test_the_bias_rule_is_the_published_one():
    bias, load = torch.tensor([0.5, 0.0, 0.0, -0.5]), torch.tensor([9, 1, 5, 5])
    got = updated_bias(bias, load, 0.001)
    torch.testing.assert_close(got, torch.tensor([0.499, 0.001, 0.0, -0.5]), rtol=0, atol=1e-7)


def test_the_bias_rule_brings_a_collapsed_router_back(tiny_model):
    cfg = tiny_model(n_routed_experts=8, num_experts_per_tok=2)
    x, centroid, _ = problem(cfg, 400)
    centroid[:2] += 3 * x.mean(0)
    bias = torch.zeros(8).index_fill(0, torch.tensor([0, 1]), 2.0)  # all go to experts 0 and 1
    start = route_v3(x, centroid, bias, cfg).load
    assert start.max() == 400
    for _ in range(400):
        bias = updated_bias(bias, route_v3(x, centroid, bias, cfg).load, 0.01)
    load = route_v3(x, centroid, bias, cfg).load.float()
    assert load.max() / load.mean() < 1.2


def test_the_balance_loss_of_v3_is_its_equations(tiny_model):
    cfg = tiny_model(**V3, aux_loss_alpha=0.3)
    x, centroid, bias = problem(cfg, 2 * 7)
    got = v3_balance_loss(route_v3(x, centroid, bias, cfg), 2, cfg)
    logits = (x @ centroid.T).double()
    for sequence in range(2):
        s = logits[7 * sequence : 7 * sequence + 7].sigmoid().tolist()
        want = 0.0
        for i in range(12):
            f = 12 / (3 * 7) * sum(i in best(row, 3) for row in s)
            p = sum(row[i] / sum(row) for row in s) / 7
            want += 0.3 * f * p
        assert got[sequence].item() == pytest.approx(want, abs=1e-6)


def test_the_balance_losses_of_v2_are_its_equations(tiny_model):
    cfg = tiny_model(**V2, aux_loss_alpha=0.3, device_loss_alpha=0.5, comm_loss_alpha=0.7)
    x, centroid, _ = problem(cfg, 2 * 7)
    routing = route_v2(x, centroid, cfg)
    got = v2_balance_loss(routing, 2, cfg)
    for sequence in range(2):
        rows = slice(7 * sequence, 7 * sequence + 7)
        chosen, s = routing.expert[rows].tolist(), routing.affinity[rows].tolist()
        f = [12 / (3 * 7) * sum(i in row for row in chosen) for i in range(12)]
        p = [sum(row[i] for row in s) / 7 for i in range(12)]
        want = 0.3 * sum(a * b for a, b in zip(f, p, strict=True))
        for device in range(4):
            own = range(3 * device, 3 * device + 3)
            on_device = sum(p[i] for i in own)
            want += 0.5 * sum(f[i] for i in own) / 3 * on_device
            sent = sum(any(i in own for i in row) for row in chosen)
            want += 0.7 * 4 / (2 * 7) * sent * on_device
        assert got[sequence].item() == pytest.approx(want, abs=1e-6)


def test_balance_losses_push_the_router_towards_balance(tiny_model):
    for cfg in (tiny_model(**V3, aux_loss_alpha=1.0), tiny_model(**V2, aux_loss_alpha=1.0)):
        layer, x = MoE(cfg), torch.randn(4, 30, 42) + 1
        layer.gate.weight.data[0] += 0.05  # everyone likes expert 0
        spread = []
        for _ in range(60):
            _, routing = layer(x)
            spread.append(routing.load.float().std().item())
            (grad,) = torch.autograd.grad(layer.balance_loss(routing, 4).mean(), layer.gate.weight)
            layer.gate.weight.data -= 0.3 * grad
        assert spread[-1] < 0.5 * spread[0]


def test_shared_experts_see_every_token(tiny_model):
    cfg = tiny_model(n_shared_experts=2)
    layer, x = MoE(cfg), torch.randn(2, 5, 42)
    layer.experts.down_proj.data.zero_()
    torch.testing.assert_close(layer(x)[0], layer.shared_experts(x), rtol=0, atol=1e-6)
    assert layer.shared_experts.gate_proj.weight.shape == (2 * 22, 42)
    assert not hasattr(MoE(tiny_model(n_shared_experts=0)), "shared_experts")
