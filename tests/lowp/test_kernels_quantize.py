"""Quantising kernels against the simulation: the same codes and scales, bit for bit.

On a CPU through Triton's interpreter, on a CUDA device compiled. Random inputs differ every time;
a failure names its seed.
"""

import os

import pytest
import torch
from torch.nn import functional as F

from minids.errors import UserError
from minids.lowp import kernels, scaling

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported for the first time
needs_triton = pytest.mark.skipif(not kernels.HAVE_TRITON, reason="triton is not installed")
pytestmark = [needs_triton, *([pytest.mark.gpu] if CUDA else [])]
SHAPES = [(1, 1), (5, 130), (16, 128), (33, 300), (130, 257)]
if CUDA:
    SHAPES += [(4096, 7168), (1000, 2048), (4099, 1030)]


@pytest.fixture
def draw():
    """Numbers over many binades, fresh in each run; the seed is printed with a failure."""
    seed = torch.seed() % 2**31
    print("seed", seed)  # noqa: T201
    generator = torch.Generator().manual_seed(seed)

    def make(*size, dtype=torch.float32, spread=3.0):
        x = torch.randn(size, generator=generator)
        return (x * torch.exp(spread * torch.randn(size, generator=generator))).to(DEVICE, dtype)

    return make


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """New memory is full of NaN codes, so what a kernel forgets to write is found."""
    empty = torch.empty

    def full_of_nan(*args, **kwargs):
        out = empty(*args, **kwargs)
        return out.view(torch.uint8).fill_(0xFF).view(out.dtype) if out.numel() else out

    monkeypatch.setattr(kernels.torch, "empty", full_of_nan)


def same(found, wanted):
    """Codes and scales equal; a NaN has no sign."""
    nan = wanted.code.float().isnan()
    assert torch.equal(found.code.float().isnan(), nan)
    bits = [t.code.view(torch.uint8).masked_fill(nan, 0) for t in (found, wanted)]
    wrong = (bits[0] != bits[1]).sum().item()
    assert not wrong, f"{wrong} codes differ"
    torch.testing.assert_close(found.scale, wanted.scale, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["float", "ue8m0"])
def test_tiles_and_blocks_have_the_codes_of_the_simulation(draw, shape, kind):
    for x in (draw(*shape), draw(*shape, dtype=torch.bfloat16), draw(*shape[::-1]).T):
        same(kernels.quantize_tile(x, scale=kind), scaling.quantize_tile(x, scale=kind))
        same(kernels.quantize_block(x, scale=kind), scaling.quantize_block(x, scale=kind))


def test_odd_numbers_have_the_simulations_answer(draw):
    x = draw(9, 256)
    x[0] = 0
    x[1] = -0.0
    x[2, 3] = torch.nan
    x[3, 200] = -torch.inf
    x[4] = 1e-42  # subnormal
    x[5] *= 1e-20
    x[6, :9] = torch.tensor([448.0, -448, 17, 18, 2**-7, 2**-10, 3 * 2**-10, -(2**-10), 1e-9])
    x[7] = 3e38
    for floor in (scaling.AMAX_FLOOR, scaling.GRAD_FLOOR):
        for kind in ("float", "ue8m0"):
            options = {"scale": kind, "floor": floor}
            same(kernels.quantize_tile(x, **options), scaling.quantize_tile(x, **options))
            same(kernels.quantize_block(x, **options), scaling.quantize_block(x, **options))


def test_every_bfloat16_near_a_tie_rounds_to_even():
    """All finite bfloat16 up to 448 as quotients: a row of each, its scale held at 1 by one 448."""
    every = torch.arange(0x43E1, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    rows = F.pad(every, (0, -len(every) % 127)).view(-1, 127)
    x = torch.cat([torch.full((len(rows), 1), 448.0), rows.float()], dim=1).to(DEVICE)
    found = kernels.quantize_tile(x)
    assert (found.scale == 1).all()
    same(found, scaling.quantize_tile(x))


@pytest.mark.parametrize("shape", [(5, 130), (33, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_back_again_is_code_times_scale(draw, shape, dtype):
    x = draw(*shape)
    for rule, back in (
        (scaling.quantize_tile, scaling.dequantize_tile),
        (scaling.quantize_block, scaling.dequantize_block),
    ):
        code, scale = rule(x)
        assert torch.equal(kernels.dequantize(code, scale, torch.float32), back(code, scale))
    if CUDA or dtype == torch.float32:  # the interpreter cuts bfloat16 off instead of rounding
        found = kernels.dequantize(code, scale, dtype)
        assert torch.equal(found, scaling.dequantize_block(code, scale).to(dtype))


def close(found, wanted):
    """Two roundings of one number: scales to the last bits, codes equal or neighbours, rarely."""
    torch.testing.assert_close(found.scale, wanted.scale, rtol=1e-5, atol=0)
    apart = (found.code.float() - wanted.code.float()).abs()
    assert (apart <= 0.13 * wanted.code.float().abs() + 2**-9).all()
    assert (apart > 0).float().mean() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (5, 130), (33, 300), (18, 1000)])
@pytest.mark.parametrize("kind", ["float", "ue8m0"])
def test_swiglu_is_quantised_on_the_way(draw, shape, kind):
    m, f = shape
    gate_up = draw(m, 2 * f, spread=1.0)
    gate, up = gate_up.chunk(2, dim=1)
    wanted = scaling.quantize_tile(F.silu(gate) * up, scale=kind)
    close(kernels.swiglu_quantize(gate_up, scale=kind), wanted)
    wide = torch.cat([gate_up, gate_up], dim=1)[:, : 2 * f]  # rows further apart than they are long
    close(kernels.swiglu_quantize(wide, scale=kind), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (5, 130), (7, 300), (4, 1000)])
@pytest.mark.parametrize("kind", ["float", "ue8m0"])
def test_rms_norm_is_quantised_on_the_way(draw, shape, kind):
    x, weight = draw(*shape, spread=1.0), draw(shape[1], spread=1.0)
    normal = F.rms_norm(x, (shape[1],), weight, 1e-6)
    wanted = scaling.quantize_tile(normal, scale=kind)
    close(kernels.rms_norm_quantize(x, weight, scale=kind), wanted)


def test_trouble_is_never_lost_in_a_fused_kernel(draw):
    x = draw(4, 256, spread=0.5)
    x[1, 5] = torch.nan
    x[2, 200] = torch.inf
    found = kernels.swiglu_quantize(x)
    assert found.scale.isnan()[:, 0].tolist() == [False, True, True, False]
    assert found.code[1].float().isnan().all()
    found = kernels.rms_norm_quantize(x, torch.ones(256, device=DEVICE))
    assert found.scale.isnan().all(1).tolist()[1] and not found.scale[[0, 3]].isnan().any()


def test_nothing_in_nothing_out():
    none = torch.zeros(0, 300, device=DEVICE)
    assert kernels.quantize_tile(none).scale.shape == (0, 3)
    assert kernels.quantize_block(none).scale.shape == (0, 3)
    assert kernels.swiglu_quantize(none).code.shape == (0, 150)
    weight = torch.ones(300, device=DEVICE)
    assert kernels.rms_norm_quantize(none, weight).scale.shape == (0, 3)
    code, scale = kernels.quantize_tile(none)
    assert kernels.dequantize(code, scale).shape == (0, 300)


def test_what_cannot_be_quantised_is_named(draw):
    whole = torch.ones(3, 128, device=DEVICE, dtype=torch.int32)
    for rule in (kernels.quantize_tile, kernels.quantize_block, kernels.swiglu_quantize):
        with pytest.raises(UserError, match="int32 is no wide float"):
            rule(whole)
    with pytest.raises(UserError, match="no pair"):
        kernels.swiglu_quantize(draw(3, 5))
    code, _ = kernels.quantize_tile(draw(3, 300))
    with pytest.raises(UserError, match=r"scales \[2, 2\] for 3×300"):
        kernels.dequantize(code, torch.ones(2, 2, device=DEVICE))
