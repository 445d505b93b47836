"""RMSNorm: divide by the root mean square, multiply by a learned weight; no mean, no bias.

Costs one pass over the activations. The mean square is taken in float32 (at least): in bfloat16 a
sum of thousands of squares loses its small terms. Axes: d hidden_size or any other last axis.
"""

import torch
from torch import Tensor, nn
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
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The rule itself, step by step; torch's `rms_norm` above is the same in one kernel."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_square = wide.square().mean(-1, keepdim=True)  # [… 1]
    return (wide * torch.rsqrt(mean_square + eps)).to(x.dtype) * weight.to(x.dtype)
