"""The programs in plain torch make the same product as the simulation, tile by tile."""

import torch

from minids.lowp import backends, scaling, tiles
from minids.lowp.backends import Operand


def test_all_tiles_together_are_the_product():
    a = Operand(*scaling.quantize_tile(torch.randn(70, 300)), "tile")
    b = Operand(*scaling.quantize_block(torch.randn(200, 300)), "block")
    found = torch.full((70, 200), torch.nan)
    high, wide = 3, 7
    seen = set()
    for tile in range(high * wide):
        i, j = tiles.place(tile, high, wide, 2)
        seen.add((i, j))
        here = slice(i * 32, i * 32 + 32), slice(j * 32, j * 32 + 32)
        found[here] = tiles.tile_product(a.code, a.scale, b.code, b.scale, i * 32, j * 32, 32)
    assert len(seen) == high * wide
    wanted = backends.simulate(a, b, torch.float32, 0, 128)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


def test_additions_round_as_the_cast_does():
    every = torch.arange(0x43E1, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    every = torch.cat([every, -every])
    assert torch.equal(tiles.round_e4m3(every), every.to(torch.float8_e4m3fn).float())
