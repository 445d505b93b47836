"""Shards instead of copies: every data rank keeps 1/G of each weight, gradient and moment.

Before a block runs, its weights are gathered; behind it they are dropped; its gradients are summed
and scattered, so that each rank hears of its own share only (ZeRO-3, as FSDP2 does it). With
bfloat16 arithmetic the heavy matrices also travel in bfloat16; router, norms, embedding and head
stay float32, and gradients are summed in float32. FP8 layers gather float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import Shard

from minids.dist.expert import SpreadExperts, spread_experts
from minids.dist.mesh import Mesh
from minids.lowp.linear import Fp8Linear
from minids.nn.block import Block
from minids.nn.transformer import Transformer


def shard(model: Transformer, mesh: Mesh, roots: Sequence[nn.Module] = ()) -> None:
    """Spread experts and shard everything, in place; gradients become sums over ranks.

    Whoever trains divides each loss by the targets of all ranks. The model must hold the same
    weights on every rank of a stage. `roots`: the stages of a pipeline, which are called instead
    of the model.
    """
    if mesh.grid.size(1) > 1:
        spread_experts(model, mesh.grid["expert"])
    narrow = model.compute_dtype if model.compute_dtype.itemsize < 4 else None
    wide = torch.float32 if narrow else None
    if any(isinstance(module, Fp8Linear) for module in model.modules()):
        narrow = None  # codes are made of the float32 weights, as one process makes them
        # their outputs are views, which nobody here changes in place
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    heavy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=wide, cast_forward_inputs=False)
    exact = MixedPrecisionPolicy(reduce_dtype=wide, cast_forward_inputs=False)
    drop = not roots  # a pipeline comes back to its weights before the last is done with them
    layers = [block for block in model.layers if isinstance(block, Block)]
    for block in (*layers, *model.mtp):
        for module in heavy_parts(block):
            if isinstance(module, SpreadExperts):  # their own axis is taken: shard the next one
                alone(module, mesh.grid["replica"], heavy, drop, axis=1)
            else:
                alone(module, mesh.data, heavy, drop)
    for block in layers:
        alone(block, mesh.data, exact, drop)
    for root in roots or [model]:
        alone(root, mesh.data, exact, drop)
    if not roots:
        register_fsdp_forward_method(model, "loss")


def heavy_parts(block: nn.Module) -> list[nn.Module]:
    """Attention, and the experts or the dense feed-forward; not the router, which must be exact."""
    attention, mlp = block.get_submodule("self_attn"), block.get_submodule("mlp")
    experts = dict(mlp.named_children()).get("experts")
    if experts is None:
        return [attention, mlp]
    return [attention, experts]


def alone(
    module: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, drop: bool, axis: int = 0
) -> None:
    """One group: gathered together, dropped together; sums, not means, over ranks."""
    wrapped = fully_shard(
        module,
        mesh=mesh,
        mp_policy=policy,
        reshard_after_forward=drop,
        shard_placement_fn=lambda _weight: Shard(axis),
    )
    assert isinstance(wrapped, FSDPModule)
    wrapped.set_gradient_divide_factor(1.0)
    wrapped.set_force_sum_reduction_for_comms(True)  # gloo knows no other
