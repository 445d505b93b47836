"""Lesson 15, real kernels: the order of tiles, rounding by addition, the block-scaled product."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.lowp.scaling import TILE, quantize_block, quantize_tile
from minids.lowp.tiles import place, round_e4m3, tile_product

# 15.1 place


def grids(generator: torch.Generator) -> Iterator[Case]:
    """Tiles of grids whose height the group divides and does not divide."""
    for tiles_m, tiles_n, group in ((4, 3, 2), (5, 3, 2), (7, 4, 3), (3, 5, 8), (7, 2, 4)):
        count = tiles_m * tiles_n
        some = torch.randperm(count, generator=generator)[:6].tolist()
        for tile in sorted({0, 1, tiles_n, count - 2, count - 1, *some}):
            yield Case((tile, tiles_m, tiles_n, group), f"tile {tile} of {tiles_m}×{tiles_n}")


def along_rows(tile, tiles_m, tiles_n, group):
    del tiles_m, group
    return tile // tiles_n, tile % tiles_n


def down_columns(tile, tiles_m, tiles_n, group):
    del tiles_n, group
    return tile % tiles_m, tile // tiles_m


def no_last_group(tile, tiles_m, tiles_n, group):
    del tiles_m
    width = group * tiles_n
    return tile // width * group + tile % width % group, tile % width // group


def turned(tile, tiles_m, tiles_n, group):
    return place(tile, tiles_m, tiles_n, group)[::-1]


PLACE = Exercise(
    "15.1",
    "place",
    "which tile comes when",
    place,
    grids,
    (
        Mistake(
            "row after row",
            "A whole row of tiles runs before the next one: it reads all of b, and then again.",
            along_rows,
        ),
        Mistake(
            "column after column",
            "All rows run before the next column: `group` is not looked at.",
            down_columns,
        ),
        Mistake(
            "last group as high as the others",
            "Where group does not divide the rows, the last group is lower: tiles outside come "
            "up, and others never.",
            no_last_group,
        ),
        Mistake(
            "row and column exchanged",
            "The order is right; the answer is row first, then column.",
            turned,
        ),
    ),
    (
        "Cut the tiles into bands of `group` rows. Which band a tile is in is one division.",
        "A band has group · tiles_n tiles, the last one fewer rows. Count within the band.",
        "first = tile // (group · tiles_n) · group; height = min(tiles_m − first, group); then "
        "remainder and quotient by height.",
    ),
)

# 15.2 round_e4m3


def numbers(generator: torch.Generator) -> Iterator[Case]:
    """Ties, subnormal numbers, the largest, trouble, and random ones."""
    yield Case((torch.tensor([17.0, 19.0, -17.0, 1.0625, 1.1875, 27.0]),), "ties")
    yield Case((torch.tensor([2**-7, 2**-9, 2**-10, 3 * 2**-10, 1e-6, -0.0123]),), "below 2^-6")
    yield Case((torch.tensor([448.0, -448.0, 447.0, 433.0, 15.9, 0.0]),), "large")
    yield Case((torch.tensor([torch.nan, 1.0]),), "NaN")
    for power in (-8.0, -3.0, 2.0, 6.0):
        x = torch.randn(40, generator=generator) * 2**power
        yield Case((x.clamp(-448, 448),), f"about 2^{power:.0f}")


def steps(x: Tensor, lowest: float = 2.0**-6, bits: int = 3) -> Tensor:
    _, exponent = torch.frexp(x)
    return torch.ldexp(torch.ones_like(x), exponent - 1).clamp(min=lowest) * 2.0**-bits


def cut_off(x):
    step = steps(x)
    return (x / step).trunc() * step


def halves_up(x):
    step = steps(x)
    return x.sign() * (x.abs() / step + 0.5).floor() * step


def no_subnormal(x):
    step = steps(x, 2.0**-126)
    return (x / step).round() * step


def flushed(x):
    return torch.where(x.abs() < 2.0**-6, 0.0 * x, round_e4m3(x))


def one_bit_less(x):
    step = steps(x, bits=2)
    return (x / step).round() * step


def nan_lost(x):
    return round_e4m3(x.nan_to_num(448.0))


ROUND = Exercise(
    "15.2",
    "round_e4m3",
    "rounding by additions",
    round_e4m3,
    numbers,
    (
        Mistake(
            "cut off",
            "Fraction bits are dropped, not rounded: every number comes nearer to zero, and a "
            "sum of many drifts.",
            cut_off,
        ),
        Mistake(
            "ties up",
            "A number halfway between two goes away from zero. It should go to the even one, or "
            "the ties push the mean.",
            halves_up,
        ),
        Mistake(
            "steps shrink for ever",
            "Below 2^-6 E4M3 has no exponent left: the steps stay at 2^-9.",
            no_subnormal,
        ),
        Mistake(
            "subnormal numbers are zero",
            "Between 2^-9 and 2^-6 there are seven more numbers; you drop them.",
            flushed,
        ),
        Mistake(
            "one bit too few",
            "Steps of 2^(e-2) keep two fraction bits. E4M3 has three.",
            one_bit_less,
        ),
        Mistake("NaN lost", "A NaN comes out as a number: trouble is hidden.", nan_lost),
    ),
    (
        "A float32 has 23 fraction bits. Beside a large number only coarse steps are left: adding "
        "it rounds, subtracting it leaves the rounded number.",
        "Find 2^e ≤ |x| < 2^(e+1) with torch.frexp; do not let 2^e fall below 2^-6.",
        "large = 1.5 · 2^20 · 2^e; the answer is (x + large) − large, within ±448.",
    ),
)

# 15.3 tile_product


def tiles(generator: torch.Generator) -> Iterator[Case]:
    """Tiles inside, at ragged edges, in every block of b."""
    for m, n, k, size in ((40, 200, 300, 32), (70, 150, 256, 64), (9, 260, 130, 128)):
        x = torch.randn(m, k, generator=generator)
        x *= torch.logspace(-1, 1, m)[:, None]
        w = torch.randn(n, k, generator=generator)
        w[:, TILE:] *= 9
        w[TILE:] *= 5
        a, b = quantize_tile(x), quantize_block(w)
        for row, col in ((0, 0), (0, (n - 1) // size * size), ((m - 1) // size * size, 0)):
            yield Case((*a, *b, row, col, size), f"{m}×{n}×{k} at {row}, {col}")


def parts(a, b, row, col, size):
    """Partial sums of a tile."""
    for j in range(-(-a.shape[1] // TILE)):
        here = slice(j * TILE, (j + 1) * TILE)
        yield j, a[row : row + size, here].float() @ b[col : col + size, here].float().T


def scaled(scale_at):
    """Partial sums times what `scale_at` finds."""

    def answer(a, a_scale, b, b_scale, row, col, size=TILE):
        found = [
            part * scale_at(a_scale, b_scale, row, col, size, j)
            for j, part in parts(a, b, row, col, size)
        ]
        return torch.stack(found).sum(0)

    return answer


def behind_the_sum(a, a_scale, b, b_scale, row, col, size=TILE):
    total = torch.stack([part for _, part in parts(a, b, row, col, size)]).sum(0)
    return total * a_scale[row : row + size, 0, None] * b_scale[col // TILE, 0]


def last_only(a, a_scale, b, b_scale, row, col, size=TILE):
    for j, part in parts(a, b, row, col, size):
        found = part * a_scale[row : row + size, j, None] * b_scale[col // TILE, j]
    return found


PRODUCT = Exercise(
    "15.3",
    "tile_product",
    "one tile of the block-scaled product",
    tile_product,
    tiles,
    (
        Mistake(
            "scaled behind the sum",
            "The scales change every 128 of k. Multiplied in once at the end they fit only the "
            "first 128.",
            behind_the_sum,
        ),
        Mistake(
            "only the last 128",
            "The running sum is overwritten, not added to.",
            last_only,
        ),
        Mistake(
            "only one scale",
            "a's scales are there, b's are not. Each partial sum needs both.",
            scaled(lambda a, _, row, __, size, j: a[row : row + size, j, None]),
        ),
        Mistake(
            "always b's first block",
            "b's scales belong to blocks of 128 rows: which one depends on col.",
            scaled(lambda a, b, row, _, size, j: a[row : row + size, j, None] * b[0, j]),
        ),
        Mistake(
            "scales of the first rows",
            "Each row of a has a scale of its own, and the tile begins at `row`.",
            scaled(
                lambda a, b, row, col, size, j: (
                    a[: len(a[row : row + size]), j, None] * b[col // TILE, j]
                )
            ),
        ),
        Mistake(
            "divided by the scales",
            "A value is code · scale: the scales multiply.",
            scaled(
                lambda a, b, row, col, size, j: (
                    1 / (a[row : row + size, j, None] * b[col // TILE, j])
                )
            ),
        ),
    ),
    (
        "Two loops in one: over k in steps of 128, and what a step adds to a float32 total.",
        "A step is a small product of codes, times a's scales as a column [rows 1], times one "
        "scale of b.",
        "part · a_scale[rows, j, None] · b_scale[col // 128, j], added for every j.",
    ),
)

EXERCISES = (PLACE, ROUND, PRODUCT)

PREDICTIONS = (
    Prediction(
        "15.a",
        "4096×4096 results, k = 7168, FP8: how many GB do programs with tiles of 128×128 load?",
        "GB",
        0.06,
        1e-3,
        1e5,
    ),
    Prediction(
        "15.b",
        "A product by tiles of 8×8, then by tiles of 128×128: how many times as fast, on this CPU?",
        "times",
        8.0,
        0.1,
        1e4,
    ),
)
