"""Tokens to the experts and answers back: where every visit stands while experts work.

All rows of one expert lie together and each expert's block starts at a multiple of ALIGN, so blocks
take few distinct sizes and the matrix library compiles few kernels (a new size costs 0.2 ms on a
CPU; DeepGEMM's contiguous layout aligns for its tiles). The few spare rows repeat token 0 and are
never read. Both directions gather in forward and backward: nothing is scattered with addition, so
equal runs give equal bits.
Axes: T tokens, k experts per token, P = T·k visits, e experts, R rows (visits and spare ones),
d width.
"""

from typing import NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.autograd.function import once_differentiable

ALIGN = 32  # rows


class Layout(NamedTuple):
    """Where each visit stands."""

    slot: Tensor  # [T k] int64, row of each visit
    token: Tensor  # [R] int64, token of each row
    rows: list[int]  # [e] rows of each expert, spare ones included


def lay_out(expert: Tensor, load: Tensor) -> Layout:
    """expert [T k], load [e] visits per expert → Layout"""
    T, k = expert.shape
    rows = -(-load // ALIGN) * ALIGN  # [e] loads rounded up
    order = expert.flatten().argsort(stable=True)  # [P] visits, expert by expert
    shift = (rows.cumsum(0) - rows) - (load.cumsum(0) - load)  # [e] how far alignment moves a block
    place = torch.arange(T * k, device=expert.device) + shift[expert.flatten()[order]]  # [P]
    slot = torch.empty_like(order).scatter_(0, order, place)  # [P]
    counts = rows.tolist()
    token = order.new_zeros(sum(counts)).scatter_(0, place, order // k)  # [R]
    return Layout(rearrange(slot, "(T k) -> T k", k=k), token, counts)


class ToExperts(torch.autograd.Function):
    """Copy each token to its rows.  x [T d] → [R d]; its gradient is the sum over them."""

    @staticmethod
    def forward(ctx, x: Tensor, layout: Layout) -> Tensor:
        ctx.save_for_backward(layout.slot)
        return x.index_select(0, layout.token)  # [R d]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors  # [T k]
        visits = grad.index_select(0, slot.flatten())  # [P d]
        return reduce(visits, "(T k) d -> T d", "sum", k=slot.shape[1]), None


class FromExperts(torch.autograd.Function):
    """Fetch each visit's answer.  answer [R d] → [T k d]; spare rows get gradient zero."""

    @staticmethod
    def forward(ctx, answer: Tensor, layout: Layout) -> Tensor:
        ctx.save_for_backward(layout.slot)
        ctx.rows = answer.shape[0]
        visits = answer.index_select(0, layout.slot.flatten())  # [P d]
        return rearrange(visits, "(T k) d -> T k d", k=layout.slot.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors  # [T k]
        back = grad.new_zeros(ctx.rows, grad.shape[-1])  # [R d]
        back.index_copy_(0, slot.flatten(), rearrange(grad, "T k d -> (T k) d"))
        return back, None
