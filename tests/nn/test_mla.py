import pytest
import torch

from minids import config
from minids.nn import mla
from minids.nn.attention import visible
from minids.nn.cache import LayerCache
from minids.nn.mla import MLA
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


YARN = {"rope_type": "yarn", "rope_factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0}


@pytest.mark.parametrize("changes", [{}, YARN, {"use_qk_norm": True}, {"v_head_dim": 22} | YARN])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_the_absorbed_form_is_the_expanded_one(tiny_model, changes, padded):
    """All at once, in parts from a cache, with padding on the left."""
    cfg = tiny_model(**changes)
    layer, x = layer_of(cfg), torch.randn(2, 9, 42, dtype=torch.float64)
    real = torch.arange(9) >= torch.tensor([[0], [3]]) if padded else None

    def run(absorb, parts):
        layer.absorb, cache, out = absorb, LayerCache(), []
        for start, end in parts:
            mask = None if real is None else visible(end - start, end, real[:, :end], x.device)
            out.append(layer(x[:, start:end], rope_of(cfg, start, end), mask, cache))
        return torch.cat(out, dim=1)

    want = run(False, [(0, 9)])
    for parts in ([(0, 9)], [(0, 5), (5, 6), (6, 7), (7, 9)]):
        torch.testing.assert_close(run(True, parts), want, rtol=0, atol=1e-12)
        torch.testing.assert_close(run(None, parts), want, rtol=0, atol=1e-12)


def test_both_forms_have_the_same_gradients(tiny_model):
    cfg = tiny_model()
    layer, x = layer_of(cfg), torch.randn(2, 5, 42, dtype=torch.float64)
    grads = []
    for layer.absorb in (False, True):
        layer.zero_grad()
        layer(x, rope_of(cfg, 0, 5)).square().sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    torch.testing.assert_close(*grads, rtol=0, atol=1e-10)


def test_absorbing_pays_where_it_multiplies_less(tiny_model, monkeypatch):
    cfg = tiny_model()
    layer, used = layer_of(cfg), []
    for name in ("attend_absorbed", "attend_expanded"):
        rule = getattr(mla, name)
        spy = lambda *args, name=name, rule=rule: used.append(name[7:]) or rule(*args)  # noqa: E731
        monkeypatch.setattr(mla, name, spy)
    cache, x = LayerCache(), torch.randn(1, 60, 42, dtype=torch.float64)
    parts = {(0, 1): "expanded", (1, 2): "absorbed", (2, 30): "expanded", (30, 31): "absorbed"}
    parts |= {(31, 40): "absorbed", (40, 60): "expanded"}
    for start, end in parts:
        layer(x[:, start:end], rope_of(cfg, start, end), None, cache)
    layer(x, rope_of(cfg, 0, 60))
    assert used == [*parts.values(), "expanded"]


def test_absorbing_pays_for_v3_up_to_170_queries():
    v3 = config.load("deepseek-v3").model
    assert mla.absorbing_pays(1, 2, v3) and mla.absorbing_pays(170, 10**6, v3)
    assert not mla.absorbing_pays(171, 10**6, v3) and not mla.absorbing_pays(1, 1, v3)


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
