"""The decoding twin: one new token per row through an MLA model, in as few operators as it takes.

`Transformer.hidden` is the definition; this computes the same from the same weights and the same
cache, one column at a time, in float32 on a CPU. There a small model is bound by the start of
operators and by the reading of weights, not by arithmetic. So projections of one input are one
matrix, shapes change by views, and an expert is a view of its weights, never a copy. With many rows
or a long past the expansion of every cached latent would come on top, so the key matrix is
multiplied into the query and the value matrix into the result (the absorbed form, DeepSeek-V2
§2.1.2): per row 2·t·h·(2c + r) operations instead of 2·t·h·c·(n + v).

Axes: b rows, t tokens seen, d hidden_size, h heads, n nope, r rope, p = r/2, v value channels,
c kv_lora_rank, q q_lora_rank, e experts, k experts per token, f expert width, P = b·k visits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.nn.block import Block
from minids.nn.cache import Cache, LayerCache
from minids.nn.ffn import SwiGLU
from minids.nn.mla import MLA
from minids.nn.moe import MoE
from minids.nn.norm import RMSNorm
from minids.nn.rope import rope_tables
from minids.nn.transformer import Transformer

TABLE = 256  # positions whose angles are computed at once
FEW = 8  # rows up to which a product with the weight first is faster


class FastStep:
    """One step of a model. What is joined here is copied once: everything but the experts."""

    def __init__(self, model: Transformer) -> None:
        self.cfg, self.embedding = model.cfg, model.embed_tokens.weight
        self.norm, self.head = FastNorm(model.norm), FastLinear(model.lm_head.weight)
        self.halves = [(FastMLA(block), feed_forward(block)) for block in model.layers]  # pyright: ignore[reportArgumentType]
        self.first, self.table = 0, torch.empty(0, 0)

    @staticmethod
    def serves(model: Transformer, dtype: torch.dtype) -> bool:
        """Whether this twin exists for the model as it is: MLA, float32, on a CPU."""
        weight = model.embed_tokens.weight
        is_float = weight.dtype == dtype == torch.float32
        return is_float and weight.device.type == "cpu" and model.cfg.attention == "mla"

    def logits(self, tokens: Tensor, mask: Tensor | None, cache: Cache) -> Tensor:
        """tokens [b], mask [b t] over cached and new → logits [b V]; the cache grows by one."""
        turn, hidden = self.turn(cache.length), None if mask is None else ~mask[:, None]  # [b 1 t]
        x = self.embedding[tokens]  # [b d]
        for (look, think), layer in zip(self.halves, cache.layers, strict=True):
            x = x + look(x, turn, hidden, layer)
            x = x + think(x)
        return self.head(self.norm(x))

    def turn(self, position: int) -> Tensor:
        """cos + i·sin of one position's angles [p] complex; tables are made for many at once."""
        at = position - self.first
        if not 0 <= at < len(self.table):
            self.first, at = position, 0
            self.table = torch.complex(*rope_tables(self.cfg, torch.arange(TABLE) + position))
        return self.table[at]


class FastNorm:
    """RMSNorm from the length of x: five operators where torch takes ten on a CPU."""

    def __init__(self, norm: RMSNorm) -> None:
        width = len(norm.weight)
        self.weight = norm.weight * width**0.5
        self.room = torch.tensor(norm.eps * width)

    def __call__(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * torch.rsqrt(torch.addcmul(self.room, length, length)) * self.weight


class FastLinear:
    """x [b i] → x Wᵀ [b o] for few rows; several weights over one input are joined.

    The same sums as F.linear by kernels that read a weight from memory twice as fast (MKL on an
    AMD with AVX-512, 256 × 256: one row 33 → 15 µs as a batch of two halves, two rows 38 → 16 µs
    with the weight first). From FEW rows on they are equal.
    """

    def __init__(self, *weights: Tensor) -> None:
        self.weight = torch.cat(weights) if weights[1:] else weights[0]  # [o i]
        self.width = self.weight.shape[-1]
        is_even = len(self.weight) % 2 == 0
        self.halves = self.weight.view(2, -1, self.width) if is_even else None  # [2 o/2 i]

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) == 1 and self.halves is not None:
            columns = x.as_strided((2, self.width, 1), (0, 1, self.width))  # x twice
            return torch.bmm(self.halves, columns).view(1, -1)
        if len(x) <= FEW:
            return torch.mm(self.weight, x.T).T.contiguous()
        return F.linear(x, self.weight)


class FastMLA:
    """x [b d] → attention [b d], absorbed."""

    def __init__(self, block: Block) -> None:
        layer, cfg = block.self_attn, block.self_attn.cfg
        assert isinstance(layer, MLA)
        h, n, r, v = (
            cfg.num_attention_heads,
            cfg.qk_nope_head_dim,
            cfg.qk_rope_head_dim,
            cfg.v_head_dim,
        )
        self.h, self.n, self.scale, self.interleave = h, n, layer.scale, cfg.rope_interleave
        self.norm, self.c_norm = FastNorm(block.input_layernorm), FastNorm(layer.kv_a_layernorm)
        if cfg.q_lora_rank:
            self.w_q, self.q_norm = FastLinear(layer.q_b_proj.weight), FastNorm(layer.q_a_layernorm)
        q_in = (layer.q_a_proj if cfg.q_lora_rank else layer.q_proj).weight
        self.has_q_latent, self.has_head_norms = cfg.q_lora_rank > 0, cfg.use_qk_norm
        self.widths = [len(q_in), cfg.kv_lora_rank, r]
        self.w_in = FastLinear(q_in, layer.kv_a_proj_with_mqa.weight)
        if cfg.use_qk_norm:
            self.head_norm, self.k_norm = FastNorm(layer.q_norm), FastNorm(layer.k_rope_norm)
        kv = layer.kv_b_proj.weight.view(h, n + v, cfg.kv_lora_rank)
        self.w_k, self.w_v = kv[:, :n], kv[:, n:].mT  # [h n c], [h c v]
        self.w_o = FastLinear(layer.o_proj.weight)

    def __call__(self, x: Tensor, turn: Tensor, hidden: Tensor | None, cache: LayerCache) -> Tensor:
        q, c, k = self.w_in(self.norm(x)).split(self.widths, dim=-1)
        if self.has_q_latent:
            q = self.w_q(self.q_norm(q))
        q = q.view(len(x), self.h, -1)  # [b h n+r]
        if self.has_head_norms:
            q, k = self.head_norm(q), self.k_norm(k)
        turned = rotate(torch.cat([q[:, :, self.n :], k[:, None]], 1), turn, self.interleave)
        latent, keys = cache.append(
            self.c_norm(c)[:, None], turned[:, self.h :]
        )  # [b t c], [b t r]
        q_c = torch.bmm(q[:, :, : self.n].transpose(0, 1), self.w_k).transpose(0, 1)  # [b h c]
        by_place = torch.bmm(turned[:, : self.h], keys.mT)  # [b h t]
        score = torch.baddbmm(by_place, q_c, latent.mT, beta=self.scale, alpha=self.scale)
        if hidden is not None:
            score = score.masked_fill_(hidden, -torch.inf)
        out_c = torch.bmm(score.softmax(-1), latent)  # [b h c]
        out = torch.bmm(out_c.transpose(0, 1), self.w_v).transpose(0, 1)  # [b h v]
        return self.w_o(out.reshape(len(x), -1))


class FastSwiGLU:
    """x [b d] → W_down(SiLU(W_gate x) ⊙ W_up x) [b d]."""

    def __init__(self, layer: SwiGLU, norm: RMSNorm) -> None:
        self.norm = FastNorm(norm)
        self.w_in = FastLinear(layer.gate_proj.weight, layer.up_proj.weight)
        self.w_out = FastLinear(layer.down_proj.weight)

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self.w_in(self.norm(x)).chunk(2, dim=-1)
        return self.w_out(F.silu(gate) * up)


class FastMoE:
    """x [b d] → routed and shared experts [b d]."""

    def __init__(self, layer: MoE, norm: RMSNorm) -> None:
        cfg = layer.cfg
        self.layer, self.cfg, self.norm, self.k = (
            layer,
            cfg,
            FastNorm(norm),
            cfg.num_experts_per_tok,
        )
        self.gate_up, self.down = layer.experts.gate_up_proj, layer.experts.down_proj
        self.gate_ups, self.downs = self.gate_up.unbind(), self.down.unbind()
        self.is_plain_v3 = cfg.topk_method == "noaux_tc" and cfg.n_group == 1
        self.f = cfg.moe_intermediate_size * cfg.n_shared_experts
        shared = layer.shared_experts if self.f else None
        first = [shared.gate_proj.weight, shared.up_proj.weight] if shared else []
        self.w_in = FastLinear(*first, layer.gate.weight)  # shared experts and router
        self.w_out = FastLinear(shared.down_proj.weight) if shared else None

    def __call__(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        gate, up, logit = self.w_in(x).split([self.f, self.f, self.cfg.n_routed_experts], dim=-1)
        expert, weight = self.route(x, logit)  # [b k] both
        out = self.one_row(x, expert, weight) if len(x) == 1 else self.rows(x, expert, weight)
        return out + self.w_out(F.silu(gate) * up) if self.w_out else out

    def route(self, x: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
        """`nn.moe.route_v3` without groups and counts; the other rules as they stand there."""
        if not (self.is_plain_v3 and self.cfg.scoring_func == "sigmoid"):
            return self.layer.route(x)[:2]
        affinity = logit.sigmoid()  # [b e]
        expert = (affinity + self.layer.gate.e_score_correction_bias).topk(self.k).indices  # [b k]
        weight = affinity.gather(-1, expert)  # [b k]
        if self.cfg.norm_topk_prob:
            weight = weight / weight.sum(-1, keepdim=True)
        return expert, weight * self.cfg.routed_scaling_factor

    def one_row(self, x: Tensor, expert: Tensor, weight: Tensor) -> Tensor:
        """Two experts at a time, as a strided batch.  x [1 d], expert and weight [1 k] → [1 d]"""
        expert, order = expert[0].sort()  # a stride must not be negative
        pairs = [expert.tolist()[i : i + 2] for i in range(0, self.k, 2)]
        column = x.T.expand(2, -1, -1)  # [2 d 1]
        hidden = [torch.bmm(pick_two(self.gate_up, pair), column[: len(pair)]) for pair in pairs]
        gate, up = torch.cat(hidden).view(self.k, 2, -1).unbind(1)  # [k f] both
        scaled = F.silu(gate) * up * weight[0, order, None]  # [k f]
        columns = scaled[:, None].mT.split(2)  # [2 f 1] each
        answers = [
            torch.bmm(pick_two(self.down, p), h) for p, h in zip(pairs, columns, strict=True)
        ]
        return torch.cat(answers).sum(0).T

    def rows(self, x: Tensor, expert: Tensor, weight: Tensor) -> Tensor:
        """Visits sorted by expert, one product per expert that has any.  x [b d] → [b d]"""
        visits = expert.flatten()  # [P]
        order = visits.argsort(stable=True)  # [P]
        counts = torch.bincount(visits).tolist()
        which = [e for e, n in enumerate(counts) if n]
        sizes = [counts[e] for e in which]
        parts = x.index_select(0, order // self.k).split(sizes)  # [P d] by expert
        hidden = [torch.mm(self.gate_ups[e], y.T) for e, y in zip(which, parts, strict=True)]
        gate, up = torch.cat(hidden, dim=1).chunk(2)  # [f P] both
        scaled = F.silu(gate) * up * weight.flatten()[order]  # [f P]
        parts = scaled.T.contiguous().split(sizes)  # [P f] by expert
        answers = [torch.mm(self.downs[e], y.T) for e, y in zip(which, parts, strict=True)]
        by_row = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))  # [P]
        answer = torch.cat(answers, dim=1).T.index_select(0, by_row)  # [P d]
        return answer.view(len(x), self.k, -1).sum(1)


def feed_forward(block: Block) -> FastSwiGLU | FastMoE:
    """The twin of a block's second half."""
    if isinstance(block.mlp, MoE):
        return FastMoE(block.mlp, block.post_attention_layernorm)
    return FastSwiGLU(block.mlp, block.post_attention_layernorm)


def rotate(x: Tensor, turn: Tensor, interleave: bool) -> Tensor:
    """RoPE as a product of complex numbers: x [b h r], turn [p] → [b h r]."""
    if interleave:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # [b h p]
        return torch.view_as_real(pairs * turn).flatten(-2)
    turned = torch.complex(*x.chunk(2, dim=-1)) * turn  # [b h p]
    return torch.cat([turned.real, turned.imag], dim=-1)


def pick_two(stack: Tensor, which: list[int]) -> Tensor:
    """One or two matrices out of [e o i], in rising order, as a view [1 o i] or [2 o i]."""
    first, last = which[0], which[-1]
    return stack[first : last + 1 : max(1, last - first)]
