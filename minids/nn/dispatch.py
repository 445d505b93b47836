"""Tokens to the experts and answers back: where every visit stands while experts work.

All rows of one expert lie together. In bfloat16 each expert's block starts at a multiple of ALIGN,
so blocks take few distinct sizes and the matrix library compiles few kernels (a new size costs it
0.2 ms on a CPU; DeepGEMM's contiguous layout aligns for its tiles). The few spare rows repeat
token 0 and weigh nothing. The way back is the way there transposed: each gathers where the other
sums, so nothing is scattered with addition, and equal runs give equal bits.
Axes: T tokens, k experts per token, P = T·k visits, e experts, R rows (visits and spare ones),
d width.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ALIGN = 32  # rows


class Layout(NamedTuple):
    """Where each visit stands."""

    slot: Tensor  # [T k] int64, row of each visit
    token: Tensor  # [R] int64, token of each row
    rows: list[int]  # [e] rows of each expert, spare ones included


def lay_out(expert: Tensor, load: Tensor, align: int) -> Layout:
    """expert [T k], load [e] visits per expert → Layout"""
    k = expert.shape[1]
    rows = -(-load // align) * align  # [e] loads rounded up
    order = expert.flatten().argsort(stable=True)  # [P] visits, expert by expert
    moved = (rows.cumsum(0) - rows) - (load.cumsum(0) - load)  # [e] how far alignment moves a block
    place = torch.arange(len(order), device=expert.device) + moved.repeat_interleave(load)  # [P]
    slot = torch.empty_like(order).scatter_(0, order, place)  # [P]
    counts = rows.tolist()
    token = order.new_zeros(sum(counts)).scatter_(0, place, order // k)  # [R]
    return Layout(rearrange(slot, "(T k) -> T k", k=k), token, counts)


def weights_of_rows(gate: Tensor, layout: Layout) -> Tensor:
    """What each row's answer counts, 0 for spare ones.  gate [T k] → [R]"""
    return gate.new_zeros(len(layout.token)).scatter(0, layout.slot.flatten(), gate.flatten())


class ToExperts(torch.autograd.Function):
    """Copy each token to its rows; the gradient sums over them.  x [T d] → [R d]"""

    @staticmethod
    def forward(ctx, x: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.token)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return sum_rows(grad, ctx.layout.slot), None


class FromExperts(torch.autograd.Function):
    """Sum each token's answers; the gradient goes to all of them.  answer [R d] → [T d]"""

    @staticmethod
    def forward(ctx, answer: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return sum_rows(answer, layout.slot)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.layout.token), None


def sum_rows(x: Tensor, slot: Tensor) -> Tensor:
    """Σ over k of x[slot].  x [R d], slot [T k] → [T d]

    An embedding bag is just that, and on a CPU eight times faster than fetching, then summing.
    """
    return F.embedding_bag(slot, x, mode="sum")
