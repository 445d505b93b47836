import pytest
import torch
from einops import repeat

from minids.nn import attention
from minids.nn.attention import (
    Attention,
    attend,
    attend_by_hand,
    attend_grouped,
    attend_short,
    visible,
)
from minids.nn.cache import LayerCache
from minids.nn.rope import rope_tables


def qkv(b, s, t, h=3, n=10, v=7):
    generator = torch.Generator().manual_seed(s * 100 + t)
    shapes = (b, s, h, n), (b, t, h, n), (b, t, h, v)
    make = {"dtype": torch.float64, "generator": generator}
    return [torch.randn(shape, **make).requires_grad_() for shape in shapes]


def value_and_gradients(rule, inputs, *args):
    out = rule(*inputs, *args)
    return out, *torch.autograd.grad(out.sin().sum(), inputs)


@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 9), (9, 9), (4, 9), (2, 3)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("short", [0, 512])
def test_fused_and_by_hand_are_equal(monkeypatch, s, t, padded, short):
    monkeypatch.setattr(attention, "SHORT", short)
    inputs = qkv(2, s, t)
    real = torch.rand(2, t, generator=torch.Generator().manual_seed(0)) > 0.4
    mask = visible(s, t, real, torch.device("cpu")) if padded else None
    want = value_and_gradients(attend_by_hand, inputs, 0.3, mask)
    got = value_and_gradients(attend, inputs, 0.3, mask)
    for mine, yours in zip(got, want, strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-12)


def test_short_attention_is_the_same():
    inputs = qkv(2, 9, 9)
    for mine, yours in zip(
        value_and_gradients(attend_short, inputs, 0.3),
        value_and_gradients(attend_by_hand, inputs, 0.3),
        strict=True,
    ):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [attend, attend_by_hand])
def test_nobody_sees_ahead_and_the_last_query_sees_all(rule):
    q, k, v = qkv(1, 5, 8)
    out = rule(q, k, v, 0.3)
    for row in range(5):
        (grad,) = torch.autograd.grad(out[0, row].sum(), v, retain_graph=True)
        seen = grad.abs().sum((0, 2, 3)) > 0
        assert seen.tolist() == [True] * (row + 4) + [False] * (4 - row)


@pytest.mark.parametrize("rule", [attend, attend_by_hand])
def test_a_query_that_sees_nothing_gets_zero_and_finite_gradients(rule):
    inputs = qkv(2, 4, 4)
    real = torch.tensor([[False, False, True, True], [False] * 4])
    out, *gradients = value_and_gradients(
        rule, inputs, 0.3, visible(4, 4, real, torch.device("cpu"))
    )
    assert out[0, :2].abs().max() == 0
    assert out[1].abs().max() == 0
    assert out[0, 2:].abs().min() > 0
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 9), (9, 9), (2, 5)])
@pytest.mark.parametrize("g", [1, 2, 6])
@pytest.mark.parametrize("padded", [False, True])
def test_grouped_heads_are_repeated_heads(s, t, g, padded):
    """Heads 0 … h/g − 1 read the first key head: torch's enable_gqa says so too."""
    q, _, _ = qkv(2, s, t, h=6)
    _, k, v = qkv(2, s, t, h=g)
    real = torch.rand(2, t, generator=torch.Generator().manual_seed(0)) > 0.3
    mask = visible(s, t, real, torch.device("cpu")) if padded else None
    got = value_and_gradients(attend_grouped, [q, k, v], 0.3, mask)

    def repeated(q, k, v):
        k, v = (repeat(x, "b t g n -> b t (g share) n", share=6 // g) for x in (k, v))
        return attend_by_hand(q, k, v, 0.3, mask)

    for mine, yours in zip(got, value_and_gradients(repeated, [q, k, v]), strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-12)
    if s == 1 and not padded:
        fused = torch.nn.functional.scaled_dot_product_attention
        ours = got[0].transpose(1, 2)
        args = (x.transpose(1, 2) for x in (q, k, v))
        torch.testing.assert_close(ours, fused(*args, scale=0.3, enable_gqa=True))


def rope_of(cfg, s):
    return rope_tables(cfg, torch.arange(s), torch.float64)


def test_mha_is_gqa_with_repeated_groups(tiny_model):
    sizes = {"attention": "gqa", "num_attention_heads": 6, "head_dim": 14}
    grouped = Attention(tiny_model(**sizes, num_key_value_heads=2)).double()
    plain = Attention(tiny_model(**sizes, num_key_value_heads=6)).double()
    weights = grouped.state_dict()
    for name in ("k_proj.weight", "v_proj.weight"):
        weights[name] = weights[name].unflatten(0, (2, 14)).repeat_interleave(3, 0).flatten(0, 1)
    plain.load_state_dict(weights)
    x = torch.randn(2, 9, 42, dtype=torch.float64)
    rope = rope_of(grouped.cfg, 9)
    torch.testing.assert_close(grouped(x, rope), plain(x, rope), rtol=0, atol=1e-12)


def test_a_group_costs_two_heads_of_cache_per_token(tiny_model):
    for g in (1, 2, 6):
        sizes = {"attention": "gqa", "num_attention_heads": 6, "num_key_value_heads": g}
        layer, cache = Attention(tiny_model(**sizes, head_dim=14)), LayerCache()
        layer(torch.randn(1, 5, 42), rope_tables(layer.cfg, torch.arange(5)), None, cache)
        assert sum(kept[0, 0].numel() for kept in cache.kept()) == 2 * g * 14


def test_channels_that_are_not_rotated_carry_no_position(tiny_model):
    cfg = tiny_model(attention="gqa", head_dim=14, partial_rotary_factor=0.58)
    assert cfg.rotary_dim == 8
    layer, x = Attention(cfg).double(), torch.randn(1, 9, 3, 14, dtype=torch.float64)
    turned = layer.rotate(x, rope_of(cfg, 9))
    assert torch.equal(turned[..., 8:], x[..., 8:])
    assert (turned[:, 1:, :, :8] != x[:, 1:, :, :8]).all()
