"""Lesson 06: instruments that touch the model.  Axes: b rows, s positions, V vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from minids.lab.evidence import future_leak, update_ratio
from minids.lab.exercise import Case, Exercise, Mistake

# 06.1 future_leak


def reader(V: int, sees: str, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A model of a kind: each position says a weighted sum of what it sees."""
    table = torch.randn(V, V, generator=generator, dtype=torch.float64)
    offset = {"its past": 0, "one ahead": 1, "three ahead": 3, "everything": 1 << 20}[sees]

    def predict(tokens: Tensor) -> Tensor:
        x = table[tokens]  # [b s V]
        s = tokens.shape[1]
        weight = torch.ones(s, s, dtype=x.dtype).tril(min(offset, s))  # [s t]
        return torch.tanh(weight / weight.sum(-1, keepdim=True) @ x)

    return predict


def leak_cases(generator: torch.Generator) -> Iterator[Case]:
    """Causal ones, and three kinds of leak."""
    settings = [
        ("its past", 1, 4, 2), ("one ahead", 1, 5, 2), ("everything", 2, 6, 3),
        ("three ahead", 2, 9, 4), ("one ahead", 3, 8, 7), ("its past", 2, 7, 1),
    ]  # fmt: skip
    for sees, b, s, at in settings:
        V = 11
        tokens = torch.randint(V, (b, s), generator=generator)  # [b s]
        yield Case((reader(V, sees, generator), tokens, at, V), f"a model that sees {sees}")


@torch.no_grad()
def all_positions(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, at:] = (changed[:, at:] + 1) % vocab_size
    return (predict(changed) - predict(tokens)).abs().max().item()


@torch.no_grad()
def one_too_many(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, at:] = (changed[:, at:] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, : at + 1].abs().max().item()


@torch.no_grad()
def after_it(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, at + 1 :] = (changed[:, at + 1 :] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, :at].abs().max().item()


@torch.no_grad()
def only_the_last(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, :at].abs().max().item()


@torch.no_grad()
def signed(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, at:] = (changed[:, at:] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, :at].mean().item()


@torch.no_grad()
def past_changed(predict, tokens, at, vocab_size):
    changed = tokens.clone()
    changed[:, :at] = (changed[:, :at] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, at:].abs().max().item()


@torch.no_grad()
def same_tensor(predict, tokens, at, vocab_size):
    changed = tokens
    changed[:, at:] = (changed[:, at:] + 1) % vocab_size
    return (predict(changed) - predict(tokens))[:, :at].abs().max().item()


LEAK = Exercise(
    "06.1",
    "future_leak",
    "does the future leak into the past?",
    future_leak,
    leak_cases,
    (
        Mistake(
            "all positions compared",
            "Positions from `at` on read the changed tokens, so of course they say something else. "
            "Every honest model would be called leaky.",
            all_positions,
        ),
        Mistake(
            "one position too many",
            "Position `at` reads its own token, which was changed. It may answer differently.",
            one_too_many,
        ),
        Mistake(
            "starts one too late",
            "Token `at` itself is left as it was, but it is just the one that a mask off by one "
            "shows to the position before. This detector misses the commonest leak.",
            after_it,
        ),
        Mistake(
            "only the last token changed",
            "A leak of one position passes unseen unless `at` is the last place.",
            only_the_last,
        ),
        Mistake(
            "signed mean",
            "Changes up and down cancel, and one leaking position drowns among many honest ones.",
            signed,
        ),
        Mistake(
            "past and future exchanged",
            "The past was changed and the future compared. That it follows is what a model is for.",
            past_changed,
        ),
        Mistake(
            "compared with itself",
            "Both predictions are made from the changed tokens: without clone() there is one "
            "tensor under two names. The answer is always 0.",
            same_tensor,
        ),
    ),
    (
        "What may position 3 of a causal model depend on? Change everything else.",
        "Two forward passes, one with other tokens from `at` on; compare what comes before `at`.",
        "Clone, add 1 modulo the vocabulary from `at` on, predict both, take positions below `at`, "
        "and of all differences the largest in size.",
    ),
    atol=1e-9,
)

# 06.2 update_ratio


def ratio_cases(generator: torch.Generator) -> Iterator[Case]:
    """One weight, several of different size, one that did not move, one that was zero."""
    for shapes in ([(2,)], [(3, 4), (5,)], [(2, 3), (4, 4), (7,)]):
        old = [
            torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0**i
            for i, shape in enumerate(shapes)
        ]
        new = [
            w + 0.1 * 3.0**-i * torch.randn(w.shape, generator=generator, dtype=torch.float64)
            for i, w in enumerate(old)
        ]
        yield Case((old, new), f"{len(old)} weights")
    still = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    yield Case(([still, 2 * still], [still.clone(), -2 * still]), "one did not move, one turned")
    zero = torch.zeros(3, dtype=torch.float64)  # [3]
    yield Case(([zero], [zero.clone()]), "zero, and stays")


def mean_moves(before, after):
    pairs = zip(before, after, strict=True)
    return torch.stack([(b - a).mean().abs() / a.square().mean().sqrt() for a, b in pairs])


def over_the_new(before, after):
    pairs = zip(before, after, strict=True)
    return torch.stack(
        [(b - a).square().mean().sqrt() / b.square().mean().sqrt() for a, b in pairs]
    )


def sizes_compared(before, after):
    pairs = zip(before, after, strict=True)
    return torch.stack([(b.norm() - a.norm()).abs() / a.norm() for a, b in pairs])


def not_relative(before, after):
    return torch.stack([(b - a).square().mean().sqrt() for a, b in zip(before, after, strict=True)])


def root_missing(before, after):
    pairs = zip(before, after, strict=True)
    return torch.stack([(b - a).square().mean() / a.square().mean() for a, b in pairs])


def number_by_number(before, after):
    pairs = zip(before, after, strict=True)
    return torch.stack([((b - a).abs() / a.abs()).mean() for a, b in pairs])


RATIO = Exercise(
    "06.2",
    "update_ratio",
    "how far one step moves the weights",
    update_ratio,
    ratio_cases,
    (
        Mistake(
            "plain mean of changes",
            "Changes up and down cancel: a step that moves every number looks like none.",
            mean_moves,
        ),
        Mistake(
            "sizes compared",
            "The length of the weight may stay while all of it turns. The change itself counts.",
            sizes_compared,
        ),
        Mistake(
            "not relative",
            "A step of 0.01 is nothing for a weight of 10 and everything for one of 0.01.",
            not_relative,
        ),
        Mistake(
            "root missing",
            "Without the root the ratio is squared: one thousandth reads as one millionth.",
            root_missing,
        ),
        Mistake(
            "number by number",
            "Numbers near zero have giant relative changes and decide the mean. The tensor as a "
            "whole is the unit.",
            number_by_number,
        ),
        Mistake(
            "over the new weight",
            "Relative to what was there before the step, not to what came out.",
            over_the_new,
        ),
    ),
    (
        "Two sizes per tensor: of the change, and of the weight before it.",
        "The root of the mean square is a size that nothing cancels in.",
        "Per pair: root mean square of (new − old) over that of old; stack the ratios. A weight "
        "of zeros needs a smallest denominator.",
    ),
    atol=1e-9,
    rtol=1e-6,
)
