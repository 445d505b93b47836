"""What nobody should hand in: a defined result or one clear error, simulated and in kernels.

Shapes that tiles do not divide and random strides are in the tests of each mechanism as well; here
is the whole list, the same for every way to quantise and to multiply.
"""

import os

import pytest
import torch

from minids.errors import UserError
from minids.lowp import backends, kernels, scaling
from minids.lowp.backends import Operand
from minids.lowp.linear import Fp8Linear, Recipe
from minids.train import precision
from minids_cli.main import main

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported for the first time
needs_triton = pytest.mark.skipif(not kernels.HAVE_TRITON, reason="triton is not installed")
on_kernels = pytest.param(kernels, marks=needs_triton, id="kernels")
RULES = pytest.mark.parametrize("rule", [pytest.param(scaling, id="simulation"), on_kernels])
WAYS = pytest.mark.parametrize(
    "multiply",
    [
        pytest.param(lambda a, b: backends.simulate(a, b, torch.float32, 0, 128), id="simulation"),
        pytest.param(lambda a, b: backends.simulate(a, b, torch.float32, 14, 128), id="14 bits"),
        pytest.param(lambda a, b: backends.by_scaled_mm(a, b, torch.float32), id="scaled_mm"),
        pytest.param(
            lambda a, b: backends.by_kernel(a, b, torch.float32), id="kernels", marks=needs_triton
        ),
    ],
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(*size):
    return torch.randn(size).to(DEVICE)


def tiles(x):
    return Operand(*scaling.quantize_tile(x), "tile")


def blocks(w):
    return Operand(*scaling.quantize_block(w), "block")


@RULES
@pytest.mark.parametrize("shape", [(0, 0), (0, 130), (3, 0), (1, 1)])
def test_an_empty_tensor_has_no_groups(rule, shape):
    code, scale = rule.quantize_tile(draw(*shape))
    assert code.shape == shape and scale.shape == (shape[0], -(-shape[1] // 128))
    code, scale = rule.quantize_block(draw(*shape))
    assert code.shape == shape and scale.shape == tuple(-(-side // 128) for side in shape)


@RULES
@pytest.mark.parametrize("name", ["quantize_tile", "quantize_block"])
def test_strides_change_nothing(rule, name):
    whole, quantize = draw(140, 300), getattr(rule, name)
    for x in (whole.T, whole[::3], whole[:, ::2], whole[5:, 7:], whole[:1].expand(9, 300)):
        found, wanted = quantize(x), quantize(x.contiguous())
        assert torch.equal(found.code.float(), wanted.code.float())
        assert torch.equal(found.scale, wanted.scale)


@RULES
def test_zeros_stay_zeros_and_trouble_stays_in_its_group(rule):
    x = draw(4, 256)
    x[0] = 0
    x[1, 3], x[2, 200], x[3, 0] = torch.inf, -torch.inf, torch.nan
    code, scale = rule.quantize_tile(x)
    assert scale[0].tolist() == [(torch.tensor(scaling.AMAX_FLOOR) / 448).item()] * 2
    assert (code[0].float() == 0).all()
    spoilt = [[False, False], [True, False], [False, True], [True, False]]
    assert scale.isnan().tolist() == spoilt
    assert code.float().isnan().view(4, 2, 128).all(-1).tolist() == spoilt
    assert rule.quantize_block(x).scale.isnan().tolist() == [[True, True]]


@RULES
@pytest.mark.parametrize("name", ["quantize_tile", "quantize_block"])
def test_what_is_no_wide_matrix_is_named(rule, name):
    quantize = getattr(rule, name)
    for dtype in (torch.int32, torch.bool, torch.float8_e4m3fn, torch.complex64):
        word = str(dtype).removeprefix("torch.")
        with pytest.raises(UserError, match=f"{word} is no wide float; allowed: bfloat16"):
            quantize(torch.ones(3, 128, device=DEVICE).to(dtype))
    with pytest.raises(UserError, match="0 axes"):
        quantize(torch.ones((), device=DEVICE))
    with pytest.raises(UserError, match=r"scale 'e8m0' is unknown; allowed: float, ue8m0"):
        quantize(draw(3, 128), scale="e8m0")


@needs_triton
def test_a_kernel_takes_matrices_alone():
    for rule in (kernels.quantize_tile, kernels.quantize_block, kernels.swiglu_quantize):
        with pytest.raises(UserError, match="3 axes"):
            rule(draw(2, 3, 128))
    with pytest.raises(UserError, match=r"\[4\] weights for 128 columns"):
        kernels.rms_norm_quantize(draw(3, 128), draw(4))


@WAYS
def test_turned_and_sliced_factors_are_taken_as_they_are(multiply):
    w, x = blocks(draw(300, 260)), tiles(draw(140, 256))
    cut = Operand(x.code[::3, :200], x.scale[::3], "tile")
    down = w.T  # [260 300]
    down = Operand(down.code[:, :200], down.scale[:, :2], "block")
    wanted = cut.value().double() @ down.value().double().T
    found = multiply(cut, down)
    size = wanted.square().mean().sqrt()
    assert ((found - wanted).abs().max() / size).item() < 1e-2


@WAYS
@pytest.mark.parametrize(("m", "n"), [(0, 5), (5, 0), (0, 0)])
def test_no_rows_times_something_is_no_rows(multiply, m, n):
    assert multiply(tiles(draw(m, 130)), blocks(draw(n, 130))).shape == (m, n)


@WAYS
def test_a_sum_of_nothing_is_zero(multiply):
    assert torch.equal(multiply(tiles(draw(3, 0)), blocks(draw(5, 0))), torch.zeros(3, 5))


@WAYS
def test_zeros_give_zeros_and_nan_its_own_row(multiply):
    x = draw(5, 200)
    x[1], x[2, 150] = 0, torch.nan
    found = multiply(tiles(x), blocks(draw(33, 200)))
    assert (found[1] == 0).all() and found[2].isnan().all()
    assert found[[0, 3, 4]].isfinite().all()


@WAYS
def test_factors_that_do_not_fit_are_one_clear_error(multiply):
    a, b = tiles(draw(5, 200)), blocks(draw(33, 200))
    wrong = {
        "200 columns against 250": (a, blocks(draw(33, 250))),  # both 2 tiles wide
        "codes of float32; allowed: float8_e4m3fn": (a._replace(code=a.code.float()), b),
        "codes of float8_e5m2": (a, b._replace(code=b.code.float().to(torch.float8_e5m2))),
        "scales of bfloat16; allowed: float32": (a._replace(scale=a.scale.bfloat16()), b),
        "one device": (a, b._replace(scale=b.scale.to("meta"))),
        "1 and 2 axes; allowed: two matrices": (a._replace(code=a.code[0]), b),
    }
    for said, factors in wrong.items():
        with pytest.raises(UserError, match=said) as caught:
            multiply(*factors)
        assert "\n" not in str(caught.value)
    elsewhere = Operand(b.code.to("meta"), b.scale.to("meta"), "block")
    with pytest.raises(UserError, match="one device"):
        multiply(a, elsewhere)


@needs_triton
def test_kernels_called_by_hand_check_their_codes_too():
    code, scale = kernels.quantize_tile(draw(3, 200))
    with pytest.raises(UserError, match="codes of float32"):
        kernels.dequantize(code.float(), scale)
    with pytest.raises(UserError, match="scales of float64"):
        kernels.matmul(code, scale.double(), code, scale)
    with pytest.raises(UserError, match="different devices"):
        kernels.matmul(code, scale, code.to("meta"), scale)
    with pytest.raises(UserError, match="scales of blocks"):
        kernels.matmul(*kernels.quantize_block(draw(300, 200)), code, scale)


@pytest.mark.parametrize(
    "backend", ["sim", "scaled_mm", pytest.param("kernel", marks=needs_triton)]
)
def test_a_layer_takes_any_shape_and_strides(backend):
    layer = Fp8Linear(200, 70, recipe=Recipe(backend=backend)).to(DEVICE)
    x = draw(3, 200, 5).transpose(1, 2)  # [3 5 200], not contiguous
    whole = layer(x)
    assert whole.shape == (3, 5, 70)
    torch.testing.assert_close(whole[1], layer(x[1].contiguous()), rtol=1e-2, atol=1e-2)
    none = layer(draw(0, 200).requires_grad_())
    assert none.shape == (0, 70)
    none.sum().backward()
    assert (layer.weight.grad == 0).all()
    with pytest.raises(UserError, match="250 columns against 200"):
        layer(draw(2, 250))


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6)])
def test_a_gpu_without_fp8_units_is_offered_the_simulation_by_name(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "an older GPU")
    for refuse in (
        lambda: kernels.check_units(torch.device("cuda")),
        lambda: precision.check_fp8("cuda"),
    ):
        with pytest.raises(UserError, match=r"an older GPU.*fp8-sim"):
            refuse()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
    kernels.check_units(torch.device("cuda"))
    precision.check_fp8("cuda")


def test_the_command_refuses_fp8_on_a_cpu_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["--set", "train.precision=fp8", "--set", "train.device=cpu"]
    assert main(["train", "--config", "tiny", *asked]) == 2
    said = capsys.readouterr().err
    assert "fp8-sim" in said and "Traceback" not in said and len(said.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
