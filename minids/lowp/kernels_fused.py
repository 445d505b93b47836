# pyright: reportMissingImports=false
"""Triton: what stands before a quantised product, and its quantisation, in one pass over memory.

Alone, SwiGLU reads 2 numbers and writes 1 in bfloat16 (6 bytes), then quantising reads that and
writes a code (3 bytes). Together: 4 bytes in, 1 out, 5 instead of 9. RMSNorm: 4 + 3 become 3.
Fusing saves bytes, not operations. Inside, all is float32: the result in between is never rounded
to bfloat16, so it is a little better than the two steps. Codes are those of torch's float32 result
or, where the exponential or the order of a sum decides a tie, a neighbour: less than one in 1000.
Axes: m rows, d width of the stream, f width of the expert, j tiles of 128.
"""

import triton
import triton.language as tl

from minids.lowp.kernels_quantize import TILE, quantize_rows, rectangle


@triton.jit
def swiglu_quantize_kernel(
    x_ptr, code_ptr, scale_ptr, m, f, x_m, floor,
    ROWS: tl.constexpr, UE8M0: tl.constexpr, CAST: tl.constexpr,
):  # fmt: skip
    """gate and up side by side [m 2f] → code of SiLU(gate) ⊙ up [m f], scale [j m]"""
    pid = tl.program_id(0)
    rows, cols, exists = rectangle(pid, m, f, ROWS)
    here = x_ptr + rows[:, None] * x_m + cols[None, :]
    gate = tl.load(here, mask=exists, other=0.0).to(tl.float32)
    up = tl.load(here + f, mask=exists, other=0.0).to(tl.float32)
    hidden = tl.div_rn(gate, 1.0 + tl.exp(-gate)) * up
    hidden = tl.where(exists, hidden, 0.0)
    code, scale = quantize_rows(hidden, floor, UE8M0, CAST)
    tl.store(code_ptr + rows[:, None] * f + cols[None, :], code, mask=exists)
    tl.store(scale_ptr + pid % tl.cdiv(f, TILE) * m + rows, scale, mask=rows < m)


@triton.jit
def rms_norm_quantize_kernel(
    x_ptr, weight_ptr, code_ptr, scale_ptr, m, d, x_m, eps, floor,
    TILES: tl.constexpr, UE8M0: tl.constexpr, CAST: tl.constexpr,
):  # fmt: skip
    """x [m d], weight [d] → code of the normalised row [m d], scale [j m]: one program, one row.

    The row lies in registers as TILES × 128, so the mean square is a sum over both axes and the
    largest of each tile a maximum over the second.
    """
    row = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, TILES)
    cols = tile[:, None] * TILE + tl.arange(0, TILE)[None, :]  # [j 128]
    exists = cols < d
    x = tl.load(x_ptr + row * x_m + cols, mask=exists, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + cols, mask=exists, other=0.0).to(tl.float32)
    mean_square = tl.div_rn(tl.sum(tl.sum(x * x, axis=1), axis=0), tl.cast(d, tl.float32))
    x = x * tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps)) * weight
    code, scale = quantize_rows(x, floor, UE8M0, CAST)
    tl.store(code_ptr + row * d + cols, code, mask=exists)
    tl.store(scale_ptr + tile * m + row, scale, mask=tile < tl.cdiv(d, TILE))
