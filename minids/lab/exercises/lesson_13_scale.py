"""Lesson 13: one scale for every 128 neighbours.

Axes: T tokens, k channels, j tiles, i numbers of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lowp.scaling import AMAX_FLOOR, CODE, E4M3_MAX, quantize_tile, spread

Pair = tuple[Tensor, Tensor]


def as_numbers(answer, case: Case) -> Pair:
    """Codes as numbers, so that a comparison shows them."""
    code, scale = answer(*case.args, **case.options)
    return (code.float() if code.dtype == CODE else code), scale


def activations(generator: torch.Generator) -> Iterator[Case]:
    """Tokens of many sizes, an outlier, a ragged end, a tile of zeros, more axes."""
    x = torch.randn(3, 8, generator=generator) * torch.tensor([[1.0], [30.0], [0.02]])  # [T k]
    yield Case((x, 4), "three tokens, tiles of 4")
    x = torch.randn(4, 10, generator=generator)  # [T k]
    x[1, 2], x[2, 9] = -300.0, 40.0
    yield Case((x, 4), "two outliers, a ragged end")
    x = torch.randn(3, 8, generator=generator)
    x[0, :4], x[1, 4:] = 0.0, 1e-6 * x[1, 4:]
    yield Case((x, 4), "a tile of zeros, a tile of dust")
    x = torch.randn(2, 3, 300, generator=generator).bfloat16()  # [b s k]
    yield Case((x * torch.randn(3, 1, generator=generator).exp().bfloat16(), 128), "b=2 s=3 k=300")
    yield Case((-torch.rand(6, 6, generator=generator) - 0.1, 3), "only negative numbers")
    x = 1e-6 * torch.randn(3, 9, generator=generator)  # [T k] gradients
    x[2] = 0.0
    yield Case((x, 3), "a smaller floor", {"floor": 1e-12})


def tiled(
    x: Tensor, tile: int, *, floor: float = AMAX_FLOOR, of=None, over: float = E4M3_MAX
) -> Pair:
    """quantize_tile with one thing done otherwise; `of` makes a tile's size from its numbers."""
    k = x.shape[-1]
    wide = torch.nn.functional.pad(x.float(), (0, -k % tile))
    wide = rearrange(wide, "... (j i) -> ... j i", i=tile)
    amax = (of or (lambda t: t.abs().amax(-1)))(wide).clamp(min=floor)  # [... j]
    scale = amax / over
    value = (wide / scale[..., None]).clamp(-E4M3_MAX, E4M3_MAX)
    return rearrange(value.to(CODE), "... j i -> ... (j i)")[..., :k], scale


def inverted(x: Tensor, tile: int, floor: float = AMAX_FLOOR) -> Pair:
    code, scale = quantize_tile(x, tile, floor=floor)
    return code, 1 / scale


def multiplied(x: Tensor, tile: int, floor: float = AMAX_FLOOR) -> Pair:
    _, scale = quantize_tile(x, tile, floor=floor)
    wide = x.float() * spread(scale, tile)[..., : x.shape[-1]]
    return wide.clamp(-E4M3_MAX, E4M3_MAX).to(CODE), scale


def across(x: Tensor, tile: int, floor: float = AMAX_FLOOR) -> Pair:
    turned = quantize_tile(x.transpose(-1, -2), tile, floor=floor)
    return turned.code.transpose(-1, -2), turned.scale.transpose(-1, -2)


def per_tensor(x: Tensor, tile: int, floor: float = AMAX_FLOOR) -> Pair:
    scale = x.float().abs().max().clamp(min=floor) / E4M3_MAX
    tiles = -(-x.shape[-1] // tile)
    code = (x.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(CODE)
    return code, scale.expand(*x.shape[:-1], tiles).clone()


def interleaved(x: Tensor, tile: int, floor: float = AMAX_FLOOR) -> Pair:
    k = x.shape[-1]
    wide = torch.nn.functional.pad(x.float(), (0, -k % tile))
    order = rearrange(torch.arange(wide.shape[-1]), "(i j) -> (j i)", i=tile)
    code, scale = quantize_tile(wide[..., order], tile, floor=floor)
    return code.float()[..., order.argsort()].to(CODE)[..., :k], scale


TILES = Exercise(
    "13.4",
    "quantize_tile",
    "a scale for each tile",
    quantize_tile,
    activations,
    (
        Mistake(
            "scale upside down",
            "The codes are right, but the scale is handed back as 448 / amax. Whoever multiplies "
            "by it gets numbers that are wrong by many powers of ten.",
            inverted,
        ),
        Mistake(
            "multiplied by the scale",
            "Numbers are divided by the scale on the way in and multiplied on the way out; here "
            "they are multiplied both times.",
            multiplied,
        ),
        Mistake(
            "tile along the wrong axis",
            "The numbers of a tile belong to one token; here they come from different tokens, and "
            "a loud token spoils the quiet ones.",
            across,
        ),
        Mistake(
            "one scale for everything",
            "All tiles got the scale of the whole tensor, so a single outlier reaches everywhere.",
            per_tensor,
        ),
        Mistake(
            "amax without floor",
            "A tile of zeros divides zero by zero, and one NaN is enough for the whole model.",
            lambda x, tile, **_: tiled(x, tile, floor=0.0),
        ),
        Mistake(
            "the largest, not the largest magnitude",
            "A large negative number does not count, so it is cut off at −448.",
            lambda x, tile, floor=AMAX_FLOOR: tiled(x, tile, floor=floor, of=lambda t: t.amax(-1)),
        ),
        Mistake(
            "448 taken for 240",
            "The largest number of a tile should land on 448, the end of E4M3. A smaller end "
            "wastes the top of the range.",
            lambda x, tile, floor=AMAX_FLOOR: tiled(x, tile, floor=floor, over=240.0),
        ),
        Mistake(
            "every j-th number in a tile",
            "A tile holds neighbours: 128 channels side by side. Here it takes one number of "
            "every stretch.",
            interleaved,
        ),
    ),
    (
        "Cut the last axis into tiles first; then everything happens inside the new last axis.",
        "The largest magnitude of a tile becomes 448. What if the tile holds nothing but zeros, "
        "and what if its end is missing?",
        "Pad with zeros to whole tiles, unflatten, abs and amax with the floor, divide by 448; "
        "divide the tile by its scale, cast, flatten, cut the padding off.",
    ),
    call=as_numbers,
)
