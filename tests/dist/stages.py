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
from minids.nn.transformer import Transformer

SMALL = [
    "model.vocab_size=97", "model.hidden_size=16", "model.num_hidden_layers=8",
    "model.num_attention_heads=2", "model.kv_lora_rank=8", "model.qk_nope_head_dim=4",
    "model.qk_rope_head_dim=4", "model.v_head_dim=4", "model.intermediate_size=24",
    "model.moe_intermediate_size=8", "model.n_routed_experts=4", "model.num_experts_per_tok=2",
    "model.num_nextn_predict_layers=1", "model.initializer_range=0.3", "data.context=12",
    "model.zero_init_output=false", "parallel.pipeline=4",
]  # fmt: skip


def whole_model(cfg):
    """The same float64 weights on every rank."""
    model = Transformer(cfg.model).double()
    model.compute_dtype = torch.float64
    model.init_weights(torch.Generator().manual_seed(1))
    return model


def main():
    place = place_of()
    tied = ["model.tie_word_embeddings=true"]
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 97, (8, 13), generator=generator)
    labels = tokens[:, 1:].clone()
    labels[2, 5:] = -100
    batch = SimpleNamespace(tokens=tokens[:, :-1].contiguous(), labels=labels)
    found = {}
    for name in [n for n in SCHEDULES if n != "dualpipe"] + ["1f1b tied"]:
        cfg = load("tiny", [*SMALL, *(tied if "tied" in name else [])])
        grid = mesh.lay_out(cfg, "cpu") if found else mesh.join(cfg, place, "cpu")
        schedule = SCHEDULES[name.split()[0]](4, 8)
        one = whole_model(cfg)
        wanted = one.loss(batch)
        (wanted.total / 100).backward()
        reference = dict(one.named_parameters())
        pipe = Pipeline(whole_model(cfg), schedule, grid.stages.get_group(), 8, 12)
        losses, load_ = pipe.run(batch, 100)
        total = torch.stack([*(loss.total for loss in losses), torch.zeros(())]).double().sum()
        dist.all_reduce(total)
        dist.all_reduce(load_)
        errors = [
            (weight.grad - reference[n].grad).abs().max() / reference[n].grad.abs().max()
            for n, weight in pipe.part.named_parameters()
        ]
        pipe.part.update_biases(load_)
        one.update_biases(load_)
        biases = dict(one.named_buffers())
        facts = torch.tensor([
            pipe.done != list(flat(schedule.orders[place.rank])),
            any(not torch.equal(b, biases[n]) for n, b in pipe.part.named_buffers()),
            sum(w.numel() for n, w in pipe.part.named_parameters() if n not in pipe.part.copies),
        ], dtype=torch.float64)  # fmt: skip
        dist.all_reduce(facts)
        worst = torch.stack(errors).max()
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        found[name] = {
            "loss": abs(total - wanted.total.detach()).item() / wanted.total.item(),
            "gradients": worst.item(),
            "orders_differ": facts[0].item(),
            "biases_differ": facts[1].item(),
            "numbers": facts[2].item() / sum(w.numel() for w in one.parameters()),
            "loads_equal": torch.equal(load_, wanted.load),
        }
    if place.rank == 0:
        sys.stdout.write(json.dumps(found))
    mesh.leave()


if __name__ == "__main__":
    main()
