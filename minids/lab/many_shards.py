"""What the processes of lesson 24 do: sum by hand, train with copies, train with shards.

Axes: b rows of the batch, s tokens, G ranks, n numbers of a gradient.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from minids.config import load
from minids.dist import by_hand, fsdp, mesh
from minids.nn.loss import IGNORE
from minids.nn.transformer import Transformer

MODEL = [
    "model.vocab_size=272", "model.hidden_size=64", "model.num_hidden_layers=2",
    "model.num_attention_heads=2", "model.kv_lora_rank=16", "model.qk_nope_head_dim=16",
    "model.qk_rope_head_dim=8", "model.v_head_dim=16", "model.intermediate_size=128",
    "model.moe_intermediate_size=32", "model.n_routed_experts=0",
    "model.num_nextn_predict_layers=0",
]  # fmt: skip
ROWS, CONTEXT = 8, 33


class Rows(NamedTuple):
    """Some rows of a batch."""

    tokens: Tensor  # [b s]
    labels: Tensor  # [b s]


def sum_ms(numbers: int, repeats: int) -> dict[str, float]:
    """Median times of three ways to sum a gradient of so many numbers."""
    ways = {"by rank 0": by_hand.centre_all_reduce, "in a ring": by_hand.ring_all_reduce}
    ways["gloo's own"] = gloo_sum
    x, found = torch.randn(numbers), {}
    for name, way in ways.items():
        took = []
        for _ in range(repeats + 1):
            dist.barrier()
            start = time.perf_counter()
            way(x)
            took.append(1e3 * (time.perf_counter() - start))
        found[name] = statistics.median(took[1:])
    return found


def gloo_sum(x: Tensor) -> Tensor:
    """torch's own.  x [n] → [n]"""
    total = x.clone()
    dist.all_reduce(total)
    return total


def model_and_batch() -> tuple[Transformer, Rows]:
    """The same float64 weights and rows everywhere; the later rows are shorter."""
    generator = torch.Generator().manual_seed(24)
    model = Transformer(load("tiny", MODEL).model).double()
    model.compute_dtype = torch.float64
    model.init_weights(generator)
    tokens = torch.randint(0, 272, (ROWS, CONTEXT), generator=generator)  # [b s]
    labels = tokens[:, 1:].clone()
    for row in range(ROWS):
        labels[row, CONTEXT - 3 * row :] = IGNORE
    return model, Rows(tokens[:, :-1], labels)


def my_rows(batch: Rows) -> Rows:
    """This rank's share."""
    share = ROWS // dist.get_world_size()
    mine = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    return Rows(batch.tokens[mine], batch.labels[mine])


def apart(got: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest value."""
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


def gradient_of(model: Transformer) -> Tensor:
    """All gradients in one row.  → [n]"""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def copies() -> dict[str, Any]:
    """Data parallel by hand: gradients of own rows, summed in a ring, divided once."""
    model, batch = model_and_batch()
    whole = model.loss(batch)
    (whole.total / whole.n_targets).backward()
    wanted = gradient_of(model)
    model.zero_grad()
    part = model.loss(my_rows(batch))
    part.total.backward()
    mine, n_targets = gradient_of(model), int(part.n_targets)  # [n]
    total = by_hand.ring_all_reduce(mine)
    every = gloo_sum(torch.tensor([n_targets])).item()
    of_means = gloo_sum(mine / n_targets) / dist.get_world_size()
    return {
        "targets": n_targets,
        "error": apart(total / every, wanted),
        "error of the mean of means": apart(of_means, wanted),
        "numbers": sum(p.numel() for p in model.parameters()),
    }


def shards() -> dict[str, Any]:
    """FSDP2 on the same model: gradients against one process, and what a rank holds."""
    model, batch = model_and_batch()
    whole = model.loss(batch)
    (whole.total / whole.n_targets).backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    model, batch = model_and_batch()
    world = dist.get_world_size()
    cfg = load("tiny", [*MODEL, f"parallel.data={world}", f"train.batch_size={ROWS}"])
    fsdp.shard(model, mesh.lay_out(cfg, "cpu"))
    part = model.loss(my_rows(batch))
    (part.total / whole.n_targets).backward()
    errors, here = [], 0
    for name, p in model.named_parameters():
        assert isinstance(p, DTensor) and isinstance(p.grad, DTensor)
        errors.append(apart(p.grad.full_tensor(), wanted[name]))  # type: ignore[arg-type]
        here += p.to_local().numel()
    return {"error": max(errors), "here": here, "numbers": sum(w.numel() for w in wanted.values())}  # type: ignore[union-attr]
