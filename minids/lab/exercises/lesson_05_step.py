"""Lesson 05: one gradient from many micro-batches, and its limit.

Axes: b rows, s positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.loss import IGNORE
from minids.train.comm import Solo
from minids.train.step import Gradients, StepReport, clip, gradient


class Micro(NamedTuple):
    """A micro-batch."""

    tokens: Tensor  # [b s]
    labels: Tensor  # [b s]


class Sums(NamedTuple):
    """The part of `Loss` that a step needs."""

    total: Tensor
    main: Tensor
    mtp: Tensor
    n_targets: Tensor
    n_mtp: Tensor
    balance: Tensor
    load: Tensor


class Bigram(nn.Module):
    """The smallest language model: a row of logits per token. Its loss is a sum, as ours is."""

    def __init__(self, V: int, generator: torch.Generator) -> None:
        super().__init__()
        self.logits = nn.Embedding(V, V, dtype=torch.float64)
        self.scale = nn.Parameter(torch.ones(V, dtype=torch.float64))
        nn.init.normal_(self.logits.weight, generator=generator)

    def loss(self, batch: Micro) -> Sums:
        """Σ over targets, never a mean."""
        logits = self.logits(batch.tokens) * self.scale  # [b s V]
        main = F.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        none, zero = main.new_zeros(0), main.new_zeros(())
        targets = (batch.labels != IGNORE).sum()
        load = torch.zeros(0, 0, dtype=torch.int64)
        return Sums(main, main.detach(), none, targets, none.long(), zero, load)


def micro_batches(V: int, counts: list[int], generator: torch.Generator) -> list[Micro]:
    """One micro-batch of two rows per count, with so many targets."""
    batches = []
    for n in counts:
        tokens = torch.randint(V, (2, 6), generator=generator)  # [b s]
        labels = torch.randint(V, (2, 6), generator=generator)  # [b s]
        place = torch.randperm(labels.numel(), generator=generator)[n:]
        batches.append(Micro(tokens, labels.flatten().index_fill(0, place, IGNORE).view(2, 6)))
    return batches


def gradient_cases(generator: torch.Generator) -> Iterator[Case]:
    """One micro-batch, then equal ones, then ragged ones."""
    sizes = [(3, [4]), (5, [12, 12]), (5, [12, 1]), (7, [2, 9, 5]), (4, [7, 0, 3])]
    for V, counts in sizes:
        model = Bigram(V, generator)
        args = (model, None, micro_batches(V, counts, generator), Solo())
        yield Case(args, f"{' + '.join(map(str, counts))} targets")


def call_gradient(answer: Any, case: Case) -> dict[str, Any]:
    """What lies in the buffer afterwards; before, it holds the gradient of the step before."""
    model, _, batches, comm = case.args
    gradients = Gradients(model)
    gradients.flat.fill_(0.25)
    report = answer(model, gradients, batches, comm)
    return {"gradient": gradients.flat.clone(), "loss": report.loss, "grad_norm": report.grad_norm}


def report_of(gradients: Gradients, loss: float) -> StepReport:
    """A report with the two numbers that are compared."""
    return StepReport(loss, [], 0.0, torch.linalg.vector_norm(gradients.flat).item(), 0, [])


def mean_of_means(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    gradients.zero()
    loss = 0.0
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / part.n_targets.clamp(min=1) / len(micro_batches)).backward()
        loss += (part.main / part.n_targets.clamp(min=1)).item() / len(micro_batches)
    return report_of(gradients, loss)


def never_zeroed(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    n_targets = sum(int((batch.labels != IGNORE).sum()) for batch in micro_batches)
    loss = 0.0
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / n_targets).backward()
        loss += part.main.item() / n_targets
    return report_of(gradients, loss)


def last_one_only(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    n_targets = sum(int((batch.labels != IGNORE).sum()) for batch in micro_batches)
    loss = 0.0
    for batch in micro_batches:
        gradients.zero()
        part = model.loss(batch)
        (part.total / n_targets).backward()
        loss += part.main.item() / n_targets
    return report_of(gradients, loss)


def ignored_counted(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    n_targets = sum(batch.labels.numel() for batch in micro_batches)
    gradients.zero()
    loss = 0.0
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / n_targets).backward()
        loss += part.main.item() / n_targets
    return report_of(gradients, loss)


def never_divided(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    n_targets = sum(int((batch.labels != IGNORE).sum()) for batch in micro_batches)
    gradients.zero()
    loss = 0.0
    for batch in micro_batches:
        part = model.loss(batch)
        part.total.backward()
        loss += part.main.item() / n_targets
    return report_of(gradients, loss)


def set_to_none(model, gradients, micro_batches, comm):
    comm.all_reduce(gradients.flat)
    n_targets = sum(int((batch.labels != IGNORE).sum()) for batch in micro_batches)
    model.zero_grad()
    loss = 0.0
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / n_targets).backward()
        loss += part.main.item() / n_targets
    return report_of(gradients, loss)


ACCUMULATE = Exercise(
    "05.1",
    "gradient",
    "one gradient from several micro-batches",
    gradient,
    gradient_cases,
    (
        Mistake(
            "mean of means",
            "Each micro-batch is divided by its own number of targets. One with 2 targets then "
            "counts as much as one with 200, so the gradient depends on how the batch was cut.",
            mean_of_means,
        ),
        Mistake(
            "old gradient kept",
            "backward() adds to what is there, and what is there belongs to the step before.",
            never_zeroed,
        ),
        Mistake(
            "last micro-batch only",
            "The buffer is emptied inside the loop, so of the sum only its last term is left.",
            last_one_only,
        ),
        Mistake(
            "ignored labels counted",
            "Positions without a target are counted as well: the gradient shrinks with padding.",
            ignored_counted,
        ),
        Mistake(
            "never divided",
            "The gradient is the sum over targets. It grows with the batch, and with it the step.",
            never_divided,
        ),
        Mistake(
            "gradients cut loose",
            "zero_grad() sets p.grad to None. backward() then makes new tensors, and the flat "
            "buffer, which clipping and the other workers read, stays as it was.",
            set_to_none,
        ),
    ),
    (
        "backward() adds to p.grad. What must be true of the buffer before the first call?",
        "The number to divide by belongs to the whole step, so it is known before the loop.",
        "Count labels that are not IGNORE in all micro-batches, empty the buffer, then per "
        "micro-batch: loss, its total over that count, backward; main is summed for the report.",
    ),
    call=call_gradient,
    atol=1e-9,
    rtol=1e-7,
)


class Buffer:
    """As `Gradients`, made from tensors."""

    def __init__(self, parts: list[Tensor]) -> None:
        self.flat = torch.cat([part.flatten() for part in parts])
        pieces = self.flat.split([part.numel() for part in parts])
        self.parameters = [nn.Parameter(torch.zeros_like(part)) for part in parts]
        for parameter, part, piece in zip(self.parameters, parts, pieces, strict=True):
            parameter.grad = piece.view_as(part)


def clip_cases(generator: torch.Generator) -> Iterator[Case]:
    """Too large, small enough, no limit; tensors of different size."""
    shapes = [[(2,)], [(3,), (2, 4)], [(5, 3), (4,), (1,)]]
    for parts in shapes:
        made = [
            torch.randn(shape, generator=generator, dtype=torch.float64) * 3**i
            for i, shape in enumerate(parts)
        ]
        norm = torch.cat([part.flatten() for part in made]).norm().item()
        for limit, label in ((norm / 3, "a third allowed"), (2 * norm, "twice allowed")):
            yield Case((made, norm, limit), label)
        yield Case((made, norm, 0), "0: no limit")


def call_clip(answer: Any, case: Case) -> Tensor:
    """The buffer after clipping."""
    parts, norm, limit = case.args
    buffer = Buffer(parts)
    answer(buffer, norm, limit)
    return buffer.flat


def clip_per_tensor(gradients, grad_norm, largest):
    if largest and grad_norm > 0:
        for p in gradients.parameters:
            p.grad.mul_((largest / (p.grad.norm() + 1e-6)).clamp(max=1.0))


def clip_per_number(gradients, grad_norm, largest):
    if largest and grad_norm > 0:
        gradients.flat.clamp_(-largest, largest)


def always_scaled(gradients, grad_norm, largest):
    if largest:
        gradients.flat.mul_(largest / (grad_norm + 1e-6))


def limit_zero(gradients, grad_norm, largest):
    if grad_norm > largest:
        gradients.flat.mul_(largest / (grad_norm + 1e-6))


def result_lost(gradients, grad_norm, largest):
    if largest and grad_norm > largest:
        gradients.flat = gradients.flat.clone()
        for p in gradients.parameters:
            p.grad = p.grad * (largest / (grad_norm + 1e-6))


CLIP = Exercise(
    "05.2",
    "clip",
    "clipping by the global norm",
    clip,
    clip_cases,
    (
        Mistake(
            "clipped per tensor",
            "Each tensor gets a limit of its own. The direction of the step changes: tensors with "
            "large gradients shrink against the others. The norm is one, over all numbers.",
            clip_per_tensor,
        ),
        Mistake(
            "clipped per number",
            "Each number is cut off at the limit, which turns the step into another direction.",
            clip_per_number,
        ),
        Mistake(
            "always scaled",
            "Gradients below the limit are blown up to it: late in training, when they are "
            "small, the noise in them would be as large as the signal once was.",
            always_scaled,
        ),
        Mistake(
            "no limit means zero",
            "A limit of 0 says that nothing is clipped. Here it erases the gradient.",
            limit_zero,
        ),
        Mistake(
            "scaled a copy",
            "New tensors are scaled; the flat buffer, which all views share, is as before.",
            result_lost,
        ),
    ),
    (
        "The norm is known already. Which gradients change at all?",
        "One factor for all numbers keeps the direction; the buffer holds all of them.",
        "If there is a limit and the norm is above it: multiply the flat buffer, in place, by "
        "limit over norm (plus 1e-6, as torch does).",
    ),
    call=call_clip,
    may_change_inputs=True,
)
