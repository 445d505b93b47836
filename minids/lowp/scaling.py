"""Scales: how numbers of any size are brought into the 17 binades that E4M3 can say.

A group of numbers shares one scale, largest magnitude / 448, and keeps its codes. The group is the
whole question: one outlier takes the small numbers of its own group down to zero, and of no other.
V3 groups activations by token and 128 channels (1×128 tiles), weights by 128×128 blocks: just what
a GEMM can multiply back into its partial sums. Scales are computed from the tensor itself, at each
use.

Odd cases have one answer everywhere, kernels included. A ragged last group is shorter. An all-zero
group gets the scale of the floor and zeros. One infinity or NaN makes its group's scale and all its
codes NaN: trouble is never averaged away. An empty tensor has no groups.
Axes: j groups, i numbers of a group, n and k rows and columns of a weight.  (DeepSeek-V3 §3.3.2)
"""

from typing import Literal, NamedTuple, get_args

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minids.errors import UserError
from minids.lowp.codec import E2M1, decode, decode_scale, encode, encode_scale

E4M3_MAX = 448.0
TILE = 128
MX_BLOCK = 32  # numbers that share a power of two in the microscaling formats
AMAX_FLOOR = 1e-4  # as published (TileKernels); a scale is never smaller than floor / 448
GRAD_FLOOR = 1e-30  # a gradient is a mean over all tokens of a step: most are far below 1e-4
CODE = torch.float8_e4m3fn

ScaleKind = Literal["float", "ue8m0"]


class Quantized(NamedTuple):
    """Codes, and the scale of each group of them."""

    code: Tensor  # float8_e4m3fn, as the tensor was
    scale: Tensor  # float32; value = code · scale


def quantize_tile(
    x: Tensor, tile: int = TILE, scale: ScaleKind = "float", floor: float = AMAX_FLOOR
) -> Quantized:
    """A scale for every `tile` neighbours of the last axis.  x [... k] → [... k], [... ⌈k/tile⌉]"""
    check(x, scale, axes=1)
    k = x.shape[-1]
    wide = F.pad(x.float(), (0, -k % tile))
    wide = rearrange(wide, "... (j i) -> ... j i", i=tile)
    scales = scale_of(largest(wide, -1), scale, floor)  # [... j]
    code = rearrange(to_code(wide, scales[..., None]), "... j i -> ... (j i)")
    return Quantized(code[..., :k], scales)


def quantize_block(
    w: Tensor, block: int = TILE, scale: ScaleKind = "float", floor: float = AMAX_FLOOR
) -> Quantized:
    """A scale for every square of a matrix.  w [... n k] → [... n k], [... ⌈n/block⌉ ⌈k/block⌉]"""
    check(w, scale, axes=2)
    n, k = w.shape[-2:]
    wide = F.pad(w.float(), (0, -k % block, 0, -n % block))
    wide = rearrange(wide, "... (a i) (b l) -> ... a b (i l)", i=block, l=block)
    scales = scale_of(largest(wide, -1), scale, floor)  # [... a b]
    code = to_code(wide, scales[..., None])
    code = rearrange(code, "... a b (i l) -> ... (a i) (b l)", i=block)
    return Quantized(code[..., :n, :k], scales)


def quantize_tensor(x: Tensor, scale: ScaleKind = "float", floor: float = AMAX_FLOOR) -> Quantized:
    """One scale for all: what breaks at the first outlier.  x [...] → [...], scalar"""
    check(x, scale)
    wide = x.float()
    scales = scale_of(largest(wide.flatten(), -1), scale, floor)
    return Quantized(to_code(wide, scales), scales)


def dequantize_tile(code: Tensor, scale: Tensor, tile: int = TILE) -> Tensor:
    """code [... k], scale [... ⌈k/tile⌉] → [... k] float32"""
    return code.float() * spread(scale, tile)[..., : code.shape[-1]]


def dequantize_block(code: Tensor, scale: Tensor, block: int = TILE) -> Tensor:
    """code [... n k], scale [... ⌈n/block⌉ ⌈k/block⌉] → [... n k] float32

    Also what `weight_scale_inv` of a released checkpoint is for: one multiplies by it.
    """
    n, k = code.shape[-2:]
    wide = repeat(scale, "... a b -> ... (a i) (b l)", i=block, l=block)
    return code.float() * wide[..., :n, :k]


def dequantize_tensor(code: Tensor, scale: Tensor) -> Tensor:
    """code [...], scale scalar → [...] float32"""
    return code.float() * scale


# The rule


def largest(x: Tensor, dim: int) -> Tensor:
    """Largest magnitude along an axis; 0 of nothing."""
    if x.shape[dim] == 0:
        return x.sum(dim)
    return x.abs().amax(dim)


def scale_of(amax: Tensor, kind: ScaleKind, floor: float) -> Tensor:
    """Largest magnitude → what 448 shall stand for, divided by 448.

    A float, or the next power of two: division by one only moves the exponent, so a tensor that is
    quantised twice loses nothing the second time.
    """
    amax = torch.where(amax.isfinite(), amax.clamp(min=floor), torch.nan)
    scale = quotient(amax, E4M3_MAX)
    return decode_scale(encode_scale(scale, up=True)) if kind == "ue8m0" else scale


def quotient(x: Tensor, by: float) -> Tensor:
    """x / by as IEEE 754 says, on every device.

    On a CUDA device torch multiplies by 1/by when `by` is a Python number: then half of all float
    scales are off by their last bit, and one code in a thousand with them. Not so for a tensor.
    """
    return x / x.new_full((), by)


def to_code(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale as E4M3. The clamp is ours: beyond 448 versions of torch differ."""
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(CODE)


def spread(scale: Tensor, times: int) -> Tensor:
    """Each scale beside every number it belongs to.  [... j] → [... j*times]"""
    return repeat(scale, "... j -> ... (j i)", i=times)


def check(x: Tensor, scale: str = "float", axes: int = 0) -> None:
    """Only floating-point numbers of 16 bits and more can be quantised, in groups along axes."""
    if not x.is_floating_point() or x.element_size() < 2:
        name = str(x.dtype).removeprefix("torch.")
        raise UserError("quantize", f"{name} is no wide float", "bfloat16, float16, float32")
    if x.ndim < axes:
        raise UserError("quantize", f"{x.ndim} axes", f"{axes} or more")
    if scale not in get_args(ScaleKind):
        raise UserError("quantize", f"scale {scale!r} is unknown", ", ".join(get_args(ScaleKind)))


def check_codes(code: Tensor, scale: Tensor) -> None:
    """Codes are E4M3, scales float32, both in one place."""
    for what, tensor, wanted in (("codes", code, CODE), ("scales", scale, torch.float32)):
        if tensor.dtype != wanted:
            found, name = (str(d).removeprefix("torch.") for d in (tensor.dtype, wanted))
            raise UserError("fp8", f"{what} of {found}", name)
    if code.device != scale.device:
        raise UserError("fp8", f"codes on {code.device}, scales on {scale.device}", "one device")


# FP4 in microscaling blocks


def quantize_mx(x: Tensor, block: int = MX_BLOCK) -> tuple[Tensor, Tensor]:
    """E2M1 with a power of two for every 32 neighbours: DeepSeek-V4's expert weights.

    x [... k] → codes [... k] uint8 (see `codec.pack`), UE8M0 codes [... k/32] uint8. k must divide.
    The scale is the least power of two that brings the largest number to 6 or below.
    """
    check(x)
    if x.shape[-1] % block:
        raise UserError(
            "quantize", f"{x.shape[-1]} columns do not divide into {block}s", "multiples"
        )
    wide = rearrange(x.float(), "... (j i) -> ... j i", i=block)
    amax = reduce(wide.abs(), "... j i -> ... j", "max").clamp(min=6 * 2.0**-126)
    scale = encode_scale(quotient(amax, E2M1.max), up=True)  # [... j]
    code = encode(wide / decode_scale(scale)[..., None], E2M1)
    return rearrange(code, "... j i -> ... (j i)"), scale


def dequantize_mx(code: Tensor, scale: Tensor, block: int = MX_BLOCK) -> Tensor:
    """codes [... k], UE8M0 codes [... k/block] → [... k] float32"""
    return decode(code, E2M1) * spread(decode_scale(scale), block)
