"""DeepSeekMoE: many small experts, a few chosen per token, some shared by all.

A router scores every expert for every token, keeps k of them and mixes their answers by the
scores. What keeps the experts busy differs: V2 adds losses that pull on the scores; V3 adds a bias
to the *choice* only and moves it by a sign rule after each step, so the language model's gradient
is left alone. Axes: T tokens (b·s), b sequences, s tokens of one, d hidden_size, e experts,
k experts per token, G groups.  (DeepSeekMoE §3; V2 §2.2; V3 §2.1.2)
"""

from typing import NamedTuple

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from minids.config import ModelConfig
from minids.nn.experts import Experts
from minids.nn.ffn import SwiGLU


class Routing(NamedTuple):
    """Who goes where, and how much each answer counts."""

    expert: Tensor  # [T k] int64, chosen experts, best first
    gate: Tensor  # [T k] float32, weight of each answer
    affinity: Tensor  # [T e] float32, score of every expert before any bias
    load: Tensor  # [e] int64, visits per expert


def route_v3(x: Tensor, centroid: Tensor, bias: Tensor, cfg: ModelConfig) -> Routing:
    """Choose by affinity plus bias, weigh by affinity alone. (DeepSeek-V3 §2.1.2, eq. 12–16)

    x [T d], centroid [e d], bias [e] float32 without gradient → Routing. Differs from V2: sigmoid
    instead of softmax, so experts do not compete; a group counts as its two best experts do.
    """
    affinity = score(x, centroid, cfg)  # [T e]
    choice = affinity + bias  # [T e] steers which …
    if cfg.n_group > 1:
        grouped = rearrange(choice, "T (G e) -> T G e", G=cfg.n_group)
        choice = keep_groups(choice, grouped.topk(2, dim=-1).values.sum(-1), cfg)  # [T e]
    expert = largest(choice, cfg.num_experts_per_tok)  # [T k]
    gate = affinity.gather(-1, expert)  # [T k] … never how much
    return Routing(expert, weigh(gate, cfg), affinity, count_visits(expert, cfg.n_routed_experts))


def route_v2(x: Tensor, centroid: Tensor, cfg: ModelConfig) -> Routing:
    """Choose and weigh by one softmax over all experts. (DeepSeek-V2 §2.2.1, 2.2.2)

    x [T d], centroid [e d] → Routing. A group (device) counts as its best expert does. The released
    V2 models never renormalise, they scale.
    """
    affinity = choice = score(x, centroid, cfg)  # [T e]
    if cfg.topk_method == "group_limited_greedy" and cfg.n_group > 1:
        best = reduce(affinity, "T (G e) -> T G", "max", G=cfg.n_group)
        choice = keep_groups(affinity, best, cfg)  # [T e]
    expert = largest(choice, cfg.num_experts_per_tok)  # [T k]
    gate = affinity.gather(-1, expert)  # [T k]
    return Routing(expert, weigh(gate, cfg), affinity, count_visits(expert, cfg.n_routed_experts))


def replayed(routing: Routing, expert: Tensor, cfg: ModelConfig) -> Routing:
    """Experts that somebody chose before, weighed by today's affinity. (V3.2 §3.1, keep routing)

    expert [T k], −1 where nobody chose → Routing. The gate keeps its gradient, the choice is given.
    """
    expert = torch.where(expert < 0, routing.expert, expert)  # [T k]
    gate = routing.affinity.gather(-1, expert)  # [T k]
    load = count_visits(expert, cfg.n_routed_experts)  # [e]
    return Routing(expert, weigh(gate, cfg), routing.affinity, load)


def score(x: Tensor, centroid: Tensor, cfg: ModelConfig) -> Tensor:
    """How well each expert suits each token, float32 at least: a rounding sends tokens elsewhere.

    x [T d], centroid [e d] → [T e]
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    logit = F.linear(x.to(wide), centroid.to(wide))  # [T e]
    if cfg.scoring_func == "softmax":  # V2
        return logit.softmax(-1)
    if cfg.scoring_func == "sigmoid":  # V3
        return logit.sigmoid()
    return F.softplus(logit).sqrt()  # V4


def largest(choice: Tensor, k: int) -> Tensor:
    """Indices of the k largest, best first; a tie goes to the lower index. (`topk` may not)

    choice [T …] → [T k]
    """
    return torch.sort(choice, dim=-1, descending=True, stable=True).indices[..., :k]


def keep_groups(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    """Forbid all experts outside the `topk_group` best groups: none far away is ever asked.

    choice [T e], group_score [T G] → [T e]. Forbidden means −∞, not 0: with a bias, allowed choices
    may be negative.
    """
    best = largest(group_score, cfg.topk_group)  # [T kept]
    allowed = torch.zeros_like(group_score, dtype=torch.bool).scatter(-1, best, True)  # [T G]
    allowed = repeat(allowed, "T G -> T (G e)", e=choice.shape[-1] // cfg.n_group)
    return choice.masked_fill(~allowed, float("-inf"))


def weigh(gate: Tensor, cfg: ModelConfig) -> Tensor:
    """The chosen affinities as weights of the answers.  [T k] → [T k]"""
    if cfg.norm_topk_prob:
        gate = gate / (gate.sum(-1, keepdim=True) + 1e-20)  # [T k]
    return gate * cfg.routed_scaling_factor


def count_visits(expert: Tensor, n_experts: int) -> Tensor:
    """expert [T k] → [e] int64"""
    return torch.bincount(expert.flatten(), minlength=n_experts)


def updated_bias(bias: Tensor, load: Tensor, speed: float) -> Tensor:
    """V3's balance rule: busy experts a step down, idle ones a step up. (V3 §2.1.2)

    bias [e] float32, load [e] visits of the whole batch, speed γ → [e]. As published, the steps
    need not add up to zero; only differences between biases steer.
    """
    load = load.to(bias)  # [e] its dtype, its device
    return bias + speed * torch.sign(load.mean() - load)


def v3_balance_loss(routing: Routing, b: int, cfg: ModelConfig) -> Tensor:
    """V3's small extra loss: no expert should be over-used within one sequence. (V3 eq. 17–20)

    routing of b sequences → [b], Σ_i f_i P_i times α; evenly spread: α. f_i counts the tokens whose
    k best, without bias and groups, hold expert i; P_i is its mean share of the affinity.
    """
    affinity = rearrange(routing.affinity, "(b s) e -> b s e", b=b)
    best = affinity.topk(cfg.num_experts_per_tok, dim=-1).indices  # [b s k]
    f = how_often(best, cfg)  # [b e]
    share = affinity / (affinity.sum(-1, keepdim=True) + 1e-20)  # [b s e]
    p = reduce(share, "b s e -> b e", "mean")
    return cfg.aux_loss_alpha * (f * p).sum(-1)


def v2_balance_loss(routing: Routing, b: int, cfg: ModelConfig) -> Tensor:
    """V2's three losses: experts, devices, and what devices receive. (V2 eq. 23–31)

    routing of b sequences → [b], each loss times its α, per sequence as in the released code. A
    device is a group of experts. Each is Σ how often (no gradient) × how much (gradient).
    """
    affinity = rearrange(routing.affinity, "(b s) e -> b s e", b=b)
    expert = rearrange(routing.expert, "(b s) k -> b s k", b=b)
    f, p = how_often(expert, cfg), reduce(affinity, "b s e -> b e", "mean")
    f_device = reduce(f, "b (G e) -> b G", "mean", G=cfg.n_group)
    p_device = reduce(p, "b (G e) -> b G", "sum", G=cfg.n_group)
    device = expert // (cfg.n_routed_experts // cfg.n_group)  # [b s k]
    sent = affinity.new_zeros(*affinity.shape[:2], cfg.n_group).scatter(-1, device, 1.0)  # [b s G]
    f_sent = reduce(sent, "b s G -> b G", "mean") * cfg.n_group / cfg.topk_group  # [b G]
    return (
        cfg.aux_loss_alpha * (f * p).sum(-1)
        + cfg.device_loss_alpha * (f_device * p_device).sum(-1)
        + cfg.comm_loss_alpha * (f_sent * p_device).sum(-1)
    )


def how_often(expert: Tensor, cfg: ModelConfig) -> Tensor:
    """f_i: visits of expert i in a sequence, 1 if evenly spread.  expert [b s k] → [b e]"""
    b, s, k = expert.shape
    visits = torch.zeros(b, cfg.n_routed_experts, device=expert.device)  # [b e]
    ones = torch.ones(b, s * k, device=expert.device)  # [b s*k]
    visits = visits.scatter_add(-1, rearrange(expert, "b s k -> b (s k)"), ones)  # [b e]
    return visits * (cfg.n_routed_experts / (k * s))


class Gate(nn.Module):
    """The router's memory: a centroid per expert and V3's selection bias."""

    e_score_correction_bias: Tensor

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        e, d = cfg.n_routed_experts, cfg.hidden_size
        self.weight = nn.Parameter(torch.empty(e, d).normal_(std=d**-0.5))
        if cfg.topk_method == "noaux_tc":
            self.register_buffer("e_score_correction_bias", torch.zeros(e, dtype=torch.float32))


class MoE(nn.Module):
    """x [b s d] → Σ gate · expert(x) + shared(x) [b s d], and the Routing that was used."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        d, f = cfg.hidden_size, cfg.moe_intermediate_size
        self.gate = Gate(cfg)
        self.experts = Experts(cfg.n_routed_experts, d, f)
        if cfg.n_shared_experts:
            self.shared_experts = SwiGLU(d, f * cfg.n_shared_experts)

    def forward(self, x: Tensor, replay: Tensor | None = None) -> tuple[Tensor, Routing]:
        flat = rearrange(x, "b s d -> (b s) d")
        routing = self.route(flat)
        if replay is not None:
            routing = replayed(routing, replay, self.cfg)
        out = self.experts(flat, routing.expert, routing.gate, routing.load)  # [T d]
        if self.cfg.n_shared_experts:
            out = out + self.shared_experts(flat)  # [T d]
        return rearrange(out, "(b s) d -> b s d", b=x.shape[0]), routing

    def route(self, flat: Tensor) -> Routing:
        """The rule of this config's generation.  flat [T d]"""
        if self.cfg.topk_method == "noaux_tc":
            bias = self.gate.e_score_correction_bias
            return route_v3(flat, self.gate.weight, bias, self.cfg)
        return route_v2(flat, self.gate.weight, self.cfg)

    def balance_loss(self, routing: Routing, b: int) -> Tensor:
        """What the generation adds to the loss of each sequence, α included.  → [b]"""
        if self.cfg.topk_method == "noaux_tc":
            return v3_balance_loss(routing, b, self.cfg)
        return v2_balance_loss(routing, b, self.cfg)
