"""Expert parallelism: experts live on different ranks, tokens travel to them and back.

Two all-to-alls a layer: dispatch takes each token once to every rank that holds one of its experts
(not once per expert: with node-limited routing it reaches at most `topk_group` groups), combine
brings back one sum per rank. Nothing is dropped and nothing padded; backwards the same roads are
driven the other way.
Axes: T own tokens, k experts per token, E ranks, e experts of one rank, R rows sent, A rows
arrived, P visits to own experts, d width.  (DeepSeek-V3 §3.2.2, DeepEP)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from minids.nn.experts import Experts, experts_sorted
from minids.nn.transformer import Transformer


class Road(NamedTuple):
    """Which tokens go where."""

    token: Tensor  # [R] own token of each row sent, rank after rank
    to: Tensor  # [R] the rank it goes to
    sent: list[int]  # [E] rows to each rank
    arrived: list[int]  # [E] rows from each rank


class Exchange(torch.autograd.Function):
    """all_to_all_single; the gradient travels back.  x [R …] → [A …]"""

    @staticmethod
    def forward(ctx, x: Tensor, road: Road, group: dist.ProcessGroup, back: bool) -> Tensor:
        ctx.road, ctx.group, ctx.back = road, group, back
        return exchange(x, road, group, back)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return exchange(grad, ctx.road, ctx.group, not ctx.back), None, None, None


def exchange(x: Tensor, road: Road, group: dist.ProcessGroup, back: bool) -> Tensor:
    """Rows to where the road leads, or back.  x [R …] → [A …], back: [A …] → [R …]"""
    out, into = (road.arrived, road.sent) if back else (road.sent, road.arrived)
    got = x.new_empty(sum(into), *x.shape[1:])
    dist.all_to_all_single(got, x.contiguous(), into, out, group=group)
    return got


def plan_road(expert: Tensor, own: int, group: dist.ProcessGroup) -> Road:
    """Each token once to every rank it needs.  expert [T k] of all experts, `own` a rank's"""
    token, to, sent = departures(expert, own, dist.get_world_size(group))
    arrived = torch.empty_like(sent)  # [E]
    dist.all_to_all_single(arrived, sent, group=group)
    return Road(token, to, sent.tolist(), arrived.tolist())


def departures(expert: Tensor, own: int, ranks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which token goes to which rank, rank after rank, each pair once.

    expert [T k] of all, rank r holds own·r … own·(r+1)−1 → token [R], to [R], rows sent [E]
    """
    wanted = expert.new_zeros(len(expert), ranks, dtype=torch.bool)  # [T E]
    wanted = wanted.scatter(1, expert // own, True)  # [T E]
    to, token = wanted.T.nonzero(as_tuple=True)  # [R], [R]
    return token, to, wanted.sum(0)


def experts_spread(
    x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor,
    group: dist.ProcessGroup, grouped=None,
) -> Tensor:  # fmt: skip
    """The same sum as `experts_sorted`, with the weights of this rank's experts only.

    x [T d], expert and gate [T k], gate_up [e 2f d], down [e d f] → [T d]
    """
    own = gate_up.shape[0]
    first = dist.get_rank(group) * own
    road = plan_road(expert, own, group)
    rows = Exchange.apply(x[road.token], road, group, False)  # [A d]
    weight = Exchange.apply(gate[road.token], road, group, False)  # [A k]
    asked = exchange(expert[road.token], road, group, False) - first  # [A k] 0 … e−1 are here
    row, slot = ((asked >= 0) & (asked < own)).nonzero(as_tuple=True)  # [P], [P] row after row
    visit = asked[row, slot]  # [P]
    load = torch.bincount(visit, minlength=own)  # [e]
    answer = experts_sorted(
        rows[row], visit[:, None], weight[row, slot][:, None], load, gate_up, down, grouped=grouped
    )  # [P d]
    answer = add_up(answer, torch.bincount(row, minlength=len(rows)))  # [A d]
    answer = Exchange.apply(answer, road, group, True)  # [R d]
    order = road.token.argsort(stable=True)  # [R] token after token
    return add_up(answer[order], torch.bincount(road.token, minlength=len(x)))


def add_up(x: Tensor, lengths: Tensor) -> Tensor:
    """Sums of neighbouring rows, in a fixed order.  x [P d], lengths [A], their sum P → [A d]"""
    if not len(x):
        return x.sum(0).expand(len(lengths), -1)  # zeros that keep their place in the graph
    return torch.segment_reduce(x, "sum", lengths=lengths, axis=0, initial=0.0)


class SpreadExperts(nn.Module):
    """Experts of which this rank holds some; the parameters know the whole they are part of."""

    def __init__(self, whole: Experts, mesh: DeviceMesh) -> None:
        super().__init__()
        self.group, self.grouped = mesh.get_group(), whole.grouped
        self.gate_up_proj = spread(whole.gate_up_proj, mesh)
        self.down_proj = spread(whole.down_proj, mesh)

    def forward(self, x: Tensor, expert: Tensor, gate: Tensor, _load: Tensor) -> Tensor:
        """As of `Experts`; the load of own tokens is not needed here."""
        gate_up, down = here(self.gate_up_proj), here(self.down_proj)
        return experts_spread(x, expert, gate, gate_up, down, self.group, self.grouped)


def spread(weight: Tensor, mesh: DeviceMesh) -> nn.Parameter:
    """Experts dealt out in order.  weight [e …], the same on all ranks → one part as DTensor"""
    return nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)], src_data_rank=None))


def here(weight: Tensor) -> Tensor:
    """The part of a weight that is here."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def spread_experts(model: Transformer, mesh: DeviceMesh) -> int:
    """Deal the experts of every layer over the mesh → number of layers changed."""
    layers = [*model.moe_layers()]
    for layer in layers:
        layer.experts = SpreadExperts(layer.experts, mesh)  # type: ignore[assignment]
    return len(layers)
