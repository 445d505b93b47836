"""DeepSeekMoE: many small experts, a few chosen per token, some shared by all.

A router scores every expert for every token, keeps k of them and mixes their answers by the
scores. What keeps the experts busy differs: V2 adds losses that pull on the scores; V3 adds a bias
to the *choice* only and moves it by a sign rule after each step, so the language model's gradient
is left alone. Axes: T tokens (b·s), b sequences, s tokens of one, d hidden_size, e experts,
k experts per token, G groups.  (DeepSeekMoE §3; V2 §2.2; V3 §2.1.2)
"""

from typing import NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from minids.config import ModelConfig
from minids.nn.experts import experts_gathered, experts_sorted
from minids.nn.ffn import SwiGLU

FEW_VISITS = 64  # below this many token-expert visits, fetching weights beats sorting tokens


class Routing(NamedTuple):
    """Who goes where, and how much each answer counts."""

    expert: Tensor  # [T k] int64, chosen experts
    gate: Tensor  # [T k] float32, weight of each answer
    affinity: Tensor  # [T e] float32, score of every expert before any bias
    load: Tensor  # [e] int64, visits per expert


def route_v3(x: Tensor, centroid: Tensor, bias: Tensor, cfg: ModelConfig) -> Routing:
    """Choose by affinity plus bias, weigh by affinity alone.  (DeepSeek-V3 §2.1.2, eq. 12–16)

    x [T d], centroid [e d], bias [e] float32 without gradient → Routing. Affinity is a sigmoid, so
    experts do not compete until the choice. Computed in float32 (at least).
    """
    affinity = torch.sigmoid(scores(x, centroid))  # [T e]
    choice = affinity + bias  # [T e] steers which …
    if cfg.n_group > 1:
        two_best = rearrange(choice, "T (G e) -> T G e", G=cfg.n_group).topk(2, dim=-1).values
        choice = keep_groups(choice, reduce(two_best, "T G two -> T G", "sum"), cfg)
    expert = choice.topk(cfg.num_experts_per_tok, dim=-1).indices  # [T k]
    gate = affinity.gather(-1, expert)  # [T k] … never how much
    if cfg.norm_topk_prob:
        gate = gate / (gate.sum(-1, keepdim=True) + 1e-20)  # [T k]
    return Routing(expert, gate * cfg.routed_scaling_factor, affinity, count(expert, cfg))


def route_v2(x: Tensor, centroid: Tensor, cfg: ModelConfig) -> Routing:
    """Choose and weigh by one softmax over all experts.  (DeepSeek-V2 §2.2.1–2.2.2)

    A group (device) counts as its best expert does. Weights are the softmax values as they are:
    released V2 models never renormalise, they scale.
    """
    affinity = scores(x, centroid).softmax(-1)  # [T e]
    choice = affinity
    if cfg.topk_method == "group_limited_greedy" and cfg.n_group > 1:
        best = reduce(choice, "T (G e) -> T G", "max", G=cfg.n_group)
        choice = keep_groups(choice, best, cfg)
    expert = choice.topk(cfg.num_experts_per_tok, dim=-1).indices  # [T k]
    gate = affinity.gather(-1, expert)  # [T k]
    if cfg.norm_topk_prob:
        gate = gate / (gate.sum(-1, keepdim=True) + 1e-20)  # [T k]
    return Routing(expert, gate * cfg.routed_scaling_factor, affinity, count(expert, cfg))


def scores(x: Tensor, centroid: Tensor) -> Tensor:
    """Router logits, float32 at least: a rounding here sends a token elsewhere.  → [T e]"""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide) @ centroid.to(wide).T


def keep_groups(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    """Forbid all experts outside the `topk_group` best groups.  choice [T e], group_score [T G]

    Forbidden means −∞, not 0: a bias may make allowed choices negative.
    """
    best = group_score.topk(cfg.topk_group, dim=-1).indices  # [T groups kept]
    allowed = torch.zeros_like(group_score, dtype=torch.bool).scatter_(1, best, True)  # [T G]
    per_group = choice.shape[-1] // cfg.n_group
    return choice.masked_fill(~allowed.repeat_interleave(per_group, dim=-1), float("-inf"))


def count(expert: Tensor, cfg: ModelConfig) -> Tensor:
    """Visits per expert.  → [e] int64"""
    return torch.bincount(expert.flatten(), minlength=cfg.n_routed_experts)


def updated_bias(bias: Tensor, load: Tensor, speed: float) -> Tensor:
    """V3's balance rule: busy experts a step down, idle ones a step up.  (V3 §2.1.2)

    bias [e] float32, load [e] visits of the whole batch, speed γ → [e]
    """
    load = load.to(bias.dtype)
    return bias + speed * torch.sign(load.mean() - load)


def sequence_balance_loss(affinity: Tensor, b: int, cfg: ModelConfig) -> Tensor:
    """V3's small extra loss: no expert should be over-used within one sequence.  (V3 eq. 17–20)

    affinity [T e] of b sequences → scalar: Σ_i f_i P_i, mean over sequences; balanced: 1. f_i is
    the share of tokens whose k best (without bias) hold expert i, times e/k; P_i its mean
    normalised score.
    """
    score = rearrange(affinity, "(b s) e -> b s e", b=b)
    best = score.topk(cfg.num_experts_per_tok, dim=-1).indices  # [b s k]
    chosen = torch.zeros_like(score).scatter_(-1, best, 1.0)  # [b s e]
    f = reduce(chosen, "b s e -> b e", "mean") * cfg.n_routed_experts / cfg.num_experts_per_tok
    p = reduce(score / score.sum(-1, keepdim=True), "b s e -> b e", "mean")
    return (f * p).sum(-1).mean()


def v2_balance_losses(routing: Routing, cfg: ModelConfig) -> Tensor:
    """V2's three losses, weighted: experts, devices, what devices receive.  (V2 eq. 23–31)

    → scalar. A device is a group of experts; each loss is a product of how often (no gradient) and
    how much (gradient through the affinity).
    """
    tokens, k = routing.expert.shape
    f = routing.load.to(routing.affinity.dtype) * (cfg.n_routed_experts / (k * tokens))  # [e]
    p = reduce(routing.affinity, "T e -> e", "mean")
    f_device = reduce(f, "(G e) -> G", "mean", G=cfg.n_group)
    p_device = reduce(p, "(G e) -> G", "sum", G=cfg.n_group)
    device = routing.expert // (cfg.n_routed_experts // cfg.n_group)  # [T k]
    sent = torch.zeros(tokens, cfg.n_group, device=f.device, dtype=f.dtype)
    sent = reduce(sent.scatter_(1, device, 1.0), "T G -> G", "mean")
    f_comm = sent * cfg.n_group / cfg.topk_group  # [G]
    return (
        cfg.aux_loss_alpha * (f * p).sum()
        + cfg.device_loss_alpha * (f_device * p_device).sum()
        + cfg.comm_loss_alpha * (f_comm * p_device).sum()
    )


class Gate(nn.Module):
    """The router's memory: a centroid per expert and V3's selection bias."""

    e_score_correction_bias: Tensor

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cfg.n_routed_experts, cfg.hidden_size))
        if cfg.topk_method == "noaux_tc":
            bias = torch.zeros(cfg.n_routed_experts, dtype=torch.float32)
            self.register_buffer("e_score_correction_bias", bias)


class Experts(nn.Module):
    """Weights of all routed experts, stacked."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        e, d, f = cfg.n_routed_experts, cfg.hidden_size, cfg.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(e, 2 * f, d))
        self.down_proj = nn.Parameter(torch.empty(e, d, f))


class MoE(nn.Module):
    """x [b s d] → [b s d] and the Routing it used; Σ gate · expert(x) + shared(x)."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.gate = Gate(cfg)
        self.experts = Experts(cfg)
        if cfg.n_shared_experts:
            self.shared_experts = SwiGLU(
                cfg.hidden_size, cfg.moe_intermediate_size * cfg.n_shared_experts
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        flat = rearrange(x, "b s d -> (b s) d")
        routing = self.route(flat)
        weights = self.experts.gate_up_proj, self.experts.down_proj
        if routing.expert.numel() <= FEW_VISITS and not torch.is_grad_enabled():
            out = experts_gathered(flat, routing.expert, routing.gate, *weights)
        else:
            out = experts_sorted(flat, *routing[:2], routing.load, *weights)
        if self.cfg.n_shared_experts:
            out = out + self.shared_experts(flat)
        return rearrange(out, "(b s) d -> b s d", b=x.shape[0]), routing

    def route(self, flat: Tensor) -> Routing:
        """The published rule of this config's generation.  flat [T d]"""
        if self.cfg.topk_method == "noaux_tc":
            bias = self.gate.e_score_correction_bias
            return route_v3(flat, self.gate.weight, bias, self.cfg)
        return route_v2(flat, self.gate.weight, self.cfg)

    def balance_loss(self, routing: Routing, b: int) -> Tensor:
        """What the generation adds to the loss per layer, α included.  → scalar"""
        if self.cfg.topk_method == "noaux_tc":
            return self.cfg.aux_loss_alpha * sequence_balance_loss(routing.affinity, b, self.cfg)
        return v2_balance_losses(routing, self.cfg)
