"""One optimizer step: sum, look, then move.

Every micro-batch contributes a sum, divided once by the targets of the whole step, so any split
over micro-batches and workers gives the same gradient (a mean of means would not). The norm is
looked at before anything is scaled: clipping a gradient with one infinity turns the rest of it
into zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minids.nn.loss import IGNORE
from minids.nn.transformer import Labelled, Loss, Transformer
from minids.train.comm import Solo
from minids.train.sharded import any_sharded, local, part_like

Passes = Callable[[Transformer, Sequence[Labelled], int], tuple[Tensor, Tensor]]


class StepReport(NamedTuple):
    """What a step measured; nothing in it touches the weights."""

    loss: float  # nats per target, next-token part only
    mtp_loss: list[float]  # nats per target of each depth
    balance: float  # weighted balance losses
    grad_norm: float  # before clipping, all ranks together
    n_targets: int
    load: list[list[int]]  # [expert layers][experts] visits, all ranks


class Gradients:
    """All gradients as views into one flat buffer: one sum over ranks, one norm, one scaling.

    Of a model that is spread the buffer holds this rank's parts: backward has summed them already.
    `copies` are parameters that another rank counts.
    """

    def __init__(self, model: Transformer, *, apart: bool = False, copies: Sequence[str] = ()):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.apart = apart or any_sharded(model)
        self.copies = [p for name, p in model.named_parameters() if name in copies]
        mine = [local(p.detach()) for p in self.parameters]
        size = sum(part.numel() for part in mine)
        self.flat = torch.zeros(size, device=mine[0].device, dtype=mine[0].dtype)
        start = 0
        for p, part in zip(self.parameters, mine, strict=True):
            p.grad = part_like(p, self.flat[start : start + part.numel()].view_as(part))
            start += part.numel()

    def sum_over(self, comm: Solo) -> float:
        """The sum of all ranks' gradients → its norm."""
        if not self.apart:
            comm.all_reduce(self.flat)
            return torch.linalg.vector_norm(self.flat).item()
        square = torch.linalg.vector_norm(self.flat).double().square()
        for p in self.copies:
            assert p.grad is not None
            square -= torch.linalg.vector_norm(local(p.grad)).double().square()
        comm.all_reduce(square)
        return square.sqrt().item()

    def zero(self) -> None:
        """Forget the last step's."""
        self.flat.zero_()


def gradient(
    model: Transformer,
    gradients: Gradients,
    micro_batches: Sequence[Labelled],
    comm: Solo,
    *,
    passes: Passes | None = None,
    counts: bool = True,
    spoil: Callable[[Tensor, Tensor], None] | None = None,
) -> StepReport:
    """Fill the gradients with the mean over all targets of the step, on all ranks.

    Weights are not touched; see `clip` and `Optimizer.step` for what follows. `passes` replaces
    forward and backward: a pipeline has its own, and of its stages one `counts`. `spoil` may damage
    this rank's gradient and sums before they are added to the others', as a fault would.
    """
    mine = sum(int((batch.labels != IGNORE).sum()) for batch in micro_batches)
    counted = torch.tensor([mine if counts else 0], dtype=torch.int64)
    comm.all_reduce(counted)
    n_targets = max(int(counted), 1)
    gradients.zero()
    sums, load = (passes or forward_backward)(model, micro_batches, n_targets)
    if spoil:
        spoil(gradients.flat, sums)
    grad_norm = gradients.sum_over(comm)
    comm.all_reduce(sums)
    comm.all_reduce(load)
    depth = (len(sums) - 2) // 2
    mtp = sums[2 : 2 + depth] / sums[2 + depth :].clamp(min=1)
    return StepReport(
        loss=sums[0].item() / n_targets,
        mtp_loss=mtp.tolist(),
        balance=sums[1].item() / n_targets,
        grad_norm=grad_norm,
        n_targets=n_targets,
        load=load.tolist(),
    )


def forward_backward(
    model: Transformer, micro_batches: Sequence[Labelled], n_targets: int
) -> tuple[Tensor, Tensor]:
    """Gradients of one rank's rows → sums [2+2u]: loss, balance, MTP, targets of MTP; load [L e]"""
    rows, loads = [], []
    for batch in micro_batches:
        part = model.loss(batch)
        (part.total / n_targets).backward()
        rows.append(row_of(part))
        loads.append(part.load)
    return torch.stack(rows).sum(0), torch.stack(loads).sum(0)


def row_of(part: Loss) -> Tensor:
    """The numbers of a loss that are added up.  → [2+2u] float64"""
    return torch.cat([part.main[None], part.balance[None], part.mtp, part.n_mtp.float()]).double()


def clip(gradients: Gradients, grad_norm: float, largest: float) -> None:
    """Scale the gradient to the largest norm allowed; 0 means no limit. The norm must be finite."""
    if largest and grad_norm > largest:
        gradients.flat.mul_(largest / (grad_norm + 1e-6))
