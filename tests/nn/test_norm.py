import pytest
import torch

from minids.nn.norm import RMSNorm, rms_norm


def norm_of(width):
    layer = RMSNorm(width, 1e-6)
    layer.weight.data = 1 + 0.3 * torch.randn(width)
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_module_is_the_rule(dtype):
    layer, x = norm_of(37), torch.randn(5, 37).to(dtype)
    step = {torch.bfloat16: 0.05, torch.float32: 1e-6, torch.float64: 1e-14}[dtype]  # one rounding
    torch.testing.assert_close(layer(x), rms_norm(x, layer.weight, 1e-6), rtol=step, atol=step)
    assert layer(x).dtype == dtype


def test_the_mean_square_of_bfloat16_is_taken_in_float32():
    x = torch.full((1, 4096), 1.0, dtype=torch.bfloat16)  # a bfloat16 sum would stop at 256
    torch.testing.assert_close(RMSNorm(4096, 1e-6)(x), x, rtol=0, atol=0)


def test_length_does_not_matter_and_zero_stays_zero():
    layer, x = norm_of(37).double(), torch.randn(5, 37, dtype=torch.float64)
    torch.testing.assert_close(layer(1e3 * x), layer(x), rtol=1e-5, atol=1e-5)  # eps is left
    assert layer(torch.zeros(2, 37, dtype=torch.float64)).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_is_that_of_the_rule(dtype):
    layer = norm_of(37).to(torch.promote_types(dtype, torch.float32))
    x, grad = torch.randn(7, 11, 37).to(dtype).requires_grad_(), torch.randn(7, 11, 37).to(dtype)
    layer(x).backward(grad)
    found = x.grad.double(), layer.weight.grad.double()
    x.grad = layer.weight.grad = None
    rms_norm(x.double(), layer.weight.double(), 1e-6).backward(grad.double())
    step = {torch.bfloat16: 0.02, torch.float32: 1e-5, torch.float64: 1e-13}[dtype]  # of x.grad
    torch.testing.assert_close(found[0], x.grad.double(), rtol=step, atol=step)
    step = min(step, 1e-5)  # the weight's is summed in float32 whatever x is
    torch.testing.assert_close(found[1], layer.weight.grad.double(), rtol=step, atol=step)
