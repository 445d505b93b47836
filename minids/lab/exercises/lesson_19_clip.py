"""Lesson 19: several updates from one sampling, the way back to a reference, a token's weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.exercises.lesson_19_group import DTYPES, tokens, with_gradient
from minids.reason.grpo import Sizes, k3, per_completion, ppo_clip, share
from minids.reason.settings import Objective

# 19.3 ppo_clip


def moved(generator: torch.Generator) -> Iterator[Case]:
    """Ratios on both sides of the clip, advantages of both signs, none moved at all."""
    for n, s, dtype in ((1, 1, DTYPES[0]), (2, 4, DTYPES[0]), (5, 6, DTYPES[1]), (6, 5, DTYPES[0])):
        logp, mask = tokens(generator, n, s, dtype)
        old = logp + 0.5 * torch.randn(n, s, generator=generator, dtype=dtype)
        advantage = torch.randn(n, generator=generator, dtype=dtype)
        advantage[0] = -1.0 if n > 1 else 1.0
        yield Case((logp, old, mask, advantage), f"N={n} s={s}")
        if n == 5:
            yield Case((logp, logp.clone(), mask, advantage), "the first update")
        if n == 6:
            yield Case((logp, old, mask, advantage, 0.45), "a wider clip")


def clipping(
    ratio=lambda now, old: (now - old).exp(),
    inside=lambda x, e: x.clamp(1 - e, 1 + e),
    gain=lambda x, cut, a: torch.minimum(x * a, cut * a),
    total=lambda x, mask: per_completion(x, mask).mean(),
):
    """ppo_clip, with a part of it otherwise."""

    def answer(logp, logp_old, mask, advantage, epsilon=0.2):
        a, x = advantage[:, None], ratio(logp, logp_old)
        return -total(gain(x, inside(x, epsilon), a), mask)

    return answer


CLIP = Exercise(
    id="19.3",
    name="ppo_clip",
    title="several updates, but not far",
    reference=ppo_clip,
    cases=moved,
    mistakes=(
        Mistake(
            "the minimum before the advantage",
            "The smaller ratio is taken, then multiplied. For A < 0 that is the wrong side: a "
            "bad token that became likelier is let off.",
            clipping(gain=lambda x, cut, a: torch.minimum(x, cut) * a),
        ),
        Mistake(
            "clipped on both sides",
            "Only the clipped ratio counts. A token that has moved the wrong way gets no "
            "gradient any more and stays there.",
            clipping(gain=lambda x, cut, a: cut * a),  # noqa: ARG005
        ),
        Mistake(
            "the maximum is taken",
            "The better of both sides counts: the objective rewards going far.",
            clipping(gain=lambda x, cut, a: torch.maximum(x * a, cut * a)),
        ),
        Mistake(
            "no clip at all",
            "The ratio alone corrects for the move and sets it no end.",
            clipping(gain=lambda x, cut, a: x * a),  # noqa: ARG005
        ),
        Mistake(
            "the ratio upside down",
            "Old over new: what became likelier counts less.",
            clipping(ratio=lambda now, old: (old - now).exp()),
        ),
        Mistake(
            "differences of logs as ratio",
            "The difference of logs is about ratio − 1. Nothing moved is then 0, and outside.",
            clipping(ratio=lambda now, old: now - old),
        ),
        Mistake(
            "clipped from above only",
            "A bad token is pushed down without end: the lower side of the clip is missing.",
            clipping(inside=lambda x, e: x.clamp(max=1 + e)),
        ),
        Mistake(
            "a mean over all tokens",
            "One division for the batch: a completion counts by its length, not once.",
            clipping(total=lambda x, mask: (x * mask).sum() / mask.sum()),
        ),
        Mistake(
            "padding is counted",
            "What stands behind the end of a completion has a ratio too. It is nobody's.",
            clipping(total=lambda x, mask: x.mean() + 0 * mask.sum()),
        ),
        Mistake(
            "the sign is missing",
            "An optimizer goes down; the gain is to go up.",
            lambda logp, logp_old, mask, advantage, epsilon=0.2: (
                -ppo_clip(logp, logp_old, mask, advantage, epsilon)
            ),
        ),
    ),
    hints=(
        "Two gains for every token: as it has moved, and as if it had moved to the border.",
        "Each is a ratio times the advantage; the lower of the two counts, so that moving on in "
        "the wished direction brings nothing.",
        "Ratio from the difference of logs; clamp it between 1 − epsilon and 1 + epsilon; the "
        "minimum of both products; a mean over own tokens, then over completions, negated.",
    ),
    call=with_gradient,
)


# 19.4 k3


def away_from(generator: torch.Generator) -> Iterator[Case]:
    """Likelier and less likely than under the reference, far and not at all."""
    for shape, dtype in (((1, 1), DTYPES[0]), ((2, 3), DTYPES[0]), ((4, 5), DTYPES[1])):
        logp = -3 * torch.rand(shape, generator=generator, dtype=dtype)
        yield Case((logp, logp + 0.7 * torch.randn(shape, generator=generator, dtype=dtype)))
    logp = -torch.rand(3, 4, generator=generator, dtype=DTYPES[0])
    yield Case((logp, logp.clone()), "nothing moved")
    yield Case((logp, logp - 3), "far away")


K3 = Exercise(
    id="19.4",
    name="k3",
    title="the distance to a reference, per token",
    reference=k3,
    cases=away_from,
    mistakes=(
        Mistake(
            "the plain difference",
            "Right on average, but negative half of the time, and far noisier.",
            lambda logp, logp_ref: logp - logp_ref,
        ),
        Mistake(
            "half the square",
            "Never negative and little noise, but not the KL on average.",
            lambda logp, logp_ref: (logp - logp_ref).square() / 2,
        ),
        Mistake(
            "the other direction",
            "With π over π_ref it is on average another number than KL(π‖π_ref).",
            lambda logp, logp_ref: k3(logp_ref, logp),
        ),
        Mistake(
            "one is not taken off",
            "Where nothing moved it gives 1 instead of 0.",
            lambda logp, logp_ref: k3(logp, logp_ref) + 1,
        ),
        Mistake(
            "the log is added",
            "The sign of the logarithm: the first orders no longer cancel.",
            lambda logp, logp_ref: (logp_ref - logp).exp() + (logp_ref - logp) - 1,
        ),
        Mistake(
            "the ratio alone",
            "π_ref/π − 1 is 0 on average, whatever the distance is.",
            lambda logp, logp_ref: (logp_ref - logp).exp() - 1,
        ),
    ),
    hints=(
        "x − log x − 1 is never negative, and zero at x = 1. What is x here?",
        "x is π_ref over π for the token that was chosen; its log is a difference.",
        "One difference of logs, used twice: once with exp, once as it is.",
    ),
)


# 19.5 share

KINDS = "grpo", "dr_grpo", "dapo", "bnpo", "luspo"


def parts(generator: torch.Generator) -> Iterator[Case]:
    """Every kind of mean; the mask is a part of a larger update."""
    for loss in KINDS:
        for n, s in ((2, 4), (5, 7)):
            _, mask = tokens(generator, n, s, DTYPES[0])
            own = mask.sum().item()
            sizes = Sizes(n + 3, own + 5.0, own + 2.5, s + 4)
            yield Case((mask, Objective(loss=loss), sizes), f"{loss} N={n}")


def weighing(own=None, **changed):
    """share, with the losses in `changed` weighed otherwise."""

    def answer(mask, rule, sizes):
        how = changed.get(rule.loss, own)
        return how(mask, sizes) if how else share(mask, rule, sizes)

    return answer


def each_mean(mask, sizes):
    return mask / mask.sum(-1, keepdim=True).clamp(min=1) / sizes.rows


SHARE = Exercise(
    id="19.5",
    name="share",
    title="what a token counts",
    reference=share,
    cases=parts,
    mistakes=(
        Mistake(
            "one mean for all",
            "Every method weighs as GRPO does. It is here that they differ most.",
            weighing(own=each_mean),
        ),
        Mistake(
            "rows of this part",
            "Divided by the completions at hand instead of those of the update: cut the batch "
            "into two, and the gradient doubles.",
            weighing(
                grpo=lambda mask, sizes: each_mean(mask, sizes) * sizes.rows / len(mask),
                luspo=lambda mask, _: mask / len(mask),
                dr_grpo=lambda mask, sizes: mask / (len(mask) * sizes.longest),
            ),
        ),
        Mistake(
            "tokens of this part",
            "Divided by the tokens at hand instead of those of the update: micro-batches with "
            "few tokens weigh more.",
            weighing(
                dapo=lambda mask, _: mask / mask.sum(),
                bnpo=lambda mask, _: mask / mask.sum(),
            ),
        ),
        Mistake(
            "dapo and bnpo exchanged",
            "bnpo divides by the tokens of this update, dapo by all that was sampled together, "
            "over its updates.",
            weighing(
                dapo=lambda mask, sizes: mask / sizes.tokens,
                bnpo=lambda mask, sizes: mask / sizes.tokens_per_update,
            ),
        ),
        Mistake(
            "dr_grpo by its own length",
            "Divided by each completion's length, the bias is back that Dr. GRPO takes out; the "
            "longest allowed length is a constant.",
            weighing(dr_grpo=each_mean),
        ),
        Mistake(
            "dr_grpo by the longest at hand",
            "The width of the table changes from batch to batch, and with it the step.",
            weighing(dr_grpo=lambda mask, sizes: mask / (sizes.rows * mask.shape[1])),
        ),
        Mistake(
            "an empty one divides by zero",
            "A completion without tokens becomes NaN, and so does every weight after the step.",
            weighing(grpo=lambda mask, sizes: mask / mask.sum(-1, keepdim=True) / sizes.rows),
        ),
        Mistake(
            "luspo by the tokens",
            "There a completion counts by its length: only the number of rows divides.",
            weighing(luspo=lambda mask, sizes: mask / sizes.tokens),
        ),
    ),
    hints=(
        "For each method: what adds up to 1, a completion's tokens or the batch's?",
        "Everything is the mask over something: its own row's sum times rows, rows times the "
        "longest allowed, tokens of one kind or another, or rows alone.",
        "`sizes` is of the whole update, so that any split adds up; only an empty row needs a "
        "clamp. Take the losses one by one.",
    ),
)
