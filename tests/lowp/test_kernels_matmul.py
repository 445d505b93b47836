"""Products of FP8 codes by kernels against the simulation, and the layers that use them."""

import os

import pytest
import torch

from minids.errors import UserError
from minids.lowp import backends, kernels, scaling
from minids.lowp.backends import Operand
from minids.lowp.linear import Fp8Linear, Recipe, fp8_grouped_linear

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported for the first time
needs_triton = pytest.mark.skipif(not kernels.HAVE_TRITON, reason="triton is not installed")
gpu = [pytest.mark.gpu] if CUDA else []
pytestmark = gpu
CUTS = {"best": kernels.BEST, "few": kernels.FEW} | kernels.UNMEASURED
CUTS["narrow"] = kernels.Tiles(n=64, group=2, programs=0)
SHAPES = [(1, 1, 1), (5, 40, 130), (70, 130, 300), (200, 129, 256)]
if CUDA:
    SHAPES += [(4096, 2048, 7168), (4096, 7168, 2048), (300, 4096, 1000)]
# Partial sums of 128 products: float32 on a CPU, in another order; in the tensor core about 14 bits
# of the largest product are kept, which is at most this share of a typical result.
NEAR = 1e-2 if CUDA else 1e-5


@pytest.fixture
def draw():
    """Fresh numbers in each run; the seed is printed with a failure."""
    seed = torch.seed() % 2**31
    print("seed", seed)  # noqa: T201
    generator = torch.Generator().manual_seed(seed)
    return lambda *size: torch.randn(size, generator=generator).to(DEVICE)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """New memory is full of NaN, so what a kernel forgets to write is found."""
    empty = torch.empty

    def full_of_nan(*args, **kwargs):
        out = empty(*args, **kwargs)
        return out.view(torch.uint8).fill_(0xFF).view(out.dtype) if out.numel() else out

    monkeypatch.setattr(kernels.torch, "empty", full_of_nan)


def far(found, wanted):
    """Largest difference, in units of the typical size of a result."""
    size = wanted.float().square().mean().sqrt()
    return ((found.float() - wanted.float()).abs().max() / size).item()


@needs_triton
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_product_is_the_simulations(draw, shape, cut):
    m, n, k = shape
    if m * n * k > 1e9 and cut is not kernels.BEST:
        pytest.skip("once is enough at this size")
    a = Operand(*scaling.quantize_tile(draw(m, k)), "tile")
    w = draw(n, k) * torch.logspace(-2, 2, n, device=DEVICE)[:, None]
    for b in (
        Operand(*scaling.quantize_block(w), "block"),
        Operand(*scaling.quantize_tile(w), "tile"),
    ):
        found = kernels.matmul(*a[:2], *b[:2], torch.float32, cut)
        columns = w.norm(dim=1) / w.norm(dim=1).mean()
        wanted = backends.simulate(a, b, torch.float32, 0, 128)
        assert far(found / columns, wanted / columns) < NEAR


@needs_triton
def test_turned_operands_are_taken_as_they_are(draw):
    w = Operand(*scaling.quantize_block(draw(130, 260)), "block").T
    a = Operand(*scaling.quantize_tile(draw(9, 130)), "tile")
    found = backends.by_kernel(a, w, torch.float32)
    assert far(found, backends.simulate(a, w, torch.float32, 0, 128)) < NEAR


@needs_triton
@pytest.mark.parametrize("counts", [[7], [40, 0, 130, 3], [0, 0], [1] * 5, [64, 64]])
def test_experts_in_one_launch_are_products_side_by_side(draw, counts):
    n, k = 144, 260
    left = Operand(*scaling.quantize_tile(draw(sum(counts), k)), "tile")
    right = [Operand(*scaling.quantize_block(draw(n, k)), "block") for _ in counts]
    found = backends.grouped_by_kernel(left, right, counts, torch.float32)
    parts = [
        backends.simulate(rows, w, torch.float32, 0, 128)
        for rows, w in zip(left.split(counts), right, strict=True)
    ]
    wanted = torch.cat(parts)
    assert found.shape == wanted.shape
    if wanted.numel():
        assert far(found, wanted) < NEAR
    turned = [w.T for w in right]
    back = Operand(*scaling.quantize_tile(draw(sum(counts), n)), "tile")
    found = backends.grouped_by_kernel(back, turned, counts, torch.float32)
    if found.numel():
        parts = [
            backends.simulate(rows, w, torch.float32, 0, 128)
            for rows, w in zip(back.split(counts), turned, strict=True)
        ]
        assert far(found, torch.cat(parts)) < NEAR


def test_a_tile_of_rows_never_lies_in_two_experts():
    plan = kernels.plan_of([3, 0, 130], 64)
    assert plan == [(0, 0, 3), (2, 3, 133), (2, 67, 133), (2, 131, 133)]


@needs_triton
def test_nan_reaches_exactly_its_row(draw):
    x = draw(6, 200)
    x[2, 150] = torch.nan
    a, b = kernels.quantize_tile(x), kernels.quantize_block(draw(33, 200))
    found = kernels.matmul(*a, *b, torch.float32)
    assert found[2].isnan().all() and found[[0, 1, 3, 4, 5]].isfinite().all()


@needs_triton
def test_layer_on_kernels_has_the_simulations_results_and_gradients(draw):
    x, w, grad = draw(40, 160), draw(130, 160), 1e-6 * draw(40, 130)
    found = []
    for backend in ("sim", "kernel"):
        layer = Fp8Linear(160, 130, recipe=Recipe(backend=backend)).to(DEVICE)
        layer.weight.data = w
        here = x.clone().requires_grad_()
        y = layer(here)
        y.backward(grad)
        found.append((y.detach(), here.grad, layer.weight.grad))
    for wanted, got in zip(*found, strict=True):
        assert far(got, wanted) < NEAR


@needs_triton
def test_experts_on_kernels_have_the_simulations_results_and_gradients(draw):
    counts = [20, 0, 5]
    x, w, grad = draw(25, 160), draw(3, 48, 160), draw(25, 48)
    found = []
    for backend in ("sim", "kernel"):
        leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
        y = fp8_grouped_linear(*leaves, counts, Recipe(backend=backend))
        y.backward(grad)
        found.append((y.detach(), *(leaf.grad for leaf in leaves)))
    for wanted, got in zip(*found, strict=True):
        assert far(got, wanted) < NEAR


@needs_triton
def test_nothing_times_something(draw):
    a, b = kernels.quantize_tile(draw(3, 200)[:0]), kernels.quantize_block(draw(33, 200))
    assert kernels.matmul(*a, *b).shape == (0, 33)
    code, scale = kernels.quantize_tile(draw(3, 200))
    with pytest.raises(UserError, match="200 columns against 100"):
        kernels.matmul(code, scale, *kernels.quantize_block(draw(33, 100)))
    with pytest.raises(UserError, match="counts"):
        kernels.matmul_grouped(code, scale, code[None], scale[None], [2])


def test_without_triton_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(kernels, "HAVE_TRITON", False)
    with pytest.raises(UserError, match=r"Triton is not installed.*fp8-sim"):
        kernels.quantize_tile(torch.ones(1, 128))


@needs_triton
def test_a_cpu_without_the_interpreter_is_refused(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UserError, match=r"do not run on a cpu.*fp8-sim"):
        kernels.quantize_tile(torch.ones(1, 128))
