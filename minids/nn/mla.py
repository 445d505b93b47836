"""Multi-head latent attention: keys and values are rebuilt from one small latent per token.

Only the latent c and one rotated key shared by all heads are remembered: c + r numbers per token
and layer where MHA keeps 2·h·n (V3: 576 against 32,768). RoPE has channels of its own because a
rotation between the two key matrices would keep them from being merged at decoding time.
Axes: b batch, s queries, t keys, d hidden_size, h heads, n nope, r rope, v value channels,
c kv_lora_rank, q q_lora_rank.  (DeepSeek-V2 §2.1, equations 9–19)
"""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn

from minids.config import ModelConfig
from minids.nn.attention import attend, causal_softmax
from minids.nn.cache import LayerCache
from minids.nn.linear import Linear
from minids.nn.norm import RMSNorm
from minids.nn.rope import Rope, rotate_halves, rotate_pairs, softmax_scale

LATENT_EPS = 1e-6  # of the two latent norms, whatever the config says: so were the models trained


def attend_expanded(
    q_nope: Tensor,
    q_rope: Tensor,
    c: Tensor,
    k_rope: Tensor,
    kv_b: Linear,
    scale: float,
    mask: Tensor | None = None,
) -> Tensor:
    """As trained: every latent is expanded into keys and values per head.  → [b s h v]

    q_nope [b s h n], q_rope [b s h r], c [b t c], k_rope [b t r]; kv_b maps c to h·(n+v).
    """
    h, n = q_nope.shape[2:]
    kv = rearrange(kv_b(c), "b t (h w) -> b t h w", h=h)
    k_nope, v = kv[..., :n], kv[..., n:]  # [b t h n], [b t h v] per head: keys first
    q = torch.cat((q_nope, q_rope), dim=-1)  # [b s h n+r]
    k = torch.cat((k_nope, repeat(k_rope, "b t r -> b t h r", h=h)), dim=-1)  # [b t h n+r]
    return attend(q, k, v, scale, mask)


def attend_absorbed(
    q_nope: Tensor,
    q_rope: Tensor,
    c: Tensor,
    k_rope: Tensor,
    kv_b: Linear,
    scale: float,
    mask: Tensor | None = None,
) -> Tensor:
    """As decoded: the same sums in another order, so no latent is ever expanded.  → [b s h v]

    Takes what `attend_expanded` takes. Every head reads the same t·(c+r) numbers: multi-query
    attention with one wide head. The scale stays that of n + r channels. (DeepSeek-V2 §2.1.2)
    """
    h, n = q_nope.shape[2:]
    weight = rearrange(kv_b.weight.to(c.dtype), "(h w) c -> h w c", h=h)
    w_k, w_v = weight[:, :n], weight[:, n:]  # [h n c], [h v c] per head: keys first
    q_c = einsum(q_nope, w_k, "b s h n, h n c -> b s h c")  # W_UK moves into the query …
    score = einsum(q_c, c, "b s h c, b t c -> b h s t")
    score = score + einsum(q_rope, k_rope, "b s h r, b t r -> b h s t")
    attn = causal_softmax(score * scale, mask)  # [b h s t]
    out_c = einsum(attn, c, "b h s t, b t c -> b s h c")
    return einsum(out_c, w_v, "b s h c, h v c -> b s h v")  # … and W_UV behind the sum


def absorbing_pays(s: int, t: int, cfg: ModelConfig) -> bool:
    """Whether s new tokens that look at t multiply less when absorbed; without a past never.

    Expanding costs c·(n+v) per head and token looked at, absorbing the same per query and
    2c−n−v more per pair. Over a long past V3 gains up to 170 queries: decoding and drafts, not
    prompts.
    """
    c, w = cfg.kv_lora_rank, cfg.qk_nope_head_dim + cfg.v_head_dim
    return s < t and (t - s) * c * w > s * t * (2 * c - w)


class MLA(nn.Module):
    """x [b s d] → [b s d].

    q_lora_rank 0 replaces the query latent by one matrix (V2-Lite). `use_qk_norm` is ours: it norms
    each query head and the shared rotated key. Together with the latent's own norm all that enters
    a score is then bounded, as in V4, and the keys can still be absorbed into the query.
    `absorb` says which form attends; None, as built, takes the one that multiplies less.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        d, h = cfg.hidden_size, cfg.num_attention_heads
        n, r, v = cfg.qk_nope_head_dim, cfg.qk_rope_head_dim, cfg.v_head_dim
        self.cfg, self.scale = cfg, softmax_scale(cfg)
        self.absorb: bool | None = None
        self.rotate = rotate_pairs if cfg.rope_interleave else rotate_halves
        if cfg.q_lora_rank:
            self.q_a_proj = Linear(d, cfg.q_lora_rank)
            self.q_a_layernorm = RMSNorm(cfg.q_lora_rank, LATENT_EPS)
            self.q_b_proj = Linear(cfg.q_lora_rank, h * (n + r))
        else:
            self.q_proj = Linear(d, h * (n + r))
        self.kv_a_proj_with_mqa = Linear(d, cfg.kv_lora_rank + r)
        self.kv_a_layernorm = RMSNorm(cfg.kv_lora_rank, LATENT_EPS)
        self.kv_b_proj = Linear(cfg.kv_lora_rank, h * (n + v))
        self.o_proj = Linear(h * v, d)
        if cfg.use_qk_norm:
            self.q_norm = RMSNorm(n + r, cfg.rms_norm_eps)
            self.k_rope_norm = RMSNorm(r, cfg.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: Rope, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        q_nope, q_rope = self.queries(x, rope)
        c, k_rope = self.latents(x, rope)
        if cache is not None:
            c, k_rope = cache.append(c, k_rope)
        absorb = absorbing_pays(x.shape[1], c.shape[1], self.cfg)
        if self.absorb is not None:
            absorb = self.absorb
        form = attend_absorbed if absorb else attend_expanded
        out = form(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
        return self.o_proj(rearrange(out, "b s h v -> b s (h v)"))

    def queries(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
        """Queries without and with position.  → [b s h n], [b s h r]"""
        cfg = self.cfg
        if cfg.q_lora_rank:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))  # [b s h*(n+r)]
        else:
            q = self.q_proj(x)  # [b s h*(n+r)]
        q = rearrange(q, "b s (h w) -> b s h w", h=cfg.num_attention_heads)
        if cfg.use_qk_norm:
            q = self.q_norm(q)  # [b s h n+r]
        q_nope, q_rope = q.split([cfg.qk_nope_head_dim, cfg.qk_rope_head_dim], dim=-1)
        return q_nope, self.rotate(q_rope, rope)

    def latents(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
        """All that is remembered of a token: normed latent, rotated key.  → [b s c], [b s r]"""
        cfg = self.cfg
        c, k_rope = self.kv_a_proj_with_mqa(x).split([cfg.kv_lora_rank, cfg.qk_rope_head_dim], -1)
        if cfg.use_qk_norm:
            k_rope = self.k_rope_norm(k_rope)  # [b s r]
        k_rope = self.rotate(rearrange(k_rope, "b s r -> b s 1 r"), rope)
        return self.kv_a_layernorm(c), rearrange(k_rope, "b s 1 r -> b s r")
