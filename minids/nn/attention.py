"""Attention with grouped keys and values: h = g is MHA, g = 1 is MQA, all between is GQA.

Each group of h/g query heads reads the same key and value head, so a cached token costs 2·g·n
numbers instead of 2·h·n. Axes: b batch, s queries, t keys, h query heads, g groups, n head width,
d hidden_size.
"""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from minids.config import ModelConfig
from minids.nn.cache import LayerCache
from minids.nn.linear import Linear
from minids.nn.norm import RMSNorm
from minids.nn.rope import Rope, rotate_halves, rotate_pairs, softmax_scale


def visible(s: int, t: int, mask: Tensor | None, device: torch.device) -> Tensor | None:
    """Who may look at whom: the s queries are the last of t tokens; padding is seen by nobody.

    mask [b t] bool, True for real tokens → [1 1 s t] or [b 1 s t] bool; None where plain causality
    or full sight needs no mask. Conditions are joined as booleans, never as added −inf.
    """
    if mask is None and (s == t or s == 1):
        return None
    causal = torch.ones(s, t, dtype=torch.bool, device=device).tril(t - s)  # [s t]
    if mask is None:
        return causal[None, None]
    return causal & mask[:, None, None, :]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, see: Tensor | None) -> Tensor:
    """softmax(q kᵀ · scale) v, fused; rows that see nothing give 0.

    q [b s h n], k [b t h n], v [b t h v], see from `visible` → [b s h v].
    """
    width = v.shape[-1]
    if width < k.shape[-1]:  # the fused kernel wants one width for keys and values
        v = F.pad(v, (0, k.shape[-1] - width))
    q, k, v = (rearrange(x, "b s h n -> b h s n") for x in (q, k, v))
    causal = see is None and q.shape[2] > 1
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=see, is_causal=causal, scale=scale)
    return rearrange(out[..., :width], "b h s v -> b s h v")


def attend_by_hand(q: Tensor, k: Tensor, v: Tensor, scale: float, see: Tensor | None) -> Tensor:
    """The same, each step in the open; `attend` is proved equal to it."""
    score = einsum(q, k, "b s h n, b t h n -> b h s t") * scale
    attn = causal_softmax(score, see)  # [b h s t]
    return einsum(attn, v, "b h s t, b t h v -> b s h v")


def causal_softmax(score: Tensor, see: Tensor | None) -> Tensor:
    """Softmax over the keys a query may see, in float32 at least; a blind row is all zero.

    score [b h s t], see [… s t] bool or None (causal) → [b h s t]
    """
    s, t = score.shape[-2:]
    if see is None:
        see = torch.ones(s, t, dtype=torch.bool, device=score.device).tril(t - s)
    wide = score.to(torch.promote_types(score.dtype, torch.float32))
    attn = wide.masked_fill(~see, float("-inf")).softmax(-1)
    return attn.masked_fill(~see, 0.0).to(score.dtype)


class Attention(nn.Module):
    """Multi-head, grouped or multi-query attention with RoPE (arXiv 1706.03762, 2305.13245).

    x [b s d] → [b s d]. Optional: query/key norms (Qwen3), biases (Qwen2), part of a head without
    position (GLM).
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        d, n = cfg.hidden_size, cfg.head_dim
        self.cfg, self.scale = cfg, softmax_scale(cfg)
        self.q_proj = Linear(d, cfg.num_attention_heads * n, bias=cfg.attention_bias)
        self.k_proj = Linear(d, cfg.num_key_value_heads * n, bias=cfg.attention_bias)
        self.v_proj = Linear(d, cfg.num_key_value_heads * n, bias=cfg.attention_bias)
        self.o_proj = Linear(cfg.num_attention_heads * n, d)
        if cfg.use_qk_norm:
            self.q_norm = RMSNorm(n, cfg.rms_norm_eps)
            self.k_norm = RMSNorm(n, cfg.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: Rope, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        n = self.cfg.head_dim
        q = rearrange(self.q_proj(x), "b s (h n) -> b s h n", n=n)
        k = rearrange(self.k_proj(x), "b s (g n) -> b s g n", n=n)
        v = rearrange(self.v_proj(x), "b s (g n) -> b s g n", n=n)
        if self.cfg.use_qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = self.turn(q, rope), self.turn(k, rope)
        if cache is not None:
            k, v = cache.append(k, v)
        see = visible(q.shape[1], k.shape[1], mask, x.device)
        share = self.cfg.num_attention_heads // self.cfg.num_key_value_heads
        if share > 1:
            k, v = (repeat(y, "b t g n -> b t (g share) n", share=share) for y in (k, v))
        out = attend(q, k, v, self.scale, see)
        return self.o_proj(rearrange(out, "b s h n -> b s (h n)"))

    def turn(self, x: Tensor, rope: Rope) -> Tensor:
        """Rotate the leading channels of every head; the rest carries no position."""
        rotate = rotate_pairs if self.cfg.rope_interleave else rotate_halves
        r = self.cfg.rotary_dim
        if r == x.shape[-1]:
            return rotate(x, rope)
        return torch.cat((rotate(x[..., :r], rope), x[..., r:]), dim=-1)
