"""Codes and scales against a plain statement of the recipe: loops, slices, one group at a time."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minids.errors import UserError
from minids.lowp.codec import E2M1, decode, decode_scale, encode
from minids.lowp.scaling import (
    dequantize_block,
    dequantize_mx,
    dequantize_tensor,
    dequantize_tile,
    quantize_block,
    quantize_mx,
    quantize_tensor,
    quantize_tile,
)

KINDS = pytest.mark.parametrize("kind", ["float", "ue8m0"])


def one_group(values, kind, floor):
    """The published recipe for one list of numbers → codes as bytes, scale."""
    amax = max(float(values.abs().max()), floor)
    scale = float(torch.tensor(amax) / torch.tensor(448.0))
    if kind == "ue8m0":
        scale = 2.0 ** math.ceil(math.log2(scale))
    code = torch.clamp(values.float() / torch.tensor(scale), -448, 448)
    return encode(code), scale


def plain(x, height, width, kind, floor=1e-4):
    """The recipe over a matrix in groups of height × width."""
    codes = torch.empty(x.shape, dtype=torch.uint8)
    rows, columns = -(-x.shape[0] // height), -(-x.shape[1] // width)
    scales = torch.empty(rows, columns)
    for a in range(rows):
        for b in range(columns):
            here = (slice(a * height, (a + 1) * height), slice(b * width, (b + 1) * width))
            codes[here], scales[a, b] = one_group(x[here], kind, floor)
    return codes, scales


def numbers(m, k, seed=0):
    """Sizes over many binades, zeros, a column of outliers."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(m, k, generator=g) * torch.exp(3 * torch.randn(m, 1, generator=g))
    x[:, 3:4] *= 300
    x[x.abs() < 0.1] = 0
    return x


SHAPES = pytest.mark.parametrize("shape", [(3, 256), (5, 300), (1, 1), (130, 127), (257, 129)])


@KINDS
@SHAPES
def test_tiles_are_the_published_recipe(shape, kind):
    x = numbers(*shape)
    code, scale = quantize_tile(x, scale=kind)
    codes, scales = plain(x, 1, 128, kind)
    assert torch.equal(code.view(torch.uint8), codes)
    assert torch.equal(scale, scales)
    assert torch.equal(dequantize_tile(code, scale)[:, :128], code.float()[:, :128] * scale[:, :1])


@KINDS
@SHAPES
def test_blocks_are_the_published_recipe(shape, kind):
    x = numbers(*shape)
    code, scale = quantize_block(x, scale=kind)
    codes, scales = plain(x, 128, 128, kind)
    assert torch.equal(code.view(torch.uint8), codes)
    assert torch.equal(scale, scales)
    corner = dequantize_block(code, scale)[-1, -1]
    assert corner == code.float()[-1, -1] * scale[-1, -1]


@KINDS
def test_one_scale_for_a_tensor(kind):
    x = numbers(7, 40)
    code, scale = quantize_tensor(x, scale=kind)
    codes, one = one_group(x, kind, 1e-4)
    assert torch.equal(code.view(torch.uint8), codes) and scale == one
    assert torch.equal(dequantize_tensor(code, scale), code.float() * one)


def test_a_round_trip_is_within_half_a_step():
    x = torch.randn(64, 512)
    error = (dequantize_tile(*quantize_tile(x)) - x).abs()
    amax = x.view(64, 4, 128).abs().amax(-1).repeat_interleave(128, -1)
    assert (error <= torch.maximum(x.abs() / 16, amax / 448 * 2**-10) * 1.001).all()
    assert error.max() > x.abs().max() / 64  # and it is eight bits, not more


def test_an_outlier_costs_its_own_tile_only():
    x = torch.randn(4, 512).clamp(-3, 3)
    hit = x.clone()
    hit[0, 0] = 1e5
    same = quantize_tile(x).code.view(torch.uint8) == quantize_tile(hit).code.view(torch.uint8)
    assert same[1:].all() and same[0, 128:].all() and same[0, :128].float().mean() < 0.2
    lost = quantize_tensor(hit).code.float() == 0
    assert lost.float().mean() > 0.1


def test_a_power_of_two_scale_loses_nothing_the_second_time():
    x = numbers(6, 256)
    once = dequantize_tile(*quantize_tile(x, scale="ue8m0"))
    assert torch.equal(dequantize_tile(*quantize_tile(once, scale="ue8m0")), once)
    scale = quantize_tile(x, scale="ue8m0").scale
    assert (scale >= quantize_tile(x).scale).all() and (scale < 2 * quantize_tile(x).scale).all()
    assert torch.equal(scale.log2(), scale.log2().round())


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@KINDS
def test_trouble_stays_visible_and_in_its_group(bad, kind):
    x = torch.randn(4, 256)
    x[1, 200] = bad
    tile = dequantize_tile(*quantize_tile(x, scale=kind))
    assert tile[1, 128:].isnan().all() and tile.isnan().sum() == 128
    assert quantize_tile(x, scale=kind).scale.isnan().sum() == 1
    block = dequantize_block(*quantize_block(x, scale=kind))
    assert block[:, 128:].isnan().all() and block.isnan().sum() == 4 * 128
    assert dequantize_tensor(*quantize_tensor(x, scale=kind)).isnan().all()


@KINDS
def test_zeros_are_zeros_with_the_floors_scale(kind):
    code, scale = quantize_tile(torch.zeros(2, 130), scale=kind, floor=448.0)
    assert (code.float() == 0).all() and (scale == 1).all() and scale.shape == (2, 2)
    small = quantize_tile(torch.full((1, 128), 1e-6))
    assert small.scale.item() == pytest.approx(1e-4 / 448)
    assert dequantize_tile(*small)[0, 0].item() == pytest.approx(1e-6, rel=0.07)
    tiny = quantize_tile(torch.full((1, 128), 1e-6), floor=1e-30)
    assert tiny.code.float().eq(448).all()


def test_empty_tensors_have_no_groups():
    assert [t.shape for t in quantize_tile(torch.empty(0, 256))] == [(0, 256), (0, 2)]
    assert [t.shape for t in quantize_tile(torch.empty(3, 0))] == [(3, 0), (3, 0)]
    assert [t.shape for t in quantize_block(torch.empty(0, 256))] == [(0, 256), (0, 2)]
    assert quantize_tensor(torch.empty(0)).code.shape == (0,)
    assert dequantize_tile(*quantize_tile(torch.empty(0, 256))).shape == (0, 256)


def test_strides_and_dtypes_do_not_matter():
    x = numbers(40, 24)
    for rule in (quantize_tile, quantize_block):
        turned, copied = rule(x.T), rule(x.T.contiguous())
        assert torch.equal(turned.code.float(), copied.code.float())
        assert torch.equal(turned.scale, copied.scale)
    half = x.bfloat16()
    assert torch.equal(quantize_tile(half).scale, quantize_tile(half.float()).scale)
    assert torch.equal(
        quantize_tile(x[None, None]).code.float()[0, 0], quantize_tile(x).code.float()
    )
    assert quantize_block(torch.stack((x, x))).scale.shape == (2, 1, 1)


@pytest.mark.parametrize(
    "x", [torch.ones(2, 2, dtype=torch.int32), torch.ones(2, 2).to(torch.float8_e5m2)]
)
def test_other_dtypes_are_refused(x):
    for rule in (quantize_tile, quantize_block, quantize_tensor, quantize_mx):
        with pytest.raises(UserError, match="no wide float"):
            rule(x)


def test_fp4_blocks_are_the_microscaling_rule():
    x = numbers(3, 96)
    code, scale = quantize_mx(x)
    for row in range(3):
        for j in range(3):
            block = x[row, 32 * j : 32 * j + 32]
            wanted = 2.0 ** math.ceil(math.log2(max(float(block.abs().max()), 6 * 2.0**-126) / 6))
            assert decode_scale(scale)[row, j] == wanted
            assert torch.equal(code[row, 32 * j : 32 * j + 32], encode(block / wanted, E2M1))
    back = dequantize_mx(code, scale)
    assert torch.equal(back[0, :32], decode(code[0, :32], E2M1) * decode_scale(scale)[0, 0])
    with pytest.raises(UserError, match="columns"):
        quantize_mx(torch.ones(2, 40))
    assert (dequantize_mx(*quantize_mx(torch.zeros(1, 32))) == 0).all()


def test_fp4_weights_fit_into_fp8_without_loss():
    """DeepSeek-V4's way: FP4 values with power-of-two scales are E4M3 numbers exactly."""
    w = torch.randn(128, 128)
    four = dequantize_mx(*quantize_mx(w))
    eight = dequantize_block(*quantize_block(four, scale="ue8m0"))
    assert torch.equal(four, eight)


class Divisors(TorchDispatchMode):
    """What was divided by."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, call, kinds, args=(), kwargs=None):
        if call.overloadpacket is torch.ops.aten.div:
            self.seen.append(args[1])
        return call(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", [quantize_tile, quantize_block, quantize_tensor, quantize_mx])
def test_no_quotient_is_left_to_the_device(rule):
    """Python numbers are turned into reciprocals on a CUDA device: another scale, other codes."""
    with Divisors() as divisors:
        rule(torch.randn(130, 256))
    assert len(divisors.seen) >= 2
    assert all(isinstance(by, torch.Tensor) for by in divisors.seen), divisors.seen
    amax = torch.rand(1000)
    assert (amax * (1 / torch.tensor(448.0)) != amax / 448).float().mean() > 0.3  # why it matters
