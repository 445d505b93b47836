"""RoPE's two layouts, exchanged by permuting rows: the same function from the same numbers.

Neighbours turn together in one layout, halves in the other. Only rows that are rotated move: in MLA
the last r of each query head and of the shared key, in grouped attention the first of every head.
Axes: h heads, w channels of a head, r rotated channels.
"""

import torch
from einops import rearrange
from torch import Tensor

from minids.config import ModelConfig

LATENT = ("q_proj", "q_b_proj", "kv_a_proj_with_mqa")
GROUPED = ("q_proj", "k_proj", "q_norm", "k_norm")


def in_layout(name: str, tensor: Tensor, cfg: ModelConfig, interleave: bool) -> Tensor:
    """A weight of a model in the layout asked for; most weights do not care."""
    words = name.split(".")
    rotated = LATENT if cfg.attention == "mla" else GROUPED
    module = words[-2] if len(words) > 1 else ""
    if interleave == cfg.rope_interleave or "self_attn" not in words or module not in rotated:
        return tensor
    width = cfg.qk_head_dim
    if module == "kv_a_proj_with_mqa":
        width = tensor.shape[0]
    start = width - cfg.rotary_dim if cfg.attention == "mla" else 0
    order = torch.arange(width)  # [w]
    turned = torch.arange(cfg.rotary_dim)  # [r]
    pattern = "(two p) -> (p two)" if interleave else "(p two) -> (two p)"
    order[start : start + cfg.rotary_dim] = start + rearrange(turned, pattern, two=2)
    heads = rearrange(tensor, "(h w) ... -> h w ...", w=width)
    return rearrange(heads[:, order], "h w ... -> (h w) ...")
