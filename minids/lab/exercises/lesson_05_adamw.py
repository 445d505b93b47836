"""Lesson 05: AdamW's step. Each wrong answer is the plain one with one line changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.train.optim import AdamW


def adamw_cases(generator: torch.Generator) -> Iterator[Case]:
    """A vector, a matrix, both; an eps that counts."""
    settings = [
        ([("norm", (3,))], 0.9, 0.95, 1e-8),
        ([("map", (2, 3))], 0.9, 0.95, 1e-8),
        ([("map", (4, 2)), ("norm", (5,))], 0.8, 0.99, 1e-8),
        ([("map", (3, 3)), ("norm", (2,))], 0.9, 0.95, 0.3),
        ([("a", (2, 2)), ("b", (1, 6))], 0.0, 0.5, 1e-3),
    ]
    for shapes, beta1, beta2, eps in settings:
        named = [
            (name, torch.randn(shape, generator=generator, dtype=torch.float64))
            for name, shape in shapes
        ]
        label = f"{' and '.join(name for name, _ in named)}, eps {eps:g}"
        yield Case((named, beta1, beta2, eps), label)


LR, DECAY, UPDATES = 0.1, 0.3, 3


def call_adamw(answer: Any, case: Case) -> list[dict[str, Tensor]]:
    """Weights after each of three steps; gradients from the case's own randomness."""
    named, *settings = case.args
    optimizer = answer(named, *settings)
    after = []
    for _ in range(UPDATES):
        for _, weight in named:
            weight.grad = torch.randn(weight.shape, dtype=torch.float64)
        optimizer.step(LR, DECAY)
        after.append({name: weight.clone() for name, weight in named})
    return after


class Plain:
    """AdamW, a tensor at a time, with places where one goes wrong."""

    def __init__(self, named, beta1, beta2, eps):
        self.weights = [weight for _, weight in named]
        self.beta1, self.beta2, self.eps, self.steps = beta1, beta2, eps, 0
        self.mean = [torch.zeros_like(w) for w in self.weights]
        self.square = [torch.zeros_like(w) for w in self.weights]

    @torch.no_grad()
    def step(self, lr, weight_decay):
        self.steps += 1
        for w, mean, square in zip(self.weights, self.mean, self.square, strict=True):
            grad = self.seen(w, weight_decay)
            mean.lerp_(grad, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
            m, v = self.corrected(mean, square)
            self.decay(w, lr, weight_decay)
            w.sub_(lr * m / self.root(v))

    def seen(self, w, weight_decay):
        del weight_decay
        return w.grad

    def corrected(self, mean, square):
        return mean / (1 - self.beta1**self.steps), square / (1 - self.beta2**self.steps)

    def root(self, v):
        return v.sqrt() + self.eps

    def decay(self, w, lr, weight_decay):
        if w.ndim >= 2:
            w.mul_(1 - lr * weight_decay)


class L2Decay(Plain):
    def seen(self, w, weight_decay):
        return w.grad + weight_decay * w if w.ndim >= 2 else w.grad

    def decay(self, w, lr, weight_decay):
        del w, lr, weight_decay


class Uncorrected(Plain):
    def corrected(self, mean, square):
        return mean, square


class OneSided(Plain):
    def corrected(self, mean, square):
        return mean / (1 - self.beta1**self.steps), square


class OtherSided(Plain):
    def corrected(self, mean, square):
        return mean, square / (1 - self.beta2**self.steps)


class EpsInside(Plain):
    def root(self, v):
        return (v + self.eps).sqrt()


class EpsBeforeCorrection(Plain):
    def corrected(self, mean, square):
        return mean / (1 - self.beta1**self.steps), square

    def root(self, v):
        return (v.sqrt() + self.eps) / math.sqrt(1 - self.beta2**self.steps)


class DecayWithoutRate(Plain):
    def decay(self, w, lr, weight_decay):
        del lr
        if w.ndim >= 2:
            w.mul_(1 - weight_decay)


class DecayEverything(Plain):
    def decay(self, w, lr, weight_decay):
        w.mul_(1 - lr * weight_decay)


class NoRoot(Plain):
    def root(self, v):
        return v + self.eps


class StepsFromZero(Plain):
    def __init__(self, named, beta1, beta2, eps):
        super().__init__(named, beta1, beta2, eps)
        self.steps = -1


ADAMW = Exercise(
    "05.3",
    "AdamW",
    "AdamW's step",
    AdamW,
    adamw_cases,
    (
        Mistake(
            "L2 instead of decay",
            "The decay goes through the gradient and is then divided by its root as everything "
            "else: weights with large gradients hardly decay. Decoupled decay shrinks all alike.",
            L2Decay,
        ),
        Mistake(
            "bias correction missing",
            "Both averages begin at zero and are too small at first, not equally much: the first "
            "steps are wrong by (1 − β₁)/√(1 − β₂), here about 0.45 for 0.9 and 0.95.",
            Uncorrected,
        ),
        Mistake(
            "only the mean corrected",
            "The mean of squares begins at zero as well. Left so, the first steps are several "
            "times too large, just when they hurt most.",
            OneSided,
        ),
        Mistake(
            "only the squares corrected",
            "The mean of gradients begins at zero as well; the first steps are too small.",
            OtherSided,
        ),
        Mistake(
            "eps inside the root",
            "eps is added to the mean of squares, not to its root. 1e-8 inside acts as 1e-4 "
            "outside: small gradients no longer give full steps.",
            EpsInside,
        ),
        Mistake(
            "eps corrected too",
            "eps is added before the bias of the root is corrected, so it grows in early steps.",
            EpsBeforeCorrection,
        ),
        Mistake(
            "decay without the rate",
            "The weight shrinks by weight_decay in each step, not by lr · weight_decay: it is "
            "gone within a few steps, and a schedule has no hold on it.",
            DecayWithoutRate,
        ),
        Mistake(
            "norms decay too",
            "Vectors, here the scales of norms, are pulled to zero as well. They are no maps: "
            "small ones do not mean a simple function, they switch channels off.",
            DecayEverything,
        ),
        Mistake(
            "divided by the square",
            "The step is divided by the mean square, not by its root, so it has the unit of one "
            "over a gradient: small gradients give giant steps.",
            NoRoot,
        ),
        Mistake(
            "steps counted from zero",
            "In the first step 1 − β⁰ = 0: both corrections divide zero by zero.",
            StepsFromZero,
        ),
    ),
    (
        "Five lines per tensor: two averages, two corrections, one update. Which of them may "
        "know the weight?",
        "Both averages start at zero, so after t steps they hold only 1 − βᵗ of their sum. The "
        "decay touches matrices only and never meets the gradient.",
        "Count the step, update the mean of g and of g², divide each by 1 − βᵗ of its own β, "
        "shrink matrices by 1 − lr · decay, subtract lr · mean over (root + eps).",
    ),
    call=call_adamw,
    may_change_inputs=True,
    atol=1e-7,
    rtol=1e-6,
)
