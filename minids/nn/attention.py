"""Attention with grouped keys and values: h = g is MHA, g = 1 is MQA, all between is GQA.

Each group of h/g query heads reads the same key and value head, so a cached token costs 2·g·n
numbers instead of 2·h·n. The s queries are always the last of the t tokens.
Axes: b batch, s queries, t keys, h query heads, g groups, n head width, v value width,
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

SHORT = 512  # tokens; beyond it the fused kernel's smaller memory wins


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ · scale) v over what each query may see, by the fastest way at hand.

    q [b s h n], k [b t h n], v [b t h v], mask from `visible` or None for plain causality
    → [b s h v]. Queries that may see nothing get 0.
    """
    s, t, width = q.shape[1], k.shape[1], v.shape[-1]
    if q.device.type == "cpu" and mask is None and 1 < s == t <= SHORT:
        return attend_short(q, k, v, scale)
    if mask is None and 1 < s < t:  # torch's own causal mask is for s = t
        mask = visible(s, t, None, q.device)
    if width < k.shape[-1]:  # the fused kernel wants one width for keys and values
        v = F.pad(v, (0, k.shape[-1] - width))
    q, k, v = (rearrange(x, "b s h n -> b h s n") for x in (q, k, v))
    causal = mask is None and s > 1
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return rearrange(out[..., :width], "b h s v -> b s h v")


def attend_short(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention as two batched products around a softmax.  q, k [b s h n], v [b s h v]

    On a CPU torch's fused kernel is slow at short contexts: 16 × 256 tokens, forward and backward
    in bfloat16 on one core, took it 54 ms and this 20 ms. It holds all b·h·s² scores.
    """
    h, s = q.shape[2], q.shape[1]
    q, k, v = (rearrange(x, "b s h n -> (b h) s n") for x in (q, k, v))
    future = q.new_full((s, s), float("-inf")).triu(1)  # [s s]
    score = torch.baddbmm(future, q, rearrange(k, "B t n -> B n t"), alpha=scale)  # [b*h s s]
    out = torch.bmm(score.softmax(-1), v)  # [b*h s v]
    return rearrange(out, "(b h) s v -> b s h v", h=h)


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """`attend` for g key and value heads, each read by h/g neighbouring query heads.

    q [b s h n], k [b t g n], v [b t g v] → [b s h v]. A single query lets the heads of a group be
    that many queries of one head, so nothing is copied: with h = 16, g = 1 and 4,096 tokens on one
    core 0.5 ms instead of 43.
    """
    g = k.shape[2]
    if q.shape[1] == 1 and q.shape[2] > g:
        mask = visible(1, k.shape[1], None, q.device) if mask is None else mask
        q = rearrange(q, "b 1 (g share) n -> b share g n", g=g)
        return rearrange(attend(q, k, v, scale, mask), "b share g v -> b 1 (g share) v")
    k, v = (repeat(x, "b t g n -> b t (g share) n", share=q.shape[2] // g) for x in (k, v))
    return attend(q, k, v, scale, mask)


def attend_by_hand(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """The same, each step in the open; `attend` is proved equal to it."""
    score = einsum(q, k, "b s h n, b t h n -> b h s t") * scale
    attn = causal_softmax(score, mask)  # [b h s t]
    return einsum(attn, v, "b h s t, b t h v -> b s h v")


def causal_softmax(score: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the keys a query may see, in float32 at least; a blind row is all zero.

    score [b h s t] → [b h s t]
    """
    if mask is None:
        mask = visible(score.shape[-2], score.shape[-1], None, score.device)
    wide = score.to(torch.promote_types(score.dtype, torch.float32))
    attn = wide.masked_fill(~mask, float("-inf")).softmax(-1)
    return attn.masked_fill(~mask, 0.0).to(score.dtype)


def visible(s: int, t: int, real: Tensor | None, device: torch.device) -> Tensor:
    """Who may look at whom: nobody ahead, nobody at padding.

    real [b t] bool, True for real tokens, or None → [1 1 s t] or [b 1 s t] bool. Conditions are
    joined as booleans: added −inf or very small numbers leak or overflow in half precision.
    """
    causal = torch.ones(s, t, dtype=torch.bool, device=device).tril(t - s)
    if real is None:
        return rearrange(causal, "s t -> 1 1 s t")
    return causal & rearrange(real, "b t -> b 1 1 t")


class Attention(nn.Module):
    """Multi-head, grouped or multi-query attention with RoPE. (arXiv 1706.03762, 2305.13245)

    x [b s d] → [b s d]. Optional query and key norms (Qwen3), biases (Qwen2), heads that RoPE
    turns only in part (GLM).
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        d, h, g, n = cfg.hidden_size, cfg.num_attention_heads, cfg.num_key_value_heads, cfg.head_dim
        self.cfg, self.scale = cfg, softmax_scale(cfg)
        self.q_proj = Linear(d, h * n, bias=cfg.attention_bias)
        self.k_proj = Linear(d, g * n, bias=cfg.attention_bias)
        self.v_proj = Linear(d, g * n, bias=cfg.attention_bias)
        self.o_proj = Linear(h * n, d)
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
        q, k = self.rotate(q, rope), self.rotate(k, rope)
        if cache is not None:
            k, v = cache.append(k, v)
        out = attend_grouped(q, k, v, self.scale, mask)
        return self.o_proj(rearrange(out, "b s h n -> b s (h n)"))

    def rotate(self, x: Tensor, rope: Rope) -> Tensor:
        """Turn the leading channels of every head; the rest carries no position."""
        rotate = rotate_pairs if self.cfg.rope_interleave else rotate_halves
        r = self.cfg.rotary_dim
        if r == x.shape[-1]:
            return rotate(x, rope)
        return torch.cat((rotate(x[..., :r], rope), x[..., r:]), dim=-1)
