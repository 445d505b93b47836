"""What happens between the products: tensor cores that add with few bits, and how V3 helps itself.

Hopper's FP8 units multiply exactly and add carelessly. 32 products are shifted to the exponent of
the largest number among them and the running sum, and only about 14 bits are kept of each. The
longer the sum, the more is cut off at its right end. V3 therefore empties the unit every 128
elements into float32 registers ("promotion"), where the scales have to be multiplied in anyway.

Two ways to the same effect: `matmul_limited` cuts every product and is the definition,
`matmul_fast` cuts the running sum alone and is quick enough to train with.
Axes: m, n rows and columns of the result, k summed over, i products added at a time.
(DeepSeek-V3 §3.3.2, figure 7b, and §3.5.2)
"""

from typing import NamedTuple

import torch
from einops import einsum, reduce
from torch import Tensor
from torch.nn import functional as F

GROUP = 32  # products that are added in one go
BITS = 14  # kept of each, the leading one included
INTERVAL = 128  # elements between promotions: four instructions of the tensor core


class Accuracy(NamedTuple):
    """Distance of a product from the exact one."""

    largest: float  # of all results, relative to their root mean square
    typical: float  # root mean square, relative to the same


def cut(x: Tensor, bits: int = BITS) -> Tensor:
    """Keep the leading `bits` of a float32's 24, drop the others.  x [...] → [...]"""
    dropped = (1 << 24 - bits) - 1
    return (x.contiguous().view(torch.int32) & ~dropped).view(torch.float32)


def matmul_limited(
    a: Tensor, b: Tensor, *, bits: int = BITS, interval: int = INTERVAL, group: int = GROUP
) -> Tensor:
    """a bᵀ as a tensor core adds it up; interval 0 never promotes.  a [m k], b [n k] → [m n]

    Makes all m·n·k products: for looking, not for training.
    """
    total = a.new_zeros(len(a), len(b), dtype=torch.float32)  # [m n] registers outside
    inside = torch.zeros_like(total)  # [m n] the unit's own sum
    for start in range(0, a.shape[1], group):
        here = slice(start, start + group)
        product = einsum(a[:, here].float(), b[:, here].float(), "m i, n i -> m n i")
        inside = add_aligned(inside, product, bits)
        if interval and (start + group) % interval == 0:
            total, inside = total + inside, torch.zeros_like(inside)
    return total + inside


def add_aligned(inside: Tensor, product: Tensor, bits: int) -> Tensor:
    """Shift all to the largest exponent, cut, add as whole numbers.  [m n], [m n i] → [m n]"""
    top = torch.maximum(inside.abs(), reduce(product.abs(), "m n i -> m n", "max"))
    _, exponent = torch.frexp(top)  # top < 2^exponent
    step = torch.ldexp(torch.ones_like(top), exponent - bits)  # value of the last bit kept
    step = torch.where(top > 0, step, 1.0)
    whole = (product / step[..., None]).trunc().sum(-1) + (inside / step).trunc()
    return cut(whole * step, bits)


def matmul_fast(
    a: Tensor, b: Tensor, *, bits: int = BITS, interval: int = INTERVAL, group: int = GROUP
) -> Tensor:
    """The running sum cut after each group, products added exactly.  a [m k], b [n k] → [m n]

    One thin matrix product per group instead of all products in memory.
    """
    a, b = a.float(), b.float()
    total = a.new_zeros(len(a), len(b))  # [m n]
    inside = torch.zeros_like(total)  # [m n]
    for start in range(0, a.shape[1], group):
        here = slice(start, start + group)
        inside = cut(torch.addmm(inside, a[:, here], b[:, here].T), bits)
        if interval and (start + group) % interval == 0:
            total, inside = total.add_(inside), torch.zeros_like(inside)
    return total.add_(inside)


def accuracy(found: Tensor, a: Tensor, b: Tensor) -> Accuracy:
    """How far `found` is from a bᵀ in float64.  found [m n], a [m k], b [n k]"""
    exact = F.linear(a.double(), b.double())  # [m n]
    size = exact.square().mean().sqrt().clamp(min=1e-300)
    error = (found.double() - exact).abs() / size  # [m n]
    return Accuracy(error.max().item(), error.square().mean().sqrt().item())
