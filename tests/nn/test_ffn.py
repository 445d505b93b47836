import math

import torch

from minids.nn.ffn import SwiGLU


def test_swiglu_is_its_formula():
    layer, x = SwiGLU(3, 2).double(), torch.randn(3, dtype=torch.float64)
    gate, up, down = (w.tolist() for w in layer.parameters())

    def dot(row):
        return sum(a * b for a, b in zip(row, x.tolist(), strict=True))

    hidden = [dot(g) / (1 + math.exp(-dot(g))) * dot(u) for g, u in zip(gate, up, strict=True)]
    want = [sum(a * b for a, b in zip(row, hidden, strict=True)) for row in down]
    torch.testing.assert_close(layer(x), torch.tensor(want).double(), rtol=0, atol=1e-7)
