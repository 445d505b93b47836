"""Multi-token prediction: small modules that guess the tokens after the next one.

Module u joins the state of depth u−1 at position i with the embedding of token i+u and predicts
token i+u+1; embedding and output head are shared with the main model. It densifies the training
signal, and is a ready-made draft model for decoding.
Axes: b batch, s positions, d hidden_size, u depth.  (DeepSeek-V3 §2.2)
"""

import torch
from torch import Tensor, nn

from minids.config import ModelConfig
from minids.nn.block import Block
from minids.nn.cache import LayerCache
from minids.nn.linear import Linear
from minids.nn.loss import IGNORE
from minids.nn.moe import Routing
from minids.nn.norm import RMSNorm
from minids.nn.rope import Rope


class SharedHead(nn.Module):
    """The module's own norm in front of the output head it shares."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)


class MTPModule(Block):
    """One more token ahead: M [RMSNorm(embedding) ; RMSNorm(state)], then a whole block.

    The report writes the state first; the released `eh_proj` expects the embedding first, and so do
    we. States come in and go out behind a final norm, as transformers and vLLM pass them.
    """

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__(cfg, layer)
        d = cfg.hidden_size
        self.enorm = RMSNorm(d, cfg.rms_norm_eps)
        self.hnorm = RMSNorm(d, cfg.rms_norm_eps)
        self.eh_proj = Linear(2 * d, d)
        self.shared_head = SharedHead(cfg)

    def look_further(
        self,
        state: Tensor,
        embedded: Tensor,
        rope: Rope,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """state [b s d] of depth u−1, embedded [b s d] of what it predicted → [b s d], Routing"""
        joined = torch.cat((self.enorm(embedded), self.hnorm(state)), dim=-1)  # [b s 2*d]
        out, routing = self(self.eh_proj(joined), rope, mask, cache)
        return self.shared_head.norm(out), routing


def shift_labels(labels: Tensor) -> Tensor:
    """Targets one token further, never across a document.  labels [b s] → [b s-1]

    Position i takes label i+1, and only if label i was real too: IGNORE marks padding and the end
    of a document, so a chain of real labels stays inside one.
    """
    return labels[:, 1:].masked_fill(labels[:, :-1] == IGNORE, IGNORE)
