"""A matrix product whose precision is that of its input: float32 weights, cast as they are used."""

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """y = x Wᵀ (+ bias), computed in x's dtype; the float32 weight receives a float32 gradient.

    x [… in] → [… out]. A whole model is filled by `Transformer.init_weights`.
    """

    def __init__(self, width_in: int, width_out: int, *, bias: bool = False) -> None:
        super().__init__(width_in, width_out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)
