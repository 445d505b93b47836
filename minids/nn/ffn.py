"""SwiGLU: one half of the hidden layer opens or closes the other. Axes: d hidden_size, f width."""

from torch import Tensor, nn
from torch.nn import functional as F

from minids.nn.linear import Linear


class SwiGLU(nn.Module):
    """W_down( SiLU(W_gate x) ⊙ W_up x )  (arXiv 2002.05202; every DeepSeek expert has this form).

    x [… d] → [… d]
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, hidden)
        self.up_proj = Linear(width, hidden)
        self.down_proj = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
