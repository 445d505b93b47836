"""Muon: turn each matrix's momentum into the nearest orthogonal matrix, and step along that.

AdamW scales every number by its own history; a weight matrix is one map, and Muon makes its update
move all directions alike. Five Newton-Schulz steps do it with matrix products only. Matrices of one
shape go through together, and several ranks share the work.
Axes: N matrices of one shape, m and n their sides.  (Moonlight, arXiv 2502.16982 §2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from minids.train.comm import Solo
from minids.train.sharded import any_sharded_of, local, part_like, part_of, whole

FIVE_STEPS = ((3.4445, -4.7750, 2.0315),) * 5
HYBRID_STEPS = ((3.4445, -4.7750, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2  # DeepSeek-V4 §4.2
RMS = 0.2  # of an update, as AdamW's are: its learning rates can be kept


def orthogonalize(
    x: Tensor, dtype: torch.dtype, steps: Sequence[tuple[float, float, float]] = FIVE_STEPS
) -> Tensor:
    """The singular values of each matrix pushed to about 1, its directions kept.

    x [N m n] → [N m n] in `dtype`. The five steps land in 0.7 … 1.2, not at 1, and that is enough;
    V4's hybrid ends within 0.1 % of 1. Works on the small Gram matrix.
    """
    tall = x.shape[-2] > x.shape[-1]
    x = x.to(dtype)
    if tall:
        x = rearrange(x, "N m n -> N n m")
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in steps:
        gram = torch.bmm(x, rearrange(x, "N m n -> N n m"))  # [N m m]
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b·A + c·A²
        x = torch.baddbmm(x, poly, x, beta=a)
    return rearrange(x, "N m n -> N n m") if tall else x


def as_matrices(weight: Tensor, name: str) -> Tensor:
    """A parameter as a stack of the maps it holds.  [m n], [e m n] or [e 2f d] → [N m n]

    An expert's gate and up rows are two maps in one tensor.
    """
    if weight.ndim == 2:
        return weight[None]
    if name.endswith("gate_up_proj"):
        return rearrange(weight, "e (two f) d -> (e two) f d", two=2)
    return weight


class Muon:
    """Momentum and update of all matrices, grouped by shape."""

    def __init__(
        self,
        named: list[tuple[str, Tensor]],
        momentum: float,
        dtype: torch.dtype,
        moments: torch.dtype | None = None,
    ) -> None:
        self.momentum, self.dtype = momentum, dtype
        self.groups: dict[tuple[int, int], list[tuple[str, Tensor]]] = {}
        self.parts: dict[str, Tensor] = {}  # momentum of sharded parameters, spread as they are
        for name, weight in named:
            m, n = as_matrices(weight.detach(), name).shape[1:]
            self.groups.setdefault((m, n), []).append((name, weight))
        if any_sharded_of([weight for _, weight in named]):
            self.parts = {
                name: part_like(w, torch.zeros_like(local(w.detach()), dtype=moments))
                for name, w in named
            }
            self.buffers = {}
            return
        self.buffers = {
            shape: torch.zeros_like(stacked([(n, w.detach()) for n, w in members]), dtype=moments)
            for shape, members in self.groups.items()
        }

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float, comm: Solo) -> None:
        """w ← w − lr · (0.2 √max(m, n) · orthogonal(g + μ M) + weight_decay · w), M ← μ M + g"""
        for shape, members in self.groups.items():
            if self.parts:
                self.step_in_parts(shape, members, lr, weight_decay, comm)
                continue
            grad = stacked([(name, grad_of(weight)) for name, weight in members])  # [N m n]
            kept = self.buffers[shape]
            buffer = kept.to(grad.dtype).mul_(self.momentum).add_(grad)  # itself, if so kept
            if buffer is not kept:
                kept.copy_(buffer)
            update = self.shared(grad.add_(buffer, alpha=self.momentum), comm)
            start = 0
            for name, weight in members:
                maps = as_matrices(weight, name)
                weight.mul_(1 - lr * weight_decay)
                part = update[start : start + len(maps)]
                maps.add_(part, alpha=-lr * RMS * math.sqrt(max(shape)))
                start += len(maps)

    def step_in_parts(
        self,
        shape: tuple[int, int],
        members: list[tuple[str, Tensor]],
        lr: float,
        weight_decay: float,
        comm: Solo,
    ) -> None:
        """The same rule where each rank holds a part: momentum in parts, directions gathered."""
        ahead = []
        for name, weight in members:
            grad, kept = local(grad_of(weight)), local(self.parts[name])
            buffer = kept.to(grad.dtype).mul_(self.momentum).add_(grad)
            if buffer is not kept:
                kept.copy_(buffer)
            part = grad.add(buffer, alpha=self.momentum)
            ahead.append((name, whole(part_like(weight, part))))
        update = self.shared(stacked(ahead), comm)  # [N m n]
        start = 0
        for name, weight in members:
            count = len(as_matrices(weight, name))
            full = update[start : start + count].view(weight.shape)
            mine = local(weight)
            mine.mul_(1 - lr * weight_decay)
            mine.add_(part_of(full, weight), alpha=-lr * RMS * math.sqrt(max(shape)))
            start += count

    def shared(self, x: Tensor, comm: Solo) -> Tensor:
        """Each rank orthogonalises its share of the matrices and hears of the others'."""
        if comm.world == 1:
            return orthogonalize(x, self.dtype).to(x.dtype)
        share = -(-len(x) // comm.world)
        mine = x[comm.rank * share : (comm.rank + 1) * share]
        done = x.new_zeros(share, *x.shape[1:], dtype=self.dtype)
        if len(mine):
            done[: len(mine)] = orthogonalize(mine, self.dtype)
        parts = [torch.empty_like(done) for _ in range(comm.world)]
        comm.all_gather(parts, done)
        return torch.cat(parts)[: len(x)].to(x.dtype)

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name, each in the parameter's shape."""
        if self.parts:
            return dict(self.parts)
        out = {}
        for shape, members in self.groups.items():
            start = 0
            for name, weight in members:
                count = len(as_matrices(weight, name))
                out[name] = self.buffers[shape][start : start + count].view(weight.shape)
                start += count
        return out


def grad_of(weight: Tensor) -> Tensor:
    """The gradient that every parameter has by now."""
    assert weight.grad is not None
    return weight.grad


def stacked(named: list[tuple[str, Tensor]]) -> Tensor:
    """All maps of one shape in a new tensor.  → [N m n]"""
    return torch.cat([as_matrices(tensor, name) for name, tensor in named])
