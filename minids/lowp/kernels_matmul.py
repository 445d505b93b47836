# pyright: reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
"""Triton: the block-scaled FP8 product out = a bᵀ, and the same for many experts in one launch.

The sum over k is cut into 128s, because there the scales change and there the tensor core's short
accumulator has to be emptied anyway:

    accumulator (float32, registers) += (128 products, in the tensor core) · scale of a · scale of b

Speed is a matter of keeping the tensor core fed. A tile of 128×128 results takes 2 · 128² · 128
operations per 32 KiB that are loaded: 128 operations a byte, from the L2 cache. Copies are ordered
ahead into a ring of `STAGES` buffers (TMA: one thread names a rectangle, the copy engine fetches
it). A few programs per multiprocessor walk over all tiles ("persistent").

What holds it back is that one group of warps multiplies and scales in turn. 128 of k are 512 cycles
of a Hopper tensor core; the 128² sums then pass through 128 float32 lanes, 128 cycles for each
operation on them. One multiply-add is the least, which is why the two scales meet before they
touch the sums. While they are added, the tensor core waits, unless another program on the same
multiprocessor multiplies: for two or three to fit, a tile must be 64×128, since both levels of sums
lie in registers (128×128: 179 a thread of 65,536 in all; 128×256 no longer fits and spills). Where
Triton is asked to give copying and multiplying to warps of their own (`warp_specialize`), version
3.9 refuses 128×128 and a run with an earlier one stood still; DeepGEMM does it by hand.
Axes: m, n rows of the factors, k what is summed, e experts, R rows of all experts.
(DeepSeek-V3 §3.3.2)
"""

import triton
import triton.language as tl

K: tl.constexpr = tl.constexpr(128)  # summed in the tensor core; a scale's length


@triton.jit
def place(tile, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Which tile comes when: down GROUP tiles of rows, then one to the right.

    Tiles that run at one time should need the same rows of a and b, so that L2 serves them.
    """
    width = GROUP * tiles_n
    first = tile // width * GROUP
    height = min(tiles_m - first, GROUP)
    return first + tile % width % height, tile % width // height


@triton.jit
def tile_product(
    a, b, a_row, b_row, sa_ptrs, sb_ptrs, rows_exist, cols_exist, steps, sa_k, sb_k,
    BM: tl.constexpr, BN: tl.constexpr, SCALAR: tl.constexpr,
):  # fmt: skip
    """BM rows of a against BN rows of b, over all of k → [BM BN] float32"""
    total = tl.zeros((BM, BN), tl.float32)
    for j in range(steps):
        a_scale = tl.load(sa_ptrs + j * sa_k, mask=rows_exist, other=0.0)  # [BM]
        left = a.load([a_row, j * K])  # [BM 128], zeros beyond the edge
        right = b.load([b_row, j * K])  # [BN 128]
        part = tl.dot(left, right.T)  # [BM BN] 128 products each, in the tensor core
        if SCALAR:  # all of the tile's columns lie in one block: one multiply-add for each result
            total += part * (a_scale * tl.load(sb_ptrs + j * sb_k))[:, None]
        else:
            b_scale = tl.load(sb_ptrs + j * sb_k, mask=cols_exist, other=0.0)  # [BN]
            total += part * a_scale[:, None] * b_scale[None, :]
    return total


@triton.jit
def matmul_kernel(
    a, b, sa_ptr, sb_ptr, out_ptr, m, n, k, sa_m, sa_k, sb_n, sb_k,
    BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr, SHARED: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Descriptors of codes a [m k], b [n k]; scales [m k/128], [⌈n/SHARED⌉ k/128] → out [m n]

    SHARED: neighbouring columns with one scale, 128 for blocks, 1 for tiles.
    """
    tiles_m, tiles_n = tl.cdiv(m, BM), tl.cdiv(n, BN)
    for tile in tl.range(
        tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), num_stages=STAGES
    ):
        i, j = place(tile, tiles_m, tiles_n, GROUP)
        rows = i * BM + tl.arange(0, BM)
        cols = j * BN + tl.arange(0, BN)
        SCALAR: tl.constexpr = SHARED % BN == 0
        block = j * BN // SHARED if SCALAR else cols // SHARED
        total = tile_product(
            a, b, i * BM, j * BN, sa_ptr + rows * sa_m, sb_ptr + block * sb_n, rows < m, cols < n,
            tl.cdiv(k, K), sa_k, sb_k, BM, BN, SCALAR,
        )  # fmt: skip
        exists = (rows < m)[:, None] & (cols < n)[None, :]
        out = out_ptr + rows.to(tl.int64)[:, None] * n + cols[None, :]
        tl.store(out, total.to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def grouped_kernel(
    a, b, sa_ptr, sb_ptr, out_ptr, plan_ptr, tiles_m, n, k, sa_m, sa_k, sb_e, sb_n, sb_k,
    BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Codes a [R k] sorted by expert, b [e·n k], scales of b [e n/128 k/128] → out [R n]

    plan [tiles_m 3]: expert, first row, end of the expert's rows. A tile may reach over that end:
    it then multiplies rows of the next expert too and does not store them, which costs less than
    an alignment of every expert's rows.
    """
    tiles_n = tl.cdiv(n, BN)
    for tile in tl.range(
        tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), num_stages=STAGES
    ):
        i, j = place(tile, tiles_m, tiles_n, GROUP)
        expert = tl.load(plan_ptr + i * 3)
        start = tl.load(plan_ptr + i * 3 + 1)
        end = tl.load(plan_ptr + i * 3 + 2)
        rows = start + tl.arange(0, BM)
        cols = j * BN + tl.arange(0, BN)
        total = tile_product(
            a, b, start, expert * n + j * BN,
            sa_ptr + rows * sa_m, sb_ptr + expert * sb_e + j * BN // K * sb_n, rows < end, cols < n,
            tl.cdiv(k, K), sa_k, sb_k, BM, BN, True,
        )  # fmt: skip
        exists = (rows < end)[:, None] & (cols < n)[None, :]
        out = out_ptr + rows.to(tl.int64)[:, None] * n + cols[None, :]
        tl.store(out, total.to(out_ptr.dtype.element_ty), mask=exists)
