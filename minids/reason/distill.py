"""Distillation from logits: how a student is pulled towards a teacher's whole distribution.

Forward KL(teacher‖student) makes the student cover all that the teacher might say; reverse
KL(student‖teacher) makes it say only what the teacher would, and is what DeepSeek-V4 minimises on
the student's own samples; between them lies the generalised Jensen–Shannon divergence, with
`weight` 0 and 1 at the ends (2306.13649). Values are TRL's. A temperature divides both logits;
gradients then shrink with its square, which `temperature ** 2` gives back (1503.02531).

Axes: T tokens, V vocabulary, k tokens kept of the teacher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher‖student) per token.  log-probabilities [T V] → [T]"""
    return (teacher.exp() * (teacher - student)).nan_to_num(0.0).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student‖teacher) per token.  log-probabilities [T V] → [T]"""
    return forward_kl(teacher, student)


def jensen_shannon(student: Tensor, teacher: Tensor, weight: float) -> Tensor:
    """weight · KL(teacher‖mix) + (1 − weight) · KL(student‖mix), mix = weight of the teacher.

    log-probabilities [T V] → [T]
    """
    parts = torch.stack([teacher + math.log(weight), student + math.log1p(-weight)])  # [2 T V]
    mix = parts.logsumexp(0)  # [T V]
    return weight * forward_kl(mix, teacher) + (1 - weight) * forward_kl(mix, student)


def divergence(
    student: Tensor, teacher: Tensor, *, weight: float = 0.0, temperature: float = 1.0
) -> Tensor:
    """Between two sets of logits: forward KL at weight 0, reverse at 1, between them the JSD.

    logits [T V] → [T]. Not yet times temperature², see `distill_loss`.
    """
    check(weight, temperature)
    s = (student / temperature).log_softmax(-1)  # [T V]
    t = (teacher / temperature).log_softmax(-1)  # [T V]
    if weight == 0:
        return forward_kl(s, t)
    return reverse_kl(s, t) if weight == 1 else jensen_shannon(s, t, weight)


def distill_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    *,
    weight: float = 0.0,
    temperature: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """Mean over the tokens of a completion, times temperature²; 0 where no token counts.

    logits [T V], mask [T] → scalar. `top_k` keeps so many of the teacher's likeliest tokens, as a
    teacher that was recorded on disk must.
    """
    if top_k and weight == 1:
        what = "with reverse KL: a token that was cut would cost infinitely much"
        raise UserError("distill.top_k", what, "a weight below 1")
    if top_k:
        teacher = keep_top(teacher, top_k)
    each = divergence(student, teacher, weight=weight, temperature=temperature)  # [T]
    return temperature**2 * (each * mask).sum() / mask.sum().clamp(min=1)


def keep_top(logits: Tensor, k: int) -> Tensor:
    """All but the k largest at a probability of zero.  [T V] → [T V]"""
    if k >= logits.shape[-1]:
        return logits
    best = logits.topk(k, dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, best.indices, best.values)


def check(weight: float, temperature: float) -> None:
    """Raises UserError for numbers without a meaning."""
    if not 0 <= weight <= 1:
        raise UserError("distill.weight", f"{weight} is out of range", "0 (forward) … 1 (reverse)")
    if not 0.01 <= temperature <= 100:
        raise UserError("distill.temperature", f"{temperature} is out of range", "0.01 … 100")


def check_vocabulary(student: Tokenizer, teacher: Tokenizer) -> None:
    """Logits can be compared over one vocabulary only; traces of text need none."""
    if student.fingerprint != teacher.fingerprint:
        raise UserError(
            "teacher",
            f"its vocabulary ({teacher.vocab_size:,} tokens) is not the student's "
            f"({student.vocab_size:,})",
            "one vocabulary",
            hint="learn from its traces instead",
        )
