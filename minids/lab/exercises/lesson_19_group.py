"""Lesson 19: a completion's reward becomes a gradient; the group becomes the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.reason.grpo import EPS, advantages, deviation, per_completion, reinforce

DTYPES = torch.float64, torch.float32


def tokens(generator: torch.Generator, n: int, s: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Log-probabilities and a mask of completions of all lengths, the last one empty → [N s] both.

    Behind an end stand numbers that must not count.
    """
    logp = -3 * torch.rand(n, s, generator=generator, dtype=dtype)
    length = torch.randint(1, s + 1, (n,), generator=generator)  # [N]
    length[0], length[-1] = s, 0 if n > 2 else s
    mask = (torch.arange(s) < length[:, None]).to(dtype)  # [N s]
    return logp, mask


def with_gradient(answer: Any, case: Case) -> Any:
    """The loss, and its gradient by logp, the first argument."""
    logp = case.args[0].clone().requires_grad_()
    loss = answer(logp, *case.args[1:], **case.options)
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return loss, "without gradient"
    (gradient,) = torch.autograd.grad(loss.sum(), logp)
    return loss.detach(), gradient


# 19.1 reinforce


def paid(generator: torch.Generator) -> Iterator[Case]:
    """Rewards of both signs, padding, an empty completion."""
    for n, s, dtype in ((1, 1, DTYPES[0]), (2, 3, DTYPES[0]), (4, 6, DTYPES[1]), (7, 5, DTYPES[0])):
        logp, mask = tokens(generator, n, s, dtype)
        reward = torch.randn(n, generator=generator, dtype=dtype)
        yield Case((logp, mask, reward), f"N={n} s={s}")


REINFORCE = Exercise(
    id="19.1",
    name="reinforce",
    title="a loss whose gradient is that of expected reward",
    reference=reinforce,
    cases=paid,
    mistakes=(
        Mistake(
            "the sign is missing",
            "An optimizer goes down. Without the sign paid completions become less likely.",
            lambda logp, mask, reward: -reinforce(logp, mask, reward),
        ),
        Mistake(
            "probabilities instead of their logs",
            "The gradient of p favours what is likely already; it is the gradient of log p that "
            "makes the mean over samples right.",
            lambda logp, mask, reward: -per_completion(reward[:, None] * logp.exp(), mask).mean(),
        ),
        Mistake(
            "padding is paid",
            "What stands behind the end of a completion counts as if the policy had chosen it.",
            lambda logp, mask, reward: reinforce(logp, torch.ones_like(mask), reward),
        ),
        Mistake(
            "summed over the tokens",
            "Every completion is to count as the mean over its own tokens. Summed, the long "
            "ones take over.",
            lambda logp, mask, reward: -(reward[:, None] * logp * mask).sum(-1).mean(),
        ),
        Mistake(
            "a mean over the whole table",
            "Divided by all places, padding included, a short completion hardly counts.",
            lambda logp, mask, reward: -(reward[:, None] * logp * mask).mean(),
        ),
        Mistake(
            "a mean over all tokens",
            "One division for the batch: a completion counts by its length, not once.",
            lambda logp, mask, reward: -(reward[:, None] * logp * mask).sum() / mask.sum(),
        ),
        Mistake(
            "a sum over completions",
            "The step grows with the size of the batch.",
            lambda logp, mask, reward: len(reward) * reinforce(logp, mask, reward),
        ),
        Mistake(
            "the reward is left out",
            "All completions become likelier, whatever they were paid.",
            lambda logp, mask, reward: reinforce(logp, mask, torch.ones_like(reward)),
        ),
    ),
    hints=(
        "The derivative of an expectation: which tokens did the policy choose, and what for?",
        "Each completion gives the mean of log-probabilities over its own tokens, weighted by "
        "its reward; then the mean over completions.",
        "reward needs an axis for tokens. per_completion(x, mask) is a mean over own tokens; "
        "what goes up in reward must go down in loss.",
    ),
    call=with_gradient,
)


# 19.2 advantages


def rewards(generator: torch.Generator) -> Iterator[Case]:
    """Groups that differ in mean and spread, even groups, groups of one, one not judged."""
    yield Case((torch.tensor([1.0, 0.0, 0.0, 1.0]).double(), 2), "two pairs")
    yield Case((torch.tensor([1.0, 0.0, 0.0, 0.0]).double(), 4), "one right of four")
    yield Case((torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0]), 3), "a group of equals")
    yield Case((torch.tensor([1.0, 0.0]).double(), 1), "groups of one")
    unjudged = torch.tensor([1.0, float("nan"), 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]).double()
    yield Case((unjudged, 4), "one could not be judged")
    for b, group, dtype in ((3, 4, DTYPES[0]), (2, 5, DTYPES[1]), (5, 3, DTYPES[0])):
        reward = torch.randn(b * group, generator=generator, dtype=dtype)
        reward = reward + torch.arange(b * group).div(group, rounding_mode="floor")
        yield Case((reward, group), f"B={b} G={group}")
        yield Case((reward, group, "none"), f"B={b} G={group}, as it is")
    reward = torch.randn(12, generator=generator, dtype=DTYPES[0])
    reward[5:] += 3
    yield Case((reward, 4, "batch"), "deviation of the batch")
    yield Case((EPS * reward, 4, "batch"), "hardly a deviation")


def grouped(
    mean=lambda x: x.nanmean(-1, keepdim=True),
    spread=deviation,
    eps=EPS,
    fill=lambda x: x.nan_to_num(0.0),
):
    """advantages, with a part of it otherwise."""

    def answer(reward, group, scale="group"):
        x = reward.reshape(-1, group)
        above = x - mean(x)
        if scale == "group":
            above = above / (spread(x) + eps)
        elif scale == "batch":
            above = above / (spread(reward) + eps)
        return fill(above).reshape(-1)

    return answer


def biased(x):
    n = (~x.isnan()).sum(-1, keepdim=True)
    away = (x - x.nanmean(-1, keepdim=True)).nan_to_num(0.0)
    return (away.square().sum(-1, keepdim=True) / n).sqrt()


def interleaved(reward, group, scale="group"):
    by_group = reward.reshape(group, -1).T
    found = advantages(by_group.reshape(-1), group, scale)
    return found.reshape(-1, group).T.reshape(-1)


ADVANTAGE = Exercise(
    id="19.2",
    name="advantages",
    title="better than its group, in deviations",
    reference=advantages,
    cases=rewards,
    mistakes=(
        Mistake(
            "the mean of the batch",
            "Easy problems look good and hard ones bad. The baseline is the group's own mean.",
            grouped(mean=lambda x: x.nanmean()),
        ),
        Mistake(
            "the biased deviation",
            "Divided by G instead of G − 1. TRL and this library take the unbiased one; papers "
            "do not say, so the code must.",
            grouped(spread=biased),
        ),
        Mistake(
            "the variance instead of its root",
            "Divided by the square of the spread, groups with little spread take over.",
            grouped(spread=lambda x: deviation(x).square()),
        ),
        Mistake(
            "never divided",
            "The difference to the mean stays as it is, whichever scale was asked for.",
            lambda reward, group, scale="group": advantages(reward, group, "none"),  # noqa: ARG005
        ),
        Mistake(
            "always divided by the group",
            "The scale that was asked for is not looked at.",
            lambda reward, group, scale="group": advantages(reward, group),  # noqa: ARG005
        ),
        Mistake(
            "the group runs down the columns",
            "The answers of a problem stand side by side; here every group mixes problems.",
            interleaved,
        ),
        Mistake(
            "one unjudged spoils its group",
            "NaN spreads from one completion to all of its group, and from there into weights.",
            grouped(
                mean=lambda x: x.mean(-1, keepdim=True),
                fill=lambda x: x,
            ),
        ),
        Mistake(
            "unjudged counts as nothing right",
            "A completion that could not be judged enters the mean as a zero.",
            lambda reward, group, scale="group": advantages(reward.nan_to_num(0.0), group, scale),
        ),
        Mistake(
            "no mean is taken off",
            "Rewards are only scaled. A group in which all are paid is pushed up as a whole.",
            grouped(mean=lambda x: 0 * x.nanmean(-1, keepdim=True)),
        ),
    ),
    hints=(
        "Which completions answer the same problem, and what is the middle of those?",
        "Give the rewards the shape [B G]; nanmean over G, deviation over G or over all, EPS "
        "beside it; a NaN at the end is an advantage of 0.",
        "Three scales: divide by the deviation of the group, by that of all rewards, or not at "
        "all. A group of equals has deviation 0, so EPS decides: 0 over EPS is 0.",
    ),
)
