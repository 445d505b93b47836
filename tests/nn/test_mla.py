import pytest
import torch
from einops import einsum, rearrange

from minids.nn.attention import causal_softmax
from minids.nn.cache import LayerCache
from minids.nn.mla import MLA, attend_expanded
from minids.nn.rope import rope_tables

VARIANTS = pytest.mark.parametrize(
    "changes",
    [{}, {"q_lora_rank": 26}, {"use_qk_norm": True}, {"rope_interleave": False, "v_head_dim": 22}],
)


def layer_of(cfg):
    layer = MLA(cfg).double()
    for name, weight in layer.named_parameters():
        weight.data.normal_(1.0 if "norm" in name else 0.0, 0.3)
    return layer


def rope_of(cfg, start, end):
    return rope_tables(cfg, torch.arange(start, end), torch.float64)


@VARIANTS
@torch.no_grad()
def test_token_by_token_equals_all_at_once(tiny_model, changes):
    cfg = tiny_model(**changes)
    layer, x, cache = layer_of(cfg), torch.randn(2, 9, 42, dtype=torch.float64), LayerCache()
    whole, parts = layer(x, rope_of(cfg, 0, 9)), []
    for start, end in ((0, 4), (4, 5), (5, 6), (6, 9)):
        parts.append(layer(x[:, start:end], rope_of(cfg, start, end), None, cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


@VARIANTS
@torch.no_grad()
def test_a_token_costs_one_latent_and_one_key_whatever_the_heads(tiny_model, changes):
    cfg = tiny_model(**changes, num_attention_heads=7)
    layer, cache = layer_of(cfg), LayerCache()
    layer(torch.randn(2, 9, 42, dtype=torch.float64), rope_of(cfg, 0, 9), None, cache)
    c, k_rope = cache.kept()
    assert (c.shape, k_rope.shape) == ((2, 9, 18), (2, 9, 8))


@VARIANTS
@torch.no_grad()
def test_the_absorbed_form_gives_the_same_from_the_same_cache(tiny_model, changes):
    """W_UK moves into the query and W_UV behind the sum: what decoding will do."""
    cfg = tiny_model(**changes)
    layer, x = layer_of(cfg), torch.randn(2, 9, 42, dtype=torch.float64)
    rope = rope_of(cfg, 0, 9)
    (q_nope, q_rope), (c, k_rope) = layer.queries(x, rope), layer.latents(x, rope)
    want = attend_expanded(q_nope, q_rope, c, k_rope, layer.kv_b_proj, layer.scale)
    weight = rearrange(layer.kv_b_proj.weight, "(h w) c -> h w c", h=3)
    w_k, w_v = weight.split([cfg.qk_nope_head_dim, cfg.v_head_dim], dim=1)
    q_c = einsum(q_nope, w_k, "b s h n, h n c -> b s h c")
    score = einsum(q_c, c, "b s h c, b t c -> b h s t")
    score = score + einsum(q_rope, k_rope, "b s h r, b t r -> b h s t")
    attn = causal_softmax(score * layer.scale)
    out_c = einsum(attn, c, "b h s t, b t c -> b s h c")
    got = einsum(out_c, w_v, "b s h c, h v c -> b s h v")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@torch.no_grad()
def test_latents_are_normed_before_and_keys_after_they_are_kept(tiny_model):
    cfg = tiny_model()
    layer, x = layer_of(cfg), torch.randn(2, 9, 42, dtype=torch.float64)
    layer.kv_a_layernorm.weight.fill_(1.0)
    c, k_rope = layer.latents(x, rope_of(cfg, 0, 9))
    torch.testing.assert_close(c.square().mean(-1), torch.ones(2, 9).double(), rtol=0, atol=1e-4)
    raw = layer.kv_a_proj_with_mqa(x)[..., 18:]
    assert torch.equal(k_rope[:, 0], raw[:, 0])  # position 0 turns nothing, and no norm touches it
    assert (k_rope[:, 1:] - raw[:, 1:]).abs().max() > 0.1


@torch.no_grad()
def test_qk_norm_bounds_every_score(tiny_model):
    cfg = tiny_model(use_qk_norm=True)
    layer, x = MLA(cfg).double(), torch.randn(2, 9, 42, dtype=torch.float64)
    rope = rope_of(cfg, 0, 9)
    small, large = layer.queries(x, rope), layer.queries(1e4 * x, rope)
    torch.testing.assert_close(large, small, rtol=1e-4, atol=1e-4)
    q = torch.cat(small, dim=-1)
    torch.testing.assert_close(q.square().mean(-1), torch.ones(2, 9, 3).double(), rtol=1e-3, atol=0)
    assert layer.latents(1e4 * x, rope)[1].abs().max() < 8**0.5 + 1e-6
