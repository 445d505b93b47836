"""What one program of a kernel does, in plain torch: to read before `kernels_*.py`.

A kernel is a loop over programs that do not know of each other; a GPU runs as many at a time as it
has room for. Each makes one tile of the result from a strip of rows of a and one of b.
Axes: m, n rows of the factors, k what is summed.  (DeepSeek-V3 §3.3.2)
"""

import torch
from torch import Tensor

from minids.lowp.scaling import E4M3_MAX, TILE


def place(tile: int, tiles_m: int, tiles_n: int, group: int) -> tuple[int, int]:
    """Which tile comes when: down `group` tiles of rows, then one to the right.  → row, column

    Tiles that run at one time then share rows of a and of b, so that the L2 cache serves them.
    """
    width = group * tiles_n
    first = tile // width * group
    height = min(tiles_m - first, group)
    return first + tile % width % height, tile % width // height


def round_e4m3(x: Tensor) -> Tensor:
    """The nearest number that E4M3 has, by additions alone; |x| up to 448.  x [...] → [...]

    Beside 1.5 · 2^(e+20) a float32 has steps of 2^(e-3), E4M3's steps from 2^e on. Below 2^-6 they
    stay 2^-9.
    """
    _, exponent = torch.frexp(x)  # |x| < 2^exponent
    power = torch.ldexp(torch.ones_like(x), exponent - 1).clamp(min=2.0**-6)
    large = 1.5 * 2.0**20 * power
    return ((x + large) - large).clamp(-E4M3_MAX, E4M3_MAX)


def tile_product(
    a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, row: int, col: int, size: int = TILE
) -> Tensor:
    """One tile of a bᵀ, promoted and scaled every 128 of k.  → [size size] or less at the edge

    a [m k] with a scale per row and 128, b [n k] with one per block of 128×128. The tile begins at
    result `row`, `col`; size divides 128 and col.
    """
    rows, cols = slice(row, row + size), slice(col, col + size)
    total = torch.zeros(len(a[rows]), len(b[cols]))  # float32, in registers
    for j in range(a_scale.shape[1]):
        here = slice(j * TILE, (j + 1) * TILE)
        part = a[rows, here].float() @ b[cols, here].float().T  # the tensor core's
        total += part * a_scale[rows, j, None] * b_scale[col // TILE, j]
    return total
