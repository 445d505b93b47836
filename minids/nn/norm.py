"""RMSNorm: divide by the root mean square, multiply by a learned weight; no mean, no bias.

Costs one pass over the activations. The mean square is taken in float32 (at least): in bfloat16 a
sum of thousands of squares loses its small terms. Axes: d hidden_size or any other last axis.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Brings each token's vector to one length, channel weights after it. (arXiv 1910.07467)

    x [… d] → [… d] in x's dtype.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and torch.is_grad_enabled():
            return WithGradient.apply(x, self.weight, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The rule itself, step by step; torch's `rms_norm` above is the same in one kernel."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_square = wide.square().mean(-1, keepdim=True)  # [… 1]
    return (wide * torch.rsqrt(mean_square + eps)).to(x.dtype) * weight.to(x.dtype)


class WithGradient(torch.autograd.Function):
    """The same with a gradient in few kernels: on a CPU torch takes a dozen, twice as long.

    LayerNorm's gradient has one term more, because it subtracts the mean as well. So its kernel is
    told that the mean is 0, and that term is given back. All of it in float32.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        dtype = torch.promote_types(grad.dtype, torch.float32)
        x, weight = ctx.saved_tensors  # [… width], [width]
        narrow = x.dtype
        grad, x, weight = grad.to(dtype), x.to(dtype), weight.to(dtype)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # [… 1]
        scale = torch.rsqrt(length.square() / len(weight) + ctx.eps)  # [… 1]
        mean = (grad @ weight / len(weight))[..., None]  # [… 1] the term
        grad_x, grad_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, torch.zeros_like(scale), scale, weight, None, (True, True, False)
        )
        return grad_x.add_(mean * scale).to(narrow), grad_weight, None
