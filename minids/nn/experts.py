"""Running the chosen experts: every token visits k of e small SwiGLUs and adds up their answers.

Four ways to do one sum. `experts_loop` is the definition. `experts_dense` asks every expert about
every token and weighs most answers with 0: the price that sparsity saves. `experts_sorted` sorts
the visits by expert so that each expert multiplies one solid block: the way to train.
`experts_gathered` fetches the chosen weights to the tokens instead: the way to decode, when visits
are few.
Weights are stacked as transformers holds them: gate_up [e 2f d] (gate rows first), down [e d f].
Axes: T tokens, k experts per token, R rows (visits, see dispatch), d hidden_size, e experts,
f expert width.
"""

from collections.abc import Callable

import torch
from einops import einsum
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from minids.nn.dispatch import ALIGN, FromExperts, ToExperts, lay_out, weights_of_rows

Grouped = Callable[[Tensor, Tensor, list[int]], Tensor]  # see `grouped_linear`
FEW_VISITS = 8  # up to this many visits without gradient, fetching weights beats sorting tokens


class Experts(nn.Module):
    """Weights of all routed experts, stacked; `grouped` multiplies sorted rows by them."""

    def __init__(self, n_experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.grouped: Grouped = grouped_linear
        gate_up = torch.empty(n_experts, 2 * hidden, width).normal_(std=width**-0.5)
        down = torch.empty(n_experts, width, hidden).normal_(std=hidden**-0.5)
        self.gate_up_proj, self.down_proj = nn.Parameter(gate_up), nn.Parameter(down)

    def forward(self, x: Tensor, expert: Tensor, gate: Tensor, load: Tensor) -> Tensor:
        """x [T d], expert and gate [T k], load [e] visits per expert → [T d]"""
        weights = self.gate_up_proj, self.down_proj
        if expert.numel() <= FEW_VISITS and not torch.is_grad_enabled():
            return experts_gathered(x, expert, gate, *weights)
        return experts_sorted(x, expert, gate, load, *weights, grouped=self.grouped)


def experts_loop(x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The definition, an expert at a time.  x [T d], expert and gate [T k] → [T d]"""
    out = torch.zeros_like(x)  # [T d]
    for e in range(gate_up.shape[0]):
        token, slot = torch.nonzero(expert == e, as_tuple=True)  # [visits], [visits] of expert e
        hidden = swiglu(F.linear(x[token], gate_up[e].to(x.dtype)))  # [visits f]
        answer = F.linear(hidden, down[e].to(x.dtype))  # [visits d]
        out = out.index_add(0, token, answer * gate[token, slot, None].to(x.dtype))
    return out


def experts_dense(x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The same sum over all experts, e/k times the work.  x [T d], expert, gate [T k] → [T d]"""
    none = gate.new_zeros(len(x), gate_up.shape[0])  # [T e]
    weight = none.scatter(-1, expert, gate).to(x.dtype)  # [T e] 0 for those not chosen
    hidden = swiglu(einsum(gate_up.to(x.dtype), x, "e f d, T d -> T e f"))
    return einsum(down.to(x.dtype), hidden * weight[..., None], "e d f, T e f -> T d")


def experts_sorted(
    x: Tensor,
    expert: Tensor,
    gate: Tensor,
    load: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    grouped: Grouped | None = None,
) -> Tensor:
    """The same sum in 2·e solid matrix products instead of e gathers and scatters.

    x [T d], expert and gate [T k], load [e] visits per expert → [T d]. Rows are weighted before the
    last product, where they are narrow. Answers are summed in a fixed order, so equal runs give
    equal bits (an index_add on several threads does not). `grouped`: a `grouped_linear` of another
    precision.
    """
    multiply = grouped or grouped_linear
    layout = lay_out(expert, load, align=ALIGN if x.dtype == torch.bfloat16 else 1)
    visits = ToExperts.apply(x, layout)  # [R d]
    hidden = swiglu(multiply(visits, gate_up, layout.rows))  # [R f]
    weight = weights_of_rows(gate, layout).to(x.dtype)  # [R]
    answer = multiply(hidden * weight[:, None], down, layout.rows)  # [R d]
    return FromExperts.apply(answer, layout)


def experts_gathered(
    x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """The same sum for a few tokens: bring the weights to them.  x [T d] → [T d]"""
    hidden = swiglu(einsum(gate_up[expert].to(x.dtype), x, "T k f d, T d -> T k f"))
    hidden = hidden * gate[..., None].to(x.dtype)  # [T k f]
    return einsum(down[expert].to(x.dtype), hidden, "T k d f, T k f -> T d")


def swiglu(gate_and_up: Tensor) -> Tensor:
    """SiLU of the first half times the second.  [… 2f] → [… f]"""
    gate, up = gate_and_up.chunk(2, dim=-1)  # [… f], [… f]
    return F.silu(gate) * up


def grouped_linear(x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
    """Rows of x, sorted by expert, each times its expert's matrix.  x [R i], weight [e o i] → [R o]

    counts [e] rows per expert. On a GPU torch's grouped matmul does it in one launch.
    """
    if x.is_cuda and x.dtype == torch.bfloat16:
        ends = torch.tensor(counts, device=x.device).cumsum(0).to(torch.int32)
        return F.grouped_mm(x, weight.to(x.dtype).mT, offs=ends)
    return GroupedLinear.apply(x, weight, counts)


class GroupedLinear(torch.autograd.Function):
    """One matrix product per expert, forward and backward, without a graph node for each.

    Faster than slicing under autograd because slices, casts and accumulations are done once, in
    place. An expert without tokens gets a zero gradient, not a missing one.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
        w = weight.to(x.dtype)
        out = x.new_empty(x.shape[0], w.shape[1])
        for rows, matrix, answer in zip(x.split(counts), w, out.split(counts), strict=True):
            torch.mm(rows, matrix.T, out=answer)
        ctx.save_for_backward(x, w)
        ctx.counts, ctx.weight_dtype = counts, weight.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, w = ctx.saved_tensors
        grad_x, grad_w = torch.empty_like(x), torch.empty_like(w)
        blocks = (t.split(ctx.counts) for t in (grad.contiguous(), x, grad_x))
        for g, rows, to_x, matrix, to_w in zip(*blocks, w, grad_w, strict=True):
            torch.mm(g, matrix, out=to_x)
            torch.mm(g.T, rows, out=to_w)
        return grad_x, grad_w.to(ctx.weight_dtype), None
