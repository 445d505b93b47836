"""From REINFORCE to GRPO and its relatives: what a completion's reward does to its tokens.

Read it as four steps, each mending the last. `reinforce`: a paid completion becomes likelier.
`with_baseline`: paid more than its group. `ppo_clip`: several updates from one sampling, but not
far. `grpo`: and not far from a reference. Then `policy_loss`: the same with the switches of Dr.
GRPO, DAPO, GSPO, CISPO, SAPO, VESPO, LUSPO and DeepSeek-V3.2; its values are those of TRL.

Conventions that papers leave open, as in TRL: the deviation is the unbiased one, 1e-4 is added to
it, a group of equal rewards has advantage 0, a completion without tokens adds nothing.

Axes: N completions (B prompts × G of each, a group's side by side), s tokens of a completion.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from minids.reason.settings import Objective

EPS = 1e-4  # added to the deviation
FARTHEST = 20.0  # nats; log-ratios of vespo end here
LEAST = math.log(1e-8)


# The sequence, one idea each


def reinforce(logp: Tensor, mask: Tensor, reward: Tensor) -> Tensor:
    """The gradient of expected reward is E[reward · ∇ log π]. (Williams 1992)

    logp and mask [N s], reward [N] → scalar whose gradient is that estimate, negated.
    """
    return -per_completion(rearrange(reward, "N -> N 1") * logp, mask).mean()


def with_baseline(logp: Tensor, mask: Tensor, reward: Tensor, group: int) -> Tensor:
    """The same on average with less noise: only what is better than its group becomes likelier."""
    return reinforce(logp, mask, advantages(reward, group, "none"))


def ppo_clip(
    logp: Tensor, logp_old: Tensor, mask: Tensor, advantage: Tensor, epsilon: float = 0.2
) -> Tensor:
    """A batch serves several updates; the ratio corrects for it, the clip ends it. (1707.06347)

    logp now, logp_old when it was sampled [N s], advantage [N] → scalar
    """
    a = rearrange(advantage, "N -> N 1")
    ratio = (logp - logp_old).exp()  # [N s]
    gain = torch.minimum(ratio * a, ratio.clamp(1 - epsilon, 1 + epsilon) * a)  # [N s]
    return -per_completion(gain, mask).mean()


def grpo(
    logp: Tensor,
    logp_old: Tensor,
    logp_ref: Tensor,
    mask: Tensor,
    reward: Tensor,
    group: int,
    *,
    epsilon: float = 0.2,
    beta: float = 0.04,
) -> Tensor:
    """The group is the critic, its deviation the scale, a reference the anchor. (2402.03300 eq. 3)

    logp, logp_old, logp_ref, mask [N s], reward [N] → scalar
    """
    clipped = ppo_clip(logp, logp_old, mask, advantages(reward, group), epsilon)
    return clipped + beta * per_completion(k3(logp, logp_ref), mask).mean()


def per_completion(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over each completion's own tokens; 0 for one without any.  x, mask [N s] → [N]"""
    return (x * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def k3(logp: Tensor, logp_ref: Tensor) -> Tensor:
    """π_ref/π − log(π_ref/π) − 1: never negative, and KL(π‖π_ref) on average over π's samples."""
    away = logp_ref - logp  # [N s]
    return away.exp() - away - 1


def advantages(reward: Tensor, group: int, scale: str = "group") -> Tensor:
    """How much better than its group, in deviations of the group, of the batch, or as it is.

    reward [N], NaN for completions that could not be judged: advantage 0, not in the mean → [N].
    """
    by_group = rearrange(reward, "(B G) -> B G", G=group)
    above = by_group - by_group.nanmean(-1, keepdim=True)  # [B G]
    if scale == "group":
        above = above / (deviation(by_group) + EPS)
    elif scale == "batch":
        above = above / (deviation(reward) + EPS)
    return rearrange(above.nan_to_num(0.0), "B G -> (B G)")


def deviation(x: Tensor) -> Tensor:
    """Unbiased deviation over the last axis of what is not NaN.  [… G] → [… 1]; 0 of one value"""
    n = (~x.isnan()).sum(-1, keepdim=True)
    spread = (x - x.nanmean(-1, keepdim=True)).nan_to_num(0.0)
    return (spread.square().sum(-1, keepdim=True) / (n - 1).clamp(min=1)).sqrt()


# The family


class Rollouts(NamedTuple):
    """Completions with what was known when they were sampled."""

    logp_old: Tensor  # [N s] of the learner, before the first update on them
    logp_sampler: Tensor  # [N s] as the sampler recorded them
    logp_ref: Tensor | None  # [N s], None without a reference
    mask: Tensor  # [N s] 1 for tokens of the completion, its end token included
    advantage: Tensor  # [N]


class Sizes(NamedTuple):
    """Of the whole update, so that any split into micro-batches adds up to the same gradient."""

    rows: int
    tokens: float  # of this update
    tokens_per_update: float  # of all that was sampled together, over the updates made of it
    longest: int  # tokens a completion may have


class PolicyLoss(NamedTuple):
    """The loss and what the screen shows; all but `total` without gradient."""

    total: Tensor  # scalar with gradient
    kl: Tensor  # [N s] k3 to the reference; zeros without one
    ratio: Tensor  # [N s] or [N 1]
    clipped: Tensor  # [N s] or [N 1] bool, where the gradient ends at the clip
    kept: Tensor  # [N 1] 0 for completions that V3.2's mask drops


def policy_loss(logp: Tensor, old: Rollouts, rule: Objective, sizes: Sizes) -> PolicyLoss:
    """The loss of some completions of an update.  logp [N s] now, with gradient"""
    a = rearrange(old.advantage, "N -> N 1")
    ratio = (log_ratio(logp, old, rule)).exp()  # [N s] or [N 1]
    loss = -gain(logp, ratio, a, old, rule)
    kept = torch.ones_like(a)  # [N 1]
    if rule.off_policy:
        kept = near_enough(logp, old, rule.off_policy)  # [N 1]
        loss = loss * kept
    kl = torch.zeros_like(logp)  # [N s]
    if rule.beta and old.logp_ref is not None:
        kl = k3(logp, old.logp_ref)  # [N s]
        loss = loss + rule.beta * (kl * ratio if rule.unbiased_kl else kl)
    total = (loss * share(old.mask, rule, sizes)).sum()
    return PolicyLoss(total, kl.detach(), ratio.detach(), at_the_clip(ratio, a, rule), kept)


def log_ratio(logp: Tensor, old: Rollouts, rule: Objective) -> Tensor:
    """log π/π_old per token [N s], or its mean over the completion [N 1]. (GSPO, 2507.18071)"""
    moved = logp - old.logp_old  # [N s]
    if rule.ratio == "token":
        return moved
    return rearrange(per_completion(moved, old.mask), "N -> N 1")


def gain(logp: Tensor, ratio: Tensor, a: Tensor, old: Rollouts, rule: Objective) -> Tensor:
    """What a token adds to the objective.  logp [N s], ratio [N s] or [N 1], a [N 1]"""
    if rule.loss == "cispo":  # the weight is clipped, the gradient never ends (2506.13585)
        return ratio.clamp(max=rule.epsilon_high).detach() * a * logp
    if rule.loss == "sapo":  # a gate that closes slowly instead of a clip (2511.20347)
        steep = torch.where(a > 0, rule.sapo_positive, rule.sapo_negative)  # [N 1]
        return a * torch.sigmoid(steep * (ratio - 1)) * 4 / steep
    if rule.loss == "vespo":
        return gamma_weight(logp, a, old, rule) * a * logp
    inside = ratio.clamp(1 - rule.epsilon_low, 1 + rule.epsilon_high)  # [N s] or [N 1]
    if rule.delta:
        ratio = ratio.clamp(max=rule.delta)
    return torch.minimum(ratio * a, inside * a)


@torch.no_grad()
def gamma_weight(logp: Tensor, a: Tensor, old: Rollouts, rule: Objective) -> Tensor:
    """φ(w) = w^k · e^(λ − λw) of a completion's whole ratio w; φ(1) = 1.  → [N 1]"""
    moved = (logp - old.logp_old).clamp(-FARTHEST, FARTHEST)  # [N s]
    log_w = (moved * old.mask).sum(-1, keepdim=True).clamp(LEAST, FARTHEST)  # [N 1]
    k = torch.where(a >= 0, rule.vespo_k_positive, rule.vespo_k_negative)  # [N 1]
    decay = torch.where(a >= 0, rule.vespo_lambda_positive, rule.vespo_lambda_negative)  # [N 1]
    return (decay + k * log_w - decay * log_w.exp()).exp()


def near_enough(logp: Tensor, old: Rollouts, limit: float) -> Tensor:
    """V3.2: 0 for a bad completion that the policy would hardly write any more. (V3.2 §3)

    Mean of log π_sampler/π over its tokens, against the limit; tokens without a value count 0.
    → [N 1]
    """
    away = (old.logp_sampler - logp.detach()).nan_to_num(0.0)  # [N s]
    far = per_completion(away, old.mask) > limit  # [N]
    return rearrange(~far | (old.advantage >= 0), "N -> N 1").to(logp.dtype)


def share(mask: Tensor, rule: Objective, sizes: Sizes) -> Tensor:
    """The weight of each token in the loss: here the methods differ most.  mask [N s] → [N s]

    grpo and sapo: every completion counts the same, so a token of a long one counts less (the
    length bias that Dr. GRPO names). dapo, bnpo: every token counts the same. dr_grpo: by a
    constant. luspo: a completion counts by its length.
    """
    if rule.loss in ("grpo", "sapo"):
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / sizes.rows
    if rule.loss == "luspo":
        return mask / sizes.rows
    if rule.loss == "dr_grpo":
        return mask / (sizes.rows * sizes.longest)
    return mask / max(1.0, sizes.tokens if rule.loss == "bnpo" else sizes.tokens_per_update)


@torch.no_grad()
def at_the_clip(ratio: Tensor, a: Tensor, rule: Objective) -> Tensor:
    """Where a further move in the wished direction changes nothing any more."""
    if rule.loss in ("sapo", "vespo"):
        return torch.zeros_like(ratio, dtype=torch.bool)
    if rule.loss == "cispo":
        return (ratio > rule.epsilon_high) & (a > 0)
    low, high = 1 - rule.epsilon_low, 1 + rule.epsilon_high
    return (ratio < low) & (a < 0) | (ratio > high) & (a > 0)


def overlong(lengths: Tensor, longest: int, buffer: int) -> Tensor:
    """DAPO's soft penalty: 0 up to longest − buffer tokens, −1 at the end. (2503.14476 eq. 13)

    lengths [N] → [N]
    """
    if not buffer:
        return torch.zeros_like(lengths, dtype=torch.float32)
    return ((longest - buffer - lengths) / buffer).clamp(-1.0, 0.0)
