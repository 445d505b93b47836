"""On a GPU with FP8 units: hardware and simulation have the same codes, and results this near.

The simulation runs on the CPU here, so that nothing of the GPU can be in both sides.
"""

import math

import pytest
import torch

from minids import config
from minids.lowp import backends, kernels, scaling
from minids.lowp.backends import Operand
from minids.lowp.linear import V3_HOPPER, Fp8Linear, Recipe, fp8_grouped_linear
from minids.nn.transformer import Transformer
from minids.train import events
from minids.train.loop import Hooks, train
from minids.train.precision import to_fp8

DEVICE = "cuda"
UNITS = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not UNITS, reason="needs a CUDA device with FP8 units"),
    pytest.mark.skipif(not kernels.HAVE_TRITON, reason="triton is not installed"),
]
SHAPES = [(1, 1), (33, 300), (1000, 2048), (4099, 1030)]
# A tensor core adds 128 products with about 14 bits of the largest: a share of a typical result.
NEAR = 1e-2
BACKENDS = ["kernel", "scaled_mm"]


def draw(*size, seed=0, spread=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator)
    return x * torch.exp(spread * torch.randn(size, generator=generator))


def far(found, wanted):
    """Largest difference, in units of the typical size of a result."""
    found, wanted = found.detach().float().cpu(), wanted.detach().float()
    return ((found - wanted).abs().max() / wanted.square().mean().sqrt()).item()


def bits(q):
    return q.code.cpu().view(torch.uint8), q.scale.cpu()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["float", "ue8m0"])
@pytest.mark.parametrize("name", ["quantize_tile", "quantize_block"])
def test_hardware_and_both_simulations_have_the_same_codes_and_scales(shape, kind, name):
    """Bit for bit: the kernel, the simulation on the GPU and the simulation on the CPU."""
    for dtype in (torch.float32, torch.bfloat16):
        x = draw(*shape, seed=shape[0], spread=3.0).to(dtype)
        wanted = bits(getattr(scaling, name)(x, scale=kind))
        for rule in (kernels, scaling):
            found = bits(getattr(rule, name)(x.to(DEVICE), scale=kind))
            assert all(map(torch.equal, found, wanted)), rule.__name__


@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 130, 300), (1024, 2048, 7168)])
def test_products_are_the_simulations_of_a_tensor_core(shape):
    m, n, k = shape
    a = Operand(*scaling.quantize_tile(draw(m, k, seed=1)), "tile")
    b = Operand(*scaling.quantize_block(draw(n, k, seed=2)), "block")
    there = [Operand(f.code.to(DEVICE), f.scale.to(DEVICE), f.groups) for f in (a, b)]
    exact = backends.simulate(a, b, torch.float32, 0, 128)
    short = backends.simulate(a, b, torch.float32, 14, 128)
    for rule in (backends.by_kernel, backends.by_scaled_mm):
        found = rule(*there, torch.float32)
        assert far(found, exact) < NEAR and far(found, short) < NEAR


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_and_its_gradients_are_the_simulations_end_to_end(backend):
    x, weight, grad = draw(300, 520, seed=3), draw(390, 520, seed=4) / 20, draw(300, 390, seed=5)
    found = []
    for device, recipe in (("cpu", V3_HOPPER), (DEVICE, Recipe(backend=backend))):
        layer = Fp8Linear(520, 390, recipe=recipe).to(device)
        layer.weight.data = weight.to(device)
        here = x.to(device).requires_grad_()
        y = layer(here)
        y.backward(1e-6 * grad.to(device))
        found.append((y, here.grad, layer.weight.grad))
    for wanted, got in zip(*found, strict=True):
        assert far(got, wanted) < NEAR


@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_and_their_gradients_are_the_simulations(backend):
    counts = [200, 0, 5, 95]
    x, weight, grad = draw(300, 260, seed=6), draw(4, 144, 260, seed=7), draw(300, 144, seed=8)
    found = []
    for device, recipe in (("cpu", V3_HOPPER), (DEVICE, Recipe(backend=backend))):
        leaves = [t.to(device).requires_grad_() for t in (x, weight)]
        y = fp8_grouped_linear(*leaves, counts, recipe)
        y.backward(grad.to(device))
        found.append((y, *(leaf.grad for leaf in leaves)))
    for wanted, got in zip(*found, strict=True):
        assert far(got, wanted) < NEAR


def test_a_model_on_kernels_says_what_the_simulated_one_says():
    """Whole forward pass and gradients; a token may go to another expert, so norms are compared."""
    cfg = config.load("tiny").model
    tokens = torch.randint(0, 200, (2, 64), generator=torch.Generator().manual_seed(9))
    found = []
    for device, recipe in (("cpu", V3_HOPPER), (DEVICE, Recipe(backend="kernel"))):
        model = Transformer(cfg)
        model.init_weights(torch.Generator().manual_seed(10))
        to_fp8(model.to(device), recipe)
        logits = model(tokens.to(device))
        logits.float().logsumexp(-1).mean().backward()
        norms = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
        found.append((logits.detach().float().cpu(), norms))
    (wanted, norms), (got, others) = found
    assert ((got - wanted).norm() / wanted.norm()).item() < 0.05
    for name, norm in norms.items():
        if "experts" not in name and "gate.weight" not in name and norm > 1e-6:
            assert others[name] == pytest.approx(norm, rel=0.1), name


def test_training_in_fp8_and_in_its_simulation_lose_alike(tmp_path):
    cut = [
        "train.max_minutes=0", "train.max_steps=12", "train.warmup_steps=4",
        "train.eval_every=0", "train.save_every=0", "train.sample_every_seconds=0",
        "train.eval_documents=8", "data.documents=2000", f"train.device={DEVICE}",
    ]  # fmt: skip
    losses = {}
    for precision in ("fp8", "fp8-sim"):
        seen = losses[precision] = {}

        def hear(event, seen=seen):
            if isinstance(event, events.Step):
                seen[event.step] = event.loss

        cfg = config.load("tiny", [*cut, f"train.precision={precision}"])
        train(cfg, out=tmp_path / precision, hooks=Hooks(on_event=hear))
    real, simulated = losses["fp8"], losses["fp8-sim"]
    assert len(real) == 12 and all(map(math.isfinite, real.values()))
    assert [real[i] for i in sorted(real)] == pytest.approx(
        [simulated[i] for i in sorted(simulated)], rel=0.02
    )
