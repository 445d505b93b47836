"""One rank of a pipeline: every schedule's order, loss and gradients against the whole model."""

import json
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist

from minids.config import load
from minids.dist import mesh
from minids.dist.pipeline import Pipeline, flat
from minids.dist.place import place_of
from minids.dist.schedules import SCHEDULES
from minids.dist.spread import lay
from minids.nn.transformer import Transformer
from minids.train.comm import Group
from minids.train.recompute import recompute_blocks
from minids.train.sharded import local, whole
from minids.train.step import Gradients

SMALL = [
    "model.vocab_size=97", "model.hidden_size=16", "model.num_hidden_layers=8",
    "model.num_attention_heads=2", "model.kv_lora_rank=8", "model.qk_nope_head_dim=4",
    "model.qk_rope_head_dim=4", "model.v_head_dim=4", "model.intermediate_size=24",
    "model.moe_intermediate_size=8", "model.n_routed_experts=4", "model.num_experts_per_tok=2",
    "model.num_nextn_predict_layers=1", "model.initializer_range=0.3", "data.context=12",
    "model.zero_init_output=false",
]  # fmt: skip


def whole_model(cfg):
    """The same float64 weights on every rank."""
    model = Transformer(cfg.model).double()
    model.compute_dtype = torch.float64
    model.init_weights(torch.Generator().manual_seed(1))
    return model


def apart(found, wanted):
    """Largest difference over the largest value."""
    return (found - wanted).abs().max() / wanted.abs().max()


def batch_of(rows):
    """Rows of a ragged batch of 8."""
    tokens = torch.randint(0, 97, (8, 13), generator=torch.Generator().manual_seed(5))
    labels = tokens[:, 1:].clone()
    labels[2, 5:] = -100
    return SimpleNamespace(tokens=tokens[rows, :-1].contiguous(), labels=labels[rows])


def facts_of(pipe, rows, one, reference_loss):
    """One step of a pipeline against the whole model, the worst of all ranks."""
    gradients = Gradients(pipe.part, apart=True, copies=pipe.part.copies)  # as training has them
    losses, load_ = pipe.run(batch_of(rows), 100)
    total = torch.stack([*(loss.total for loss in losses), torch.zeros(())]).double().sum()
    dist.all_reduce(total)
    dist.all_reduce(load_)
    reference = dict(one.named_parameters())
    errors = torch.stack(
        [apart(whole(weight.grad), reference[n].grad) for n, weight in pipe.part.named_parameters()]
    )
    pipe.part.update_biases(load_)
    one.update_biases(load_)
    biases = dict(one.named_buffers())
    norm = gradients.sum_over(Group(place_of().rank, place_of().world))
    wanted_norm = torch.stack([p.grad.square().sum() for p in one.parameters()]).sum().sqrt()
    facts = torch.tensor([
        errors.max(),
        pipe.done != list(flat(pipe.schedule.orders[pipe.rank])),
        any(not torch.equal(b, biases[n]) for n, b in pipe.part.named_buffers()),
    ], dtype=torch.float64)  # fmt: skip
    dist.all_reduce(facts, dist.ReduceOp.MAX)
    held = torch.tensor([
        sum(local(w).numel() for n, w in pipe.part.named_parameters() if n not in pipe.part.copies)
    ])  # fmt: skip
    dist.all_reduce(held)
    return {
        "loss": abs(total - reference_loss.total.detach()).item() / reference_loss.total.item(),
        "gradients": facts[0].item(),
        "orders_differ": facts[1].item(),
        "biases_differ": facts[2].item(),
        "numbers": held.item() / sum(w.numel() for w in one.parameters()),
        "norm": abs(norm / wanted_norm.item() - 1),
        "loads_equal": torch.equal(load_, reference_loss.load),
    }


def whole_step(cfg):
    """The whole model in one process → model with gradients, loss"""
    one = whole_model(cfg)
    wanted = one.loss(batch_of(slice(None)))
    (wanted.total / 100).backward()
    return one, wanted


def schedules(place):
    """Every schedule on four ranks of one pipeline."""
    found = {}
    tied = ["model.tie_word_embeddings=true"]
    for name in [n for n in SCHEDULES if n != "dualpipe"] + ["1f1b tied"]:
        cfg = load("tiny", [*SMALL, "parallel.pipeline=4", *(tied if "tied" in name else [])])
        grid = mesh.lay_out(cfg, "cpu") if found else mesh.join(cfg, place, "cpu")
        schedule = SCHEDULES[name.split()[0]](4, 8)
        pipe = Pipeline(whole_model(cfg), schedule, grid.stages.get_group(), 8, 12)
        found[name] = facts_of(pipe, slice(None), *whole_step(cfg))
    return found


def combined(place):
    """Two pipelines of two ranks, sharded over one another, with and without spread experts."""
    found = {}
    for name, experts, again in (
        ("1f1b", 1, True), ("1f1b", 2, False), ("zb1p", 2, False), ("zb1p", 2, True),
        ("interleaved", 1, False),
    ):  # fmt: skip
        layout = ["parallel.data=2", "parallel.pipeline=2", f"parallel.expert={experts}"]
        words = [*SMALL, *layout, f"parallel.schedule={name}", "train.batch_size=8"]
        cfg = load("tiny", words)
        grid = mesh.lay_out(cfg, "cpu")
        model = whole_model(cfg)
        if again:
            recompute_blocks(model)
        pipe = lay(model, cfg, grid, "cpu")
        mine = slice(4 * grid.data.get_local_rank(), 4 * grid.data.get_local_rank() + 4)
        found[f"{name} experts {experts}" + " again" * again] = facts_of(
            pipe, mine, *whole_step(cfg)
        )
    return found


def main():
    torch.set_num_threads(1)
    place = place_of()
    found = {"schedules": schedules(place), "combined": combined(place)}
    if place.rank == 0:
        sys.stdout.write(json.dumps(found))
    mesh.leave()


if __name__ == "__main__":
    main()
