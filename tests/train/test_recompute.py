"""Blocks computed twice: the same bits, what routers counted once, and the memory that was said."""

import shutil

import pytest
import torch

from minids.config import load
from minids.count import activations
from minids.data.batches import Batch
from minids.lab.peak import peak_bytes
from minids.lowp.linear import V3
from minids.nn.transformer import Transformer
from minids.train.precision import to_fp8
from minids.train.recompute import recompute_blocks

SMALL = ["model.num_hidden_layers=2", "model.num_nextn_predict_layers=1"]


def step_of(cfg, b, s, dtype, *, again):
    """One forward and backward → loss, gradients, peak bytes of it"""
    model = Transformer(cfg.model).to(torch.promote_types(getattr(torch, dtype), torch.float32))
    model.init_weights(torch.Generator().manual_seed(1))
    model.compute_dtype = getattr(torch, dtype)
    if cfg.train.precision == "fp8-sim":
        to_fp8(model, V3)
    if again:
        assert recompute_blocks(model) == len(model.layers) + len(model.mtp)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    tokens = torch.randint(0, cfg.model.vocab_size, (b, s), generator=torch.manual_seed(2))
    found = []

    def work():
        found.append(model.loss(Batch(tokens, tokens.roll(-1, 1), [])))
        found[0].total.backward()

    peak = peak_bytes(work)
    return found[0], {name: weight.grad for name, weight in model.named_parameters()}, peak


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [("float64", []), ("bfloat16", []), ("bfloat16", ["train.precision=fp8-sim"]),
     ("float32", ["model.attention=gqa", "model.topk_method=greedy", "model.n_group=1",
                  "model.topk_group=1"])],
)  # fmt: skip
def test_loss_gradients_and_loads_are_the_same_bits(dtype, changes):
    cfg = load("tiny", [*SMALL, "model.zero_init_output=false", *changes])
    (one, wanted, _), (two, got, _) = (step_of(cfg, 2, 33, dtype, again=a) for a in (False, True))
    assert cfg.model.n_routed_experts and len(one.mtp) == 1
    for name, value in one._asdict().items():
        assert torch.equal(value, getattr(two, name)), name  # loads too: counted once
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.any() and torch.equal(gradient, got[name]), name


@pytest.mark.parametrize(
    ("changes", "b", "s", "dtype"),
    [([], 7, 64, "float32"), (["model.num_hidden_layers=8"], 8, 128, "float32"),
     (["model.attention=gqa"], 6, 134, "bfloat16")],
)  # fmt: skip
def test_memory_falls_to_what_was_predicted(changes, b, s, dtype):
    cfg = load("tiny", changes)
    before, after = (step_of(cfg, b, s, dtype, again=again)[2] for again in (False, True))
    said = activations.kept(cfg.model, b, s, dtype, recompute=True)
    assert after == pytest.approx(said, rel=0.15)  # the turn to backward is a block more or less
    assert after < 0.4 * before


def test_a_run_ends_with_the_same_weights_and_may_change_on_its_way(micro, trained, tmp_path):
    words = ["model.num_nextn_predict_layers=1", "train.max_steps=6", "train.save_every=3"]
    whole, _ = trained(micro(*words), tmp_path / "whole")
    again = "train.activation_checkpointing=full"
    full, _ = trained(micro(*words, again), tmp_path / "full")
    assert full.weights_sha256 == whole.weights_sha256
    assert (tmp_path / "full/checkpoints/step-00000003").is_dir()
    shutil.rmtree(tmp_path / "full/checkpoints/step-00000006")
    off, _ = trained(micro(*words), tmp_path / "full", resume=True)
    assert off.weights_sha256 == whole.weights_sha256
