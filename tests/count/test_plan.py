"""Plans against a published run, torch's own bookkeeping, and what must hold for any plan."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minids import config
from minids.count import activations, memory, step
from minids.count.hardware import find
from minids.count.plan import Assumptions, bubble, layout_of, plan, rank_memory, rank_numbers
from minids.data.batches import Batch
from minids.errors import UserError
from minids.nn.transformer import Transformer

V3 = config.load(
    "deepseek-v3",
    ["data.context=4096", "train.batch_size=15360", "parallel.pipeline=16", "parallel.expert=64",
     "train.optimizer=adamw"],
)  # fmt: skip
H800 = find("h800")


def kept_by_autograd(cfg, b, s, dtype):
    """Bytes of all tensors that a forward pass saves, weights not counted, each storage once."""
    model = Transformer(cfg)
    model.init_weights(torch.Generator().manual_seed(1))
    model.compute_dtype = getattr(torch, dtype)
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    found, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(0, cfg.vocab_size, (b, s), generator=torch.Generator().manual_seed(2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(Batch(tokens, tokens.roll(-1, 1), []))
    return sum(found.values())


@pytest.mark.parametrize(
    ("preset", "changes", "b", "s", "dtype"),
    [
        ("tiny", [], 15, 134, "bfloat16"),
        ("tiny", [], 7, 64, "float32"),
        ("tiny", ["model.attention=gqa"], 6, 134, "bfloat16"),
        ("laptop", ["model.num_hidden_layers=3"], 2, 256, "bfloat16"),
        ("shakespeare-char", [], 4, 64, "float32"),
    ],
)
def test_what_is_kept_agrees_with_autograd_within_5_percent(preset, changes, b, s, dtype):
    cfg = config.load(preset, changes).model
    assert activations.kept(cfg, b, s, dtype) == pytest.approx(
        kept_by_autograd(cfg, b, s, dtype), rel=0.05
    )


def test_recomputing_keeps_less_than_a_quarter():
    cfg = config.load("deepseek-v3").model
    casts = [activations.casts(cfg, "bfloat16", recompute=again) for again in (False, True)]
    whole = activations.kept(cfg, 1, 4096, "bfloat16", fused=True) - casts[0]
    less = activations.kept(cfg, 1, 4096, "bfloat16", fused=True, recompute=True) - casts[1]
    assert less < whole / 4 and casts[1] < casts[0] / 40


def test_v3_on_its_own_cluster_fits_and_takes_a_step_in_twenty_seconds():
    layout = layout_of(V3, 2048, micro_batches=120, zero=1, schedule="dualpipe", recompute=True)
    found = plan(V3, layout, H800, 2.0, Assumptions(use=0.55, dispatch="fp8"), tokens=14.8e12)
    assert found.fits and found.memory.total > 0.5 * H800.memory_bytes
    assert found.step_s == pytest.approx(19.926, rel=0.05)  # arXiv 2505.09343 Table 4
    assert found.gpu_hours == pytest.approx(2.664e6, rel=0.05)
    assert found.dollars == pytest.approx(2 * found.gpu_hours)
    assert found.talk_s < found.compute_s  # what overlapping hides


def test_without_recomputation_or_sharding_v3_does_not_fit():
    layout = layout_of(V3, 2048, micro_batches=120, zero=1, schedule="1f1b")
    assert not plan(V3, layout, H800, 2.0, Assumptions()).fits


def test_stages_hold_all_numbers_between_them():
    cfg = V3.model
    whole = memory.all_numbers(cfg, with_mtp=True)
    assert sum(rank_numbers(cfg, 1)) == whole
    assert whole / 16 < sum(rank_numbers(cfg, 16)) < 1.6 * whole / 16


@given(st.integers(2, 64), st.integers(1, 256))
def test_bubbles_order_as_published(p, m):
    shares = {name: bubble(name, p, m) for name in ("1f1b", "interleaved", "zb1p", "dualpipe")}
    assert 0 <= shares["zb1p"] < shares["1f1b"] < 1
    assert shares["interleaved"] < shares["1f1b"]
    assert shares["dualpipe"] < shares["1f1b"]
    assert bubble("1f1b", p, m) == pytest.approx((p - 1) / (m + p - 1))
    assert bubble("1f1b", 1, m) == 0


def test_more_ranks_hold_less_each_and_hidden_talk_costs_nothing():
    cfg = config.load("node")
    h100, at = find("h100"), Assumptions()
    eight = rank_memory(cfg, layout_of(cfg, 8), h100, at, s=2048)
    sixteen = rank_memory(cfg, layout_of(cfg, 16), h100, at, s=2048)
    assert sixteen.weights == eight.weights / 2 and sixteen.optimizer == eight.optimizer / 2
    free = plan(cfg, layout_of(cfg, 8), h100, 1.0, at)
    paid = plan(cfg, layout_of(cfg, 8), h100, 1.0, at._replace(overlap=0))
    assert paid.step_s == pytest.approx(free.step_s + free.talk_s)
    assert free.mfu == pytest.approx(at.use)


@pytest.mark.parametrize(
    ("changes", "gpus", "field"),
    [
        (["parallel.pipeline=3"], 8, "parallel.pipeline"),
        (["parallel.pipeline=32"], 32, "parallel.pipeline"),
        (["parallel.expert=3"], 8, "parallel.expert"),
        (["parallel.expert=128"], 128, "parallel.expert"),
        (["train.batch_size=12"], 8, "train.batch_size"),
    ],
)
def test_impossible_layouts_are_named(changes, gpus, field):
    with pytest.raises(UserError) as error:
        layout_of(config.load("node", changes), gpus)
    assert error.value.where == field


def test_a_step_takes_longer_with_more_of_anything():
    cfg, speed = config.load("tiny").model, step.Speed(2e11, 6e9)
    base = step.predict(cfg, 8, 128, "bfloat16", speed)
    assert step.predict(cfg, 16, 128, "bfloat16", speed).gradient_s == pytest.approx(
        2 * base.gradient_s
    )
    assert step.predict(cfg, 16, 128, "bfloat16", speed).update_s == base.update_s
    assert step.predict(cfg, 8, 128, "float32", speed).peak_bytes > base.peak_bytes
    assert step.predict(cfg, 8, 128, "bfloat16", speed, "adamw").update_s < base.update_s


def test_muon_s_work_on_one_square_matrix():
    """Five times two products m·m·n and one m·m·m, a multiply and an add each."""
    cfg = config.load("shakespeare-char").model
    weights = [(3 * 4, 352, 128, 128)]  # gate, up and down of four layers, short side 128
    some = sum(c * 5 * (4 * m * m * n + 2 * m**3) for c, n, m, _ in weights)
    assert some < step.muon_flops(cfg) < 3 * some
