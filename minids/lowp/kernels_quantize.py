# pyright: reportMissingImports=false
"""Triton: from wide numbers to E4M3 codes and scales, and back.

A program is what one block of GPU threads does: it loads a rectangle, works on it in registers,
stores the result. The loads say which of their elements exist; those beyond the edge are zeros.
Quantising moves 3 bytes a number (2 read, 1 written) and does a dozen operations on it, so memory
decides its speed: every number is read once and stays in registers between "how large is the
largest?" and "which code?".

In a GPU these functions are compiled; with TRITON_INTERPRET=1 they run in numpy, number by number
the same, because nothing is left to chance: `/` of two float32 compiles to an approximate division
(div.full.f32), so both quotients are `tl.div_rn`, rounded as IEEE 754 says; no product is followed
by a sum that could be fused with it; the largest magnitude is found among whole numbers; and where
the chip's own cast to E4M3 rounds, |x| ≤ 448 leaves it nothing to decide but the nearest code.
Axes: m rows, k columns, j tiles of 128.  (DeepSeek-V3 §3.3.2)
"""

import triton
import triton.language as tl

TILE: tl.constexpr = tl.constexpr(128)
INFINITY: tl.constexpr = tl.constexpr(0x7F800000)  # bits of a float32: all ones in the exponent
NAN: tl.constexpr = tl.constexpr(0x7F)  # of E4M3
LARGEST: tl.constexpr = tl.constexpr(448.0)  # of E4M3


@triton.jit
def magnitude(x):
    """Bits of |x|. As whole numbers they are in the order of the sizes, with NaN above infinity.

    So the largest magnitude is found without losing a NaN on the way, as a float maximum would.
    """
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_of(largest, floor, UE8M0: tl.constexpr):
    """Bits of the largest magnitude of a group → its scale; NaN for an infinity or a NaN."""
    amax = tl.maximum(largest.to(tl.float32, bitcast=True), floor)
    scale = tl.div_rn(amax, tl.full(amax.shape, LARGEST, tl.float32))
    if UE8M0:  # the least power of two that is not smaller: carry any fraction into the exponent
        bits = scale.to(tl.int32, bitcast=True) + 0x007FFFFF
        scale = (bits & INFINITY).to(tl.float32, bitcast=True)
    return tl.where(largest < INFINITY, scale, float("nan"))


@triton.jit
def to_e4m3(x, CAST: tl.constexpr):
    """The nearest E4M3 number, ties to the even one. |x| ≤ 448 by the choice of the scale.

    2^e ≤ |x| < 2^(e+1) keeps 3 fraction bits: steps of 2^(e-3), and of 2^-9 below 2^-6. Beside
    1.5 · 2^(e+20) a float32 has just that step, so adding it rounds and subtracting it leaves the
    rounded number. The cast behind has nothing to decide (Triton's interpreter rounds it wrongly).
    With CAST the chip's own instruction rounds, in one go, to the same number.
    """
    if CAST:
        return x.to(tl.float8e4nv)
    bits = x.to(tl.int32, bitcast=True)
    power = (bits & INFINITY).to(tl.float32, bitcast=True)  # 2^e; infinity for a NaN, which stays
    large = tl.maximum(power, 0.015625) * 1572864.0
    rounded = (x + large) - large
    signed = rounded.to(tl.int32, bitcast=True) | (bits & -0x80000000)  # −0 keeps its sign
    code = signed.to(tl.float32, bitcast=True).to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    code = tl.where((bits & 0x7FFFFFFF) > INFINITY, NAN, code)  # as no cast needs to know
    return code.to(tl.uint8).to(tl.float8e4nv, bitcast=True)


@triton.jit
def quantize_rows(x, floor, UE8M0: tl.constexpr, CAST: tl.constexpr):
    """x [rows 128] float32 → its codes, a scale for each row."""
    scale = scale_of(tl.max(magnitude(x), axis=1), floor, UE8M0)
    return to_e4m3(tl.div_rn(x, tl.broadcast_to(scale[:, None], x.shape)), CAST), scale


@triton.jit
def rectangle(pid, m, k, ROWS: tl.constexpr):
    """Where program `pid` works: rows, columns, which exist. Neighbours work on neighbour tiles."""
    tiles = tl.cdiv(k, TILE)
    rows = (pid // tiles) * ROWS + tl.arange(0, ROWS)
    cols = (pid % tiles) * TILE + tl.arange(0, TILE)
    return rows.to(tl.int64), cols, (rows < m)[:, None] & (cols < k)[None, :]


@triton.jit
def quantize_tile_kernel(
    x_ptr, code_ptr, scale_ptr, m, k, x_m, x_k, floor,
    ROWS: tl.constexpr, UE8M0: tl.constexpr, CAST: tl.constexpr,
):  # fmt: skip
    """x [m k], any strides → code [m k], scale [j m]: `act_quant` of DeepSeek's repository.

    The scales of one tile lie side by side, as the product will read them: 128 rows at a time.
    """
    pid = tl.program_id(0)
    rows, cols, exists = rectangle(pid, m, k, ROWS)
    x = tl.load(x_ptr + rows[:, None] * x_m + cols[None, :] * x_k, mask=exists, other=0.0)
    code, scale = quantize_rows(x.to(tl.float32), floor, UE8M0, CAST)
    tl.store(code_ptr + rows[:, None] * k + cols[None, :], code, mask=exists)
    tl.store(scale_ptr + pid % tl.cdiv(k, TILE) * m + rows, scale, mask=rows < m)


@triton.jit
def quantize_block_kernel(
    w_ptr, code_ptr, scale_ptr, n, k, w_n, w_k, floor, UE8M0: tl.constexpr, CAST: tl.constexpr
):
    """w [n k] → code [n k], scale [⌈n/128⌉ ⌈k/128⌉]: one program, one block, one scale."""
    pid = tl.program_id(0)
    rows, cols, exists = rectangle(pid, n, k, TILE)
    w = tl.load(w_ptr + rows[:, None] * w_n + cols[None, :] * w_k, mask=exists, other=0.0)
    w = w.to(tl.float32)
    largest = tl.max(tl.max(magnitude(w), axis=1), axis=0)
    scale = scale_of(tl.full((1,), 0, tl.int32) + largest, floor, UE8M0)  # [1]
    code = to_e4m3(tl.div_rn(w, tl.broadcast_to(scale[:, None], w.shape)), CAST)
    tl.store(code_ptr + rows[:, None] * k + cols[None, :], code, mask=exists)
    tl.store(scale_ptr + pid + tl.arange(0, 1), scale)


@triton.jit
def dequantize_kernel(
    code_ptr, scale_ptr, out_ptr, m, k, s_m, s_k, ROWS: tl.constexpr, SHARED: tl.constexpr
):
    """code [m k], scale [⌈m/SHARED⌉ j] → out [m k]: SHARED is 1 (tiles) or 128 (blocks)."""
    pid = tl.program_id(0)
    rows, cols, exists = rectangle(pid, m, k, ROWS)
    tiles = tl.cdiv(k, TILE)
    here = scale_ptr + rows // SHARED * s_m + pid % tiles * s_k
    scale = tl.load(here, mask=rows < m, other=0.0)
    code = tl.load(code_ptr + rows[:, None] * k + cols[None, :], mask=exists, other=0.0)
    value = code.to(tl.float32) * scale[:, None]
    tl.store(
        out_ptr + rows[:, None] * k + cols[None, :],
        value.to(out_ptr.dtype.element_ty),
        mask=exists,
    )
