"""Three ways to multiply quantised tensors: simulated, our kernels, torch's scaled matmul.

All three take the same codes and scales and add in float32, 128 elements at a time; they differ in
the order within those. The simulation runs anywhere and is the definition.
Axes: m, n rows of the factors, k what is summed.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minids.errors import UserError
from minids.lowp.accumulate import matmul_fast
from minids.lowp.scaling import (
    TILE,
    check_codes,
    dequantize_block,
    dequantize_tensor,
    dequantize_tile,
    spread,
)

Groups = Literal["tile", "block", "tensor"]


class Operand(NamedTuple):
    """A quantised matrix, as a factor that is summed along its last axis."""

    code: Tensor  # [m k] float8_e4m3fn
    scale: Tensor  # [m ⌈k/128⌉] for tiles, [⌈m/128⌉ ⌈k/128⌉] for blocks, scalar for a tensor
    groups: Groups

    @property
    def T(self) -> "Operand":
        """Summed along the other axis: blocks turn, tiles cannot."""
        assert self.groups != "tile", "a tile's scale would change within the sum"
        scale = self.scale if self.groups == "tensor" else rearrange(self.scale, "n k -> k n")
        return Operand(rearrange(self.code, "n k -> k n"), scale, self.groups)

    def value(self) -> Tensor:
        """The numbers meant.  → [m k] float32"""
        if self.groups == "tile":
            return dequantize_tile(self.code, self.scale)
        if self.groups == "block":
            return dequantize_block(self.code, self.scale)
        return dequantize_tensor(self.code, self.scale)

    def split(self, counts: list[int]) -> "Iterator[Operand]":
        """Consecutive rows.  [R k] → e × [rows k]"""
        if self.groups == "tensor":
            return (Operand(c, self.scale, "tensor") for c in self.code.split(counts))
        pairs = zip(self.code.split(counts), self.scale.split(counts), strict=True)
        return (Operand(*pair, self.groups) for pair in pairs)

    def scale_of_rows(self) -> Tensor:
        """A scale for each row and 128 of k.  → [m ⌈k/128⌉]"""
        m, k = self.code.shape
        if self.groups == "tile":
            return self.scale
        if self.groups == "block":
            return spread(rearrange(self.scale, "n j -> j n"), TILE)[:, :m].T
        return self.scale.expand(m, -(-k // TILE))


def check_factors(a: Operand, b: Operand) -> None:
    """What every way to multiply asks for. a [m k], b [n k]"""
    for factor in (a, b):
        check_codes(factor.code, factor.scale)
    if a.code.ndim != 2 or b.code.ndim != 2:
        raise UserError("fp8", f"{a.code.ndim} and {b.code.ndim} axes", "two matrices")
    if a.code.shape[1] != b.code.shape[1]:
        what = f"{a.code.shape[1]} columns against {b.code.shape[1]}"
        raise UserError("fp8", what, "equal lengths of the sum")
    if a.code.device != b.code.device:
        raise UserError("fp8", f"factors on {a.code.device} and {b.code.device}", "one device")


def simulate(a: Operand, b: Operand, dtype: torch.dtype, bits: int, interval: int) -> Tensor:
    """a bᵀ in plain torch; `bits` 0 adds in float32, else as a tensor core does.  → [m n]"""
    check_factors(a, b)
    left, right = a.value(), b.value()
    if bits:
        return matmul_fast(left, right, bits=bits, interval=interval).to(dtype)
    return F.linear(left, right).to(dtype)


def by_scaled_mm(a: Operand, b: Operand, dtype: torch.dtype) -> Tensor:
    """a bᵀ by torch's scaled matmul, 128 of k at a time, scales and sums in float32.  → [m n]

    The fallback and the second opinion: correct everywhere, slow, because every partial sum goes
    through memory. Shapes are padded to what cuBLAS takes.
    """
    check_factors(a, b)
    m, n, k = len(a.code), len(b.code), a.code.shape[1]
    out = torch.zeros(m, n, device=a.code.device)  # [m n]
    if not out.numel():
        return out.to(dtype)
    left, right = padded(a.code), padded(b.code)
    rows, columns = a.scale_of_rows(), b.scale_of_rows()  # [m j], [n j]
    one = torch.ones((), device=out.device)
    for j, start in enumerate(range(0, k, TILE)):
        here = slice(start, start + TILE)
        part = torch._scaled_mm(
            left[:, here].contiguous(),
            right[:, here].contiguous().T,
            scale_a=one,
            scale_b=one,
            out_dtype=torch.float32,
        )
        out += part[:m, :n] * rows[:, j, None] * columns[None, :, j]
    return out.to(dtype)


def padded(code: Tensor) -> Tensor:
    """Zeros up to whole tiles in both axes; bytes, since FP8 cannot be padded.  [m k]"""
    m, k = code.shape
    whole = F.pad(code.view(torch.uint8), (0, -k % TILE, 0, -m % 16))
    return whole.view(code.dtype)


def have_kernels() -> bool:
    """Whether our kernels and Triton are here."""
    there = importlib.util.find_spec("minids.lowp.kernels") is not None
    return there and importlib.import_module("minids.lowp.kernels").HAVE_TRITON


def kernel(name: str) -> Callable:
    """A Triton kernel's launcher. Raises UserError where there is no Triton."""
    if not have_kernels():
        raise UserError("fp8", "the Triton kernels are not here", "precision=fp8-sim")
    return getattr(importlib.import_module("minids.lowp.kernels"), name)


def by_kernel(a: Operand, b: Operand, dtype: torch.dtype) -> Tensor:
    """a bᵀ by our Triton GEMM; per-tensor scales go to torch's.  → [m n]"""
    check_factors(a, b)
    if "tensor" in (a.groups, b.groups):
        return by_scaled_mm(a, b, dtype)
    return kernel("matmul")(a.code, a.scale, b.code, b.scale, dtype)


def grouped_by_kernel(
    left: Operand, right: list[Operand], counts: list[int], dtype: torch.dtype
) -> Tensor:
    """All experts in one launch.  left [R k], right e × [n k] → [R n]"""
    code = torch.stack([w.code.view(torch.uint8) for w in right]).view(left.code.dtype)
    scale = torch.stack([w.scale for w in right])  # [e ⌈n/128⌉ ⌈k/128⌉]
    return kernel("matmul_grouped")(left.code, left.scale, code, scale, counts, dtype)
