"""One transformer block: look around (attention), then think (feed-forward or experts).

Both halves add to the stream, each behind a norm. Axes: b batch, s positions, d hidden_size.
"""

from torch import Tensor, nn

from minids.config import ModelConfig
from minids.nn.attention import Attention
from minids.nn.cache import LayerCache
from minids.nn.ffn import SwiGLU
from minids.nn.mla import MLA
from minids.nn.moe import MoE, Routing
from minids.nn.norm import RMSNorm
from minids.nn.rope import Rope


class Block(nn.Module):
    """x [b s d] → [b s d] and the Routing of its experts, None in a dense block."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        d = cfg.hidden_size
        self.input_layernorm = RMSNorm(d, cfg.rms_norm_eps)
        self.self_attn = MLA(cfg) if cfg.attention == "mla" else Attention(cfg)
        self.post_attention_layernorm = RMSNorm(d, cfg.rms_norm_eps)
        self.mlp = MoE(cfg) if cfg.is_moe_layer(layer) else SwiGLU(d, cfg.intermediate_size)

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
        replay: Tensor | None = None,
    ) -> tuple[Tensor, Routing | None]:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache)  # [b s d]
        normed, routing = self.post_attention_layernorm(x), None  # [b s d]
        if isinstance(self.mlp, MoE):
            thought, routing = self.mlp(normed) if replay is None else self.mlp(normed, replay)
        else:
            thought = self.mlp(normed)
        return x + thought, routing
