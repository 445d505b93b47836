"""On a CUDA device: the gpu preset, cut down, trains and resumes; decoding says what a CPU says."""

import copy
import json
import math

import pytest
import torch

from minids import config
from minids.generate.engine import Engine
from minids.generate.settings import Sampling
from minids.nn.cache import Cache
from minids.nn.experts import experts_loop, experts_sorted
from minids.train import events
from minids.train.loop import Hooks, train

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUT = [
    "model.hidden_size=256", "model.num_hidden_layers=3", "model.num_attention_heads=4",
    "model.q_lora_rank=64", "model.kv_lora_rank=64", "model.intermediate_size=512",
    "model.n_routed_experts=16", "model.n_group=4", "model.topk_group=2",
    "model.num_experts_per_tok=4", "model.moe_intermediate_size=64",
    "data.context=256", "data.documents=4000", "train.max_minutes=0", "train.max_steps=24",
    "train.batch_size=8", "train.warmup_steps=4", "train.save_every=8", "train.eval_every=0",
    "train.eval_documents=8", "train.sample_every_seconds=0", f"train.device={DEVICE}",
]  # fmt: skip


class StopHere(Exception):
    """The run ends in the middle, as if the machine had died."""


def watch(losses, stop_at=0):
    def hear(event):
        if isinstance(event, events.Step):
            losses[event.step] = event.loss
            if event.step == stop_at:
                raise StopHere

    return Hooks(on_event=hear)


def test_the_gpu_preset_cut_down_trains_in_bfloat16_and_resumes(tmp_path):
    cfg = config.load("gpu", CUT)
    whole, first, second = {}, {}, {}
    done = train(cfg, out=tmp_path / "whole", hooks=watch(whole))
    assert len(whole) == 24 and all(map(math.isfinite, whole.values()))
    assert whole[1] == pytest.approx(math.log(cfg.model.vocab_size), rel=0.05)
    assert whole[24] < 0.8 * whole[1]
    machine = json.loads((tmp_path / "whole" / "run.json").read_text())["machine"]
    assert (machine["device"], machine["precision"]) == (DEVICE, "bfloat16")

    with pytest.raises(StopHere):
        train(cfg, out=tmp_path / "cut", hooks=watch(first, stop_at=13))
    again = train(cfg, out=tmp_path / "cut", resume=True, hooks=watch(second))
    assert sorted(second) == list(range(9, 25)) and again.tokens == done.tokens
    # atomic additions of the embedding's gradient come in any order: close, not equal
    assert [second[i] for i in range(9, 25)] == pytest.approx(
        [whole[i] for i in range(9, 25)], rel=0.03
    )


def test_decoding_in_float32_says_what_a_cpu_says(tiny_model, tokenizer):
    here = tiny_model(n_routed_experts=8, num_experts_per_tok=3)
    there = copy.deepcopy(here).to(DEVICE)
    tokens = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(2))
    mine, yours = Cache(len(here.layers)), Cache(len(there.layers))
    with torch.inference_mode():
        for part in tokens.split([5, 1, 3], dim=1):
            a, b = here(part, cache=mine), there(part.to(DEVICE), cache=yours)
            torch.testing.assert_close(b.cpu(), a, rtol=1e-4, atol=1e-4)  # another order of sums
    prompts, greedy = [[tokenizer.bos, 70, 71], [tokenizer.bos, 40]], Sampling(temperature=0.0)
    said = [Engine(m, tokenizer).complete(prompts, greedy, 24) for m in (here, there)]
    assert [c.tokens for c in said[0]] == [c.tokens for c in said[1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_and_their_gradients_are_those_of_the_definition(dtype):
    generator = torch.Generator().manual_seed(3)
    e, d, f, tokens, k = 6, 64, 32, 50, 2
    gate_up = torch.randn(e, 2 * f, d, generator=generator) / d**0.5
    down = torch.randn(e, d, f, generator=generator) / f**0.5
    x = torch.randn(tokens, d, generator=generator)
    expert = torch.rand(tokens, e - 1, generator=generator).topk(k).indices  # the last one idles
    gate = torch.rand(tokens, k, generator=generator)
    pull = torch.randn(tokens, d, generator=generator)
    found = []
    for rule, device, kind in (
        (experts_loop, "cpu", torch.float64),
        (experts_sorted, DEVICE, dtype),
    ):
        leaves = [t.to(device, kind).requires_grad_() for t in (x, gate, gate_up, down)]
        choice = expert.to(device)
        load = (torch.bincount(choice.flatten(), minlength=e),) if rule is experts_sorted else ()
        out = rule(leaves[0], choice, leaves[1], *load, *leaves[2:])
        grads = torch.autograd.grad(out, leaves, pull.to(device, kind))
        found.append([t.detach().double().cpu() for t in (out, *grads)])
    for right, got in zip(*found, strict=True):
        error = (got - right).norm() / right.norm()
        assert error < (1e-5 if dtype == torch.float32 else 1.5e-2)
