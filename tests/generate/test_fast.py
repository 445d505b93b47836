"""The decoding twin against the model itself, over every kind of layer it serves."""

import pytest
import torch

from minids.generate.fast import FastLinear, FastStep, pick_two
from minids.nn.cache import Cache

KINDS = {
    "v3": {},
    "even widths": {"hidden_size": 52, "moe_intermediate_size": 24},
    "no query latent": {"q_lora_rank": 0},
    "halves": {"rope_interleave": False},
    "norms of heads": {"use_qk_norm": True},
    "yarn": {
        "rope_type": "yarn", "rope_factor": 4.0, "original_max_position_embeddings": 24,
        "mscale": 0.7, "mscale_all_dim": 0.3,
    },
    "yarn in halves": {
        "rope_type": "yarn", "rope_factor": 4.0, "original_max_position_embeddings": 24,
        "rope_interleave": False,
    },
    "three of seven": {"n_routed_experts": 7, "num_experts_per_tok": 3},
    "one expert": {"n_routed_experts": 7, "num_experts_per_tok": 1},
    "groups": {"n_routed_experts": 9, "n_group": 3, "topk_group": 2, "num_experts_per_tok": 2},
    "scaled": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
    "v4 affinity": {"scoring_func": "sqrtsoftplus"},
    "v2": {"topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False},
    "v2 groups": {
        "topk_method": "group_limited_greedy", "scoring_func": "softmax",
        "n_routed_experts": 9, "n_group": 3, "topk_group": 2,
    },
    "no shared expert": {"n_shared_experts": 0},
    "two shared experts": {"n_shared_experts": 2},
    "dense": {"n_routed_experts": 0},
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 5, 11])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_fast_step_equals_the_model(tiny_model, kind, rows):
    model = tiny_model(**KINDS[kind])
    for block in model.layers[1:]:  # a selection bias that changes the choice
        for bias in block.mlp.buffers():
            bias.copy_(torch.linspace(-0.3, 0.3, len(bias)))
    generator = torch.Generator().manual_seed(rows)
    tokens = torch.randint(0, 250, (rows, 12), generator=generator)
    mask = torch.ones(rows, 12, dtype=torch.bool)
    if rows > 1:
        mask[1, :4] = False
    cache, fast = Cache(model.cfg.num_hidden_layers), FastStep(model)
    model.hidden(tokens[:, :7], mask=mask[:, :7], cache=cache)
    for t in range(7, 12):
        found = fast.logits(tokens[:, t], mask[:, : t + 1] if rows > 1 else None, cache)
        expected = model(tokens[:, : t + 1], mask=mask[:, : t + 1])[:, -1]
        # float32 sums in another order; the promise of cached decoding is 1e-4 (F47)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert torch.equal(found.argmax(-1), expected.argmax(-1))
    assert cache.length == 12


@torch.no_grad()
def test_the_angle_table_moves_along(tiny_model, monkeypatch):
    monkeypatch.setattr("minids.generate.fast.TABLE", 3)
    model = tiny_model()
    tokens = torch.arange(20)[None]
    cache, fast = Cache(model.cfg.num_hidden_layers), FastStep(model)
    model.hidden(tokens[:, :5], cache=cache)
    for t in range(5, 20):
        found = fast.logits(tokens[:, t], None, cache)
        expected = model(tokens[:, : t + 1])[:, -1]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    cache.crop(9)  # backwards too
    found = fast.logits(tokens[:, 9], None, cache)
    torch.testing.assert_close(found, model(tokens[:, :10])[:, -1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 30])
@pytest.mark.parametrize("out", [7, 8])
def test_a_fast_product_is_the_product(rows, out):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, 13, generator=generator) for n in (out, 4)]
    x = torch.randn(rows, 17, generator=generator)[:, :13]  # rows that are not packed
    expected = torch.nn.functional.linear(x, torch.cat(weights))
    torch.testing.assert_close(FastLinear(*weights)(x.contiguous()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", [[0, 1], [1, 4], [2, 4], [3], [0, 4]])
def test_two_experts_are_a_view_of_the_stack(which):
    stack = torch.arange(5 * 2 * 3).view(5, 2, 3)
    picked = pick_two(stack, which)
    assert torch.equal(picked, stack[which])
    assert picked.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr()


def test_it_serves_latent_attention_in_float32_only(tiny_model):
    gqa = tiny_model(attention="gqa", num_key_value_heads=1, head_dim=14)
    assert FastStep.serves(tiny_model(), torch.float32)
    assert not FastStep.serves(gqa, torch.float32)
    assert not FastStep.serves(tiny_model(), torch.bfloat16)
    assert not FastStep.serves(tiny_model().double(), torch.float64)
