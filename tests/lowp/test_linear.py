"""The three products of a layer against a plain statement of the recipe."""

import pytest
import torch
from torch.nn import functional as F

from minids.errors import UserError
from minids.lowp import backends
from minids.lowp.linear import (
    PER_TENSOR,
    V3,
    V3_HOPPER,
    V3_UNPROMOTED,
    Fp8Linear,
    Recipe,
    fp8_grouped_linear,
)
from minids.lowp.scaling import dequantize_block, quantize_block

GRAD_FLOOR = 1e-30


def rounded(x, height, width, floor=1e-4):
    """Quantised and back in groups of height × width, a group at a time."""
    out = torch.empty(x.shape)
    for a in range(0, x.shape[0], height):
        for b in range(0, x.shape[1], width):
            part = x[a : a + height, b : b + width].float()
            scale = part.abs().max().clamp(min=floor) / 448
            code = (part / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            out[a : a + height, b : b + width] = code.float() * scale
    return out


def by_the_report(x, w, grad):
    """y, dx, dw as §3.3 describes them.  x [T i], w [o i], grad [T o]"""
    x8, w8 = rounded(x, 1, 128), rounded(w, 128, 128)
    dx = rounded(grad, 1, 128, GRAD_FLOOR) @ w8
    dw = rounded(grad.T, 1, 128, GRAD_FLOOR) @ rounded(x8.T, 1, 128).T
    return x8 @ w8.T, dx, dw


def case(t, i, o, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(t, i, generator=g).to(dtype)
    x[:, 0] *= 50
    return x, torch.randn(o, i, generator=g), 1e-6 * torch.randn(t, o, generator=g).to(dtype)


SHAPES = pytest.mark.parametrize(
    "shape", [(3, 128, 128), (200, 300, 130), (1, 5, 7), (129, 128, 96)]
)


@SHAPES
def test_three_products_are_the_reports(shape):
    x, w, grad = case(*shape)
    layer = Fp8Linear(shape[1], shape[2])
    layer.weight.data = w
    x.requires_grad_()
    y = layer(x)
    y.backward(grad)
    wanted = by_the_report(x.detach(), w, grad)
    for found, value in zip((y, x.grad, layer.weight.grad), wanted, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5 * value.abs().max().item())


def test_bfloat16_in_bfloat16_out_and_the_weight_stays_wide():
    x, w, grad = case(64, 128, 96, torch.bfloat16)
    layer = Fp8Linear(128, 96, bias=True)
    layer.weight.data = w
    x.requires_grad_()
    y = layer(x[None])
    assert y.shape == (1, 64, 96) and y.dtype == torch.bfloat16
    y.backward(grad[None])
    assert x.grad.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32
    wanted = by_the_report(x.detach(), w, grad)[2]
    torch.testing.assert_close(layer.weight.grad, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max())
    torch.testing.assert_close(layer.bias.grad, grad.float().sum(0), rtol=0.01, atol=1e-7)


def test_small_gradients_are_not_taken_for_zero():
    """Means over all tokens of a step: with the floor of activations they would lose half."""
    x, w, grad = case(256, 128, 128)
    grad = grad * 1e-4
    errors = []
    for recipe in (V3, Recipe(grad_floor=1e-4)):
        layer = Fp8Linear(128, 128, recipe=recipe)
        layer.weight.data = w
        layer(x).backward(grad)
        exact = grad.T @ x
        errors.append(((layer.weight.grad - exact).norm() / exact.norm()).item())
    assert errors[0] < 0.06 and errors[1] > 0.3


@pytest.mark.parametrize("recipe", [V3_HOPPER, V3_UNPROMOTED, PER_TENSOR])
def test_other_recipes_come_close_but_are_not_the_same(recipe):
    x, w, _ = case(32, 512, 64)
    one, other = Fp8Linear(512, 64), Fp8Linear(512, 64, recipe=recipe)
    one.weight.data = other.weight.data = w
    a, b = one(x), other(x)
    assert 1e-6 < ((a - b).norm() / a.norm()).item() < 0.1


def test_scaled_mm_is_a_second_opinion():
    x, w, grad = case(70, 300, 130)
    found = []
    for backend in ("sim", "scaled_mm"):
        layer = Fp8Linear(300, 130, recipe=Recipe(backend=backend))
        layer.weight.data = w
        here = x.clone().requires_grad_()
        y = layer(here)
        y.backward(grad)
        found.append((y.detach(), here.grad, layer.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())


def test_experts_are_layers_side_by_side():
    counts, e = [40, 0, 130, 3], 4
    x, _, grad = case(sum(counts), 128, 96)
    w = torch.randn(e, 96, 128)
    x.requires_grad_(), w.requires_grad_()
    fp8_grouped_linear(x, w, counts).backward(grad)
    start = 0
    for index, n in enumerate(counts):
        here = slice(start, start + n)
        start += n
        if not n:
            assert (w.grad[index] == 0).all()
            continue
        layer = Fp8Linear(128, 96)
        layer.weight.data = w[index].detach()
        alone = x[here].detach().requires_grad_()
        layer(alone).backward(grad[here])
        torch.testing.assert_close(x.grad[here], alone.grad, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(w.grad[index], layer.weight.grad, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", ["float", "ue8m0"])
def test_a_released_pair_loads_and_is_itself_again_when_quantised(kind):
    code, scale = quantize_block(torch.randn(200, 300), scale=kind)
    layer = Fp8Linear(300, 200, recipe=Recipe(scale=kind))
    missing = layer.load_state_dict({"weight": code, "weight_scale_inv": scale})
    assert not missing.missing_keys and not missing.unexpected_keys
    assert layer.weight.dtype == torch.float32
    again, scales = quantize_block(layer.weight.detach(), scale=kind)
    if kind == "float":
        assert torch.equal(again.view(torch.uint8), code.view(torch.uint8))
        torch.testing.assert_close(scales, scale, rtol=1e-6, atol=0)
    else:  # a block whose largest code is 224 exactly halves its scale and doubles its codes
        value = dequantize_block(code, scale)
        assert torch.equal(dequantize_block(again, scales), value)
    layer.load_state_dict({"weight": torch.ones(200, 300)})
    assert (layer.weight == 1).all()


def test_around_shares_the_parameter():
    plain = torch.nn.Linear(8, 6)
    layer = Fp8Linear.around(plain, V3)
    assert layer.weight is plain.weight and layer.bias is plain.bias
    x = torch.randn(3, 8)
    torch.testing.assert_close(layer(x), F.linear(x, plain.weight, plain.bias), rtol=0.1, atol=0.2)


def test_nothing_in_nothing_out():
    layer = Fp8Linear(128, 64)
    x = torch.empty(0, 128, requires_grad=True)
    layer(x).sum().backward()
    assert (layer.weight.grad == 0).all() and x.grad.shape == (0, 128)


def test_trouble_reaches_the_output():
    x = torch.randn(3, 128)
    x[1, 5] = torch.inf
    y = Fp8Linear(128, 16)(x)
    assert y[1].isnan().all() and y[[0, 2]].isfinite().all()


def test_kernels_without_triton_name_the_simulation(monkeypatch):
    monkeypatch.setattr(backends, "have_kernels", lambda: False)
    with pytest.raises(UserError, match="fp8-sim"):
        backends.kernel("matmul")
