"""A model laid over all ranks of a run: experts, shards, and stages if the config asks for them.

world = data ranks × pipeline ranks;  expert ranks divide the data ranks
"""

from __future__ import annotations

import json
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from minids.config import RunConfig
from minids.dist import fsdp
from minids.dist.mesh import Mesh
from minids.dist.pipeline import Pipeline
from minids.dist.place import schedule_of
from minids.errors import UserError
from minids.nn.transformer import Transformer


def lay(model: Transformer, cfg: RunConfig, mesh: Mesh, device: str) -> Pipeline | None:
    """Put a model, the same on all ranks, onto this rank: whole and sharded in place, or as the
    part that the pipeline given back holds."""
    if cfg.parallel.pipeline == 1:
        model.to(device)
        fsdp.shard(model, mesh)
        return None
    schedule, shares = schedule_of(cfg), cfg.model.num_nextn_predict_layers
    folded = schedule.name == "dualpipev" and (shares or cfg.model.tie_word_embeddings)
    sharded = mesh.data.size() > 1
    if sharded and folded:
        what = "dualpipev, where first and last stage share the embedding, on several data ranks"
        raise UserError("parallel.schedule", what, "1f1b, interleaved, zb1p, gpipe")

    def spread_part(part, stages) -> None:
        part.to(device)
        if sharded:
            fsdp.shard(part, mesh, stages)

    rows = cfg.train.batch_size // cfg.parallel.data
    group = mesh.stages.get_group()
    return Pipeline(model, schedule, group, rows, cfg.data.context, spread_part)


def collector(mesh: Mesh):
    """→ a function that brings the tensors of all stages to rank 0; without stages the identity."""
    if mesh.stages.size() == 1:
        return lambda tensors: tensors
    return partial(collect, mesh=mesh)


def collect(tensors: dict[str, Tensor], *, mesh: Mesh) -> dict[str, Tensor]:
    """All stages' tensors on rank 0, on the CPU; what several hold is the first one's."""
    if mesh.data.get_local_rank() != 0:
        return tensors
    group, stage = mesh.stages.get_group(), mesh.stages.get_local_rank()
    first = dist.get_global_rank(group, 0)
    listed = json.dumps([(n, list(t.shape), str(t.dtype)[6:]) for n, t in tensors.items()])
    letter = torch.tensor(list(listed.encode()), dtype=torch.uint8)
    if stage:
        dist.send(torch.tensor([len(letter)]), first)
        dist.send(letter, first)
        for tensor in tensors.values():
            dist.send(tensor.detach().cpu().contiguous(), first)
        return tensors
    found = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    for other in range(1, mesh.stages.size()):
        rank, size = dist.get_global_rank(group, other), torch.zeros(1, dtype=torch.int64)
        dist.recv(size, rank)
        letter = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(letter, rank)
        for name, shape, dtype in json.loads(bytes(letter.tolist())):
            got = torch.empty(shape, dtype=getattr(torch, dtype))
            dist.recv(got, rank)
            found.setdefault(name, got)
    return found
