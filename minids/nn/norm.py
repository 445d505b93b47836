"""RMSNorm: divide by the root mean square, multiply by a learned weight; no mean, no bias.

Costs one pass over the activations. The mean square is taken in float32 (at least): in bfloat16 a
sum of thousands of squares loses its small terms. Axes: d hidden_size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis (arXiv 1910.07467; DeepSeek-V2 §2.1).

    x [… d] → [… d] in x's dtype.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The rule as a function; torch fuses it and accumulates bfloat16 input in float32."""
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)
