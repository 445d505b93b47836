"""What one of several processes does in a test: prints what rank 0 found."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from minids.config import load
from minids.dist import expert, fsdp, mesh
from minids.dist.place import place_of
from minids.nn.experts import experts_sorted
from minids.nn.transformer import Transformer
from minids.train import checkpoint, saving
from minids.train.comm import Group
from minids.train.optim import Optimizer
from minids.train.recompute import recompute_blocks
from minids.train.sharded import Spread, gathered
from minids.train.step import Gradients

SMALL = [
    "model.vocab_size=272", "model.hidden_size=32", "model.num_hidden_layers=2",
    "model.num_attention_heads=2", "model.kv_lora_rank=16", "model.qk_nope_head_dim=8",
    "model.qk_rope_head_dim=8", "model.v_head_dim=8", "model.intermediate_size=48",
    "model.moe_intermediate_size=16", "model.n_routed_experts=8", "model.n_group=4",
    "model.topk_group=2", "model.num_experts_per_tok=3", "data.context=48", "train.batch_size=4",
]  # fmt: skip


def whole_model(cfg):
    """The same float64 weights on every rank."""
    model = Transformer(cfg.model).double()
    model.compute_dtype = torch.float64
    model.init_weights(torch.Generator().manual_seed(1))
    return model


def rows(b, rank, world):
    """A rank's rows of a batch of 4."""
    share = 4 // world
    part = slice(rank * share, (rank + 1) * share)
    return SimpleNamespace(tokens=b.tokens[part], labels=b.labels[part])


def apart(found, wanted):
    """Largest difference over the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def shards():
    """Loss and gradients of every layout against one process, and the biases after an update."""
    place = place_of()
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 272, (4, 49), generator=generator)
    batch = SimpleNamespace(tokens=tokens[:, :-1], labels=tokens[:, 1:])
    found = {}
    layouts = [(e, False) for e in (1, 2, 4) if place.world % e == 0] + [(2, True)]
    for experts, again in layouts:
        layout = [f"parallel.data={place.world}", f"parallel.expert={experts}"]
        cfg = load("tiny", [*SMALL, *layout])
        grid = mesh.lay_out(cfg, "cpu") if found else mesh.join(cfg, place, "cpu")
        one, many = whole_model(cfg), whole_model(cfg)
        if again:
            recompute_blocks(many)
        fsdp.shard(many, grid)
        wanted = one.loss(batch)
        (wanted.total / 100).backward()
        got = many.loss(rows(batch, place.rank, place.world))
        (got.total / 100).backward()
        total, load_ = got.total.detach().clone(), got.load.clone()
        dist.all_reduce(total)
        dist.all_reduce(load_)
        reference = dict(one.named_parameters())
        gradients = {
            name: apart(weight.grad.full_tensor(), reference[name].grad)
            for name, weight in many.named_parameters()
        }
        many.update_biases(load_)
        mine = torch.stack([layer.gate.e_score_correction_bias for layer in many.moe_layers()])
        everyone = [torch.empty_like(mine) for _ in range(place.world)]
        dist.all_gather(everyone, mine)
        found[f"experts {experts}" + " again" * again] = {
            "loss": apart(total, wanted.total.detach()),
            "gradients": max(gradients.values()),
            "parameters": len(gradients),
            "loads_equal": torch.equal(load_, wanted.load),
            "biases_equal": all(torch.equal(mine, other) for other in everyone),
            "biases_moved": mine.abs().sum().item() > 0,
            "held": sum(w.to_local().numel() for w in many.parameters()),
            "all": sum(w.numel() for w in one.parameters()),
        }
    return found


def parts_of(folder):
    """A model and its moments: saved in parts and whole by four ranks, read by two."""
    place = place_of()
    cfg = load("tiny", [*SMALL, f"parallel.data={place.world}", "parallel.expert=2"])
    grid = mesh.lay_out(cfg, "cpu")
    comm = Group(place.rank, place.world)
    model = whole_model(cfg)
    fsdp.shard(model, grid)
    if place.world == 2:
        model.init_weights(torch.Generator().manual_seed(9))
    gradients = Gradients(model)
    gradients.flat.normal_(generator=torch.Generator().manual_seed(place.rank))
    optimizer = Optimizer(model, cfg.train, torch.float64)
    optimizer.step(1.0, comm)
    run = SimpleNamespace(model=model, optimizer=optimizer, spread=Spread(model))
    if place.world == 4:
        tensors = [gathered(part.state_dict()) for part in (model, optimizer)]
        checkpoint.save_parts(
            folder / "parts", 1, comm, tensors=saving.named(run), state={}, about={}
        )
        if place.rank == 0:
            checkpoint.save(
                folder / "whole", 1, model=tensors[0], optim=tensors[1], state={}, about={}
            )
        return {}
    checkpoint.load(folder / "parts/step-00000001", alone=False)
    saving.take_parts(run, folder / "parts/step-00000001")
    wanted = checkpoint.load(folder / "whole/step-00000001")
    found = [gathered(part.state_dict()) for part in (model, optimizer)]
    return {
        name: all(torch.equal(mine[key], tensor) for key, tensor in theirs.items())
        and mine.keys() == theirs.keys() and len(mine) > 20
        for name, mine, theirs in zip(
            ("model", "optim"), found, (wanted.model, wanted.optim), strict=True
        )
    }  # fmt: skip


def travel():
    """Dispatch and combine alone: who goes where, that nobody is lost, and the sum that returns."""
    place = place_of()
    group = dist.group.WORLD
    generator = torch.Generator().manual_seed(place.rank)
    shared = torch.Generator().manual_seed(99)
    gate_up = torch.randn(8, 10, 7, generator=shared, dtype=torch.float64)
    down = torch.randn(8, 7, 5, generator=shared, dtype=torch.float64)
    out = {}
    for case, high in (("spread", 8), ("one rank", 2)):
        x = torch.randn(11, 7, generator=generator, dtype=torch.float64, requires_grad=True)
        chosen = torch.rand(11, high, generator=generator).argsort(-1)[:, :2]
        gate = torch.rand(11, 2, generator=generator, dtype=torch.float64)
        road = expert.plan_road(chosen, 8 // place.world, group)
        sent = torch.tensor([sum(road.sent), sum(road.arrived)])
        dist.all_reduce(sent)
        echo = expert.exchange(
            expert.exchange(x[road.token], road, group, False), road, group, True
        )
        own = slice(place.rank * (8 // place.world), (place.rank + 1) * (8 // place.world))
        answer = expert.experts_spread(x, chosen, gate, gate_up[own], down[own], group)
        load_ = torch.bincount(chosen.flatten(), minlength=8)
        wanted = experts_sorted(x, chosen, gate, load_, gate_up, down)
        out[case] = {
            "sent_is_arrived": sent[0].item() == sent[1].item(),
            "echo": torch.equal(echo, x[road.token]),
            "once_per_rank": len(road.token)
            == len(torch.stack((road.token, road.to)).unique(dim=1).T),
            "answer": apart(answer, wanted),
        }
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {"shards": shards(), "travel": travel(), "parts": parts_of(Path(sys.argv[1]))}
    if dist.get_rank() == 0:
        sys.stdout.write(json.dumps(result))
    mesh.leave()
