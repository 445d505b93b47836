import math

import pytest
import torch

from minids.config import load
from minids.nn.rope import (
    Rope,
    frequencies,
    pair_that_turns,
    rope_tables,
    rotate_halves,
    rotate_pairs,
    softmax_scale,
)

LAYOUTS = pytest.mark.parametrize("rotate", [rotate_pairs, rotate_halves])


def tables(cfg, *positions):
    return rope_tables(cfg, torch.tensor(positions), torch.float64)


@LAYOUTS
def test_a_product_sees_the_distance_only(tiny_model, rotate):
    cfg = tiny_model()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    near = [(rotate(q, tables(cfg, m)) * rotate(k, tables(cfg, m + 7))).sum() for m in (0, 5, 900)]
    torch.testing.assert_close(near[1], near[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(near[2], near[0], rtol=0, atol=1e-12)
    far = (rotate(q, tables(cfg, 0)) * rotate(k, tables(cfg, 8))).sum()
    assert (far - near[0]).abs() > 1e-3


@LAYOUTS
def test_rotation_keeps_lengths_and_position_zero_changes_nothing(tiny_model, rotate):
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    turned = rotate(x, tables(tiny_model(), 0, 3, 11))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=0, atol=1e-12)
    assert torch.equal(turned[:, 0], x[:, 0])


def test_pairs_are_complex_numbers_and_halves_are_pairs_permuted(tiny_model):
    cfg, x = tiny_model(), torch.randn(2, 3, 5, 8, dtype=torch.float64)
    rope = tables(cfg, 2, 3, 11)
    turn = torch.complex(*rope)[:, None]
    as_complex = torch.view_as_complex(x.unflatten(-1, (4, 2))) * turn
    want = torch.view_as_real(as_complex).flatten(-2)
    torch.testing.assert_close(rotate_pairs(x, rope), want, rtol=0, atol=1e-14)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    halves = rotate_halves(x[..., order], rope)
    torch.testing.assert_close(halves, want[..., order], rtol=0, atol=1e-14)


def test_every_row_may_have_positions_of_its_own(tiny_model):
    cfg, x = tiny_model(), torch.randn(2, 3, 5, 8)
    rope = rope_tables(cfg, torch.tensor([[0, 1, 2], [7, 9, 4]]))
    alone = rotate_pairs(x[1:], rope_tables(cfg, torch.tensor([7, 9, 4])))
    assert torch.equal(rotate_pairs(x, rope)[1:], alone)


def test_tables_are_exact_far_out_and_never_bfloat16(tiny_model):
    cfg = tiny_model()
    positions = torch.tensor([0, 1, 257, 4095, 131_071])
    rope = rope_tables(cfg, positions)
    for at, cos in zip(positions.tolist(), rope.cos.tolist(), strict=True):
        want = [math.cos(at * cfg.rope_theta ** (-2 * p / 8)) for p in range(4)]
        assert cos == pytest.approx(want, abs=1e-7)
    assert rope.cos.dtype == torch.float32
    x = torch.randn(1, 5, 2, 8)
    rough = rotate_pairs(x.bfloat16(), rope)
    assert rough.dtype == torch.bfloat16
    want = rotate_pairs(x.bfloat16().float(), rope).bfloat16()
    assert torch.equal(rough, want)  # only the result is rounded


def test_yarn_of_v3_keeps_ten_pairs_and_divides_nine():
    cfg = load("deepseek-v3").model
    assert math.floor(pair_that_turns(cfg.beta_fast, cfg)) == 10
    assert math.ceil(pair_that_turns(cfg.beta_slow, cfg)) == 23
    plain = cfg.rope_theta ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    ratio = frequencies(cfg) / plain
    assert ratio[:11].tolist() == [1.0] * 11
    torch.testing.assert_close(ratio[23:], torch.full((9,), 1 / 40, dtype=torch.float64))
    assert (ratio[10:23].diff() < 0).all()


@pytest.mark.parametrize(
    ("preset", "scale"), [("deepseek-v3", 0.135234), ("deepseek-v2", 0.114721)]
)
def test_softmax_scale_is_the_published_one(preset, scale):
    cfg = load(preset).model
    assert softmax_scale(cfg) == pytest.approx(scale, abs=1e-6)
    assert rope_tables(cfg, torch.tensor([0])).cos.unique().item() == 1  # the rest stays unscaled


def test_without_yarn_the_scale_is_the_root_of_the_width(tiny_model):
    assert softmax_scale(tiny_model()) == 18**-0.5


def test_yarn_without_all_dim_scales_the_tables_instead(tiny_model):
    cfg = tiny_model(rope_type="yarn", rope_factor=4.0)
    rope = rope_tables(cfg, torch.tensor([0]))
    assert rope == Rope(rope.cos, rope.sin)
    assert rope.cos[0, 0].item() == pytest.approx(0.1 * math.log(4) + 1)
