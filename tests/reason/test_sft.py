"""SFT: special tokens, packing without leaks, loss on completions, exact resume."""

import math

import pytest
import torch

from minids.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.nn.loss import IGNORE
from minids.reason.chat import (
    Example,
    Turn,
    conversation,
    decode_tagged,
    encode_tagged,
    everything,
    example,
    prompt_ids,
)
from minids.reason.packed import PackedBatches, lay_out, open_examples, pack
from minids.reason.sft import held_out_loss, packed_loss, tune

PAIRS = [("1+1", "2"), ("a longer question", "an answer"), ("x", "<think>so</think>yes"), ("", "?")]
DENSE = {"n_routed_experts": 0, "first_k_dense_replace": 3}


@pytest.fixture(scope="module")
def examples(tokenizer):
    return [example(tokenizer, *pair) for pair in PAIRS]


def wide(model):
    model.compute_dtype = torch.float64
    return model.double()


def gradient_of(model, batches):
    model.zero_grad()
    for batch in batches:
        packed_loss(model, batch).total.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_what_the_assistant_says_is_learned_and_nothing_else(tokenizer):
    found = example(tokenizer, "2+2", "<think>easy</think>4")
    learned = [t for t, learn in zip(found.tokens, found.learn, strict=True) if learn]
    assert decode_tagged(tokenizer, learned) == "<think>easy</think>4"
    assert learned[-1] == tokenizer.eos
    start = prompt_ids(tokenizer, "2+2")
    assert found.tokens[: len(start)] == start
    assert not any(found.learn[: len(start)])
    assert everything(found).learn == [False] + [True] * (len(found.tokens) - 1)


def test_a_user_cannot_type_special_tokens(tokenizer):
    specials = set(tokenizer.specials.values())
    ids = prompt_ids(tokenizer, "<|assistant|><think></answer><|eos|>")
    assert [i for i in ids if i in specials] == [
        tokenizer.bos, tokenizer.specials["<|user|>"], tokenizer.specials["<|assistant|>"],
    ]  # fmt: skip
    own = encode_tagged(tokenizer, "<think>a</think><|eos|>")
    assert [i for i in own if i in specials] == [
        tokenizer.specials["<think>"], tokenizer.specials["</think>"],
    ]  # fmt: skip


def test_several_turns_and_wrong_ones(tokenizer):
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d")]
    found = conversation(tokenizer, turns)
    learned = [t for t, learn in zip(found.tokens, found.learn, strict=True) if learn]
    assert decode_tagged(tokenizer, learned) == "bd"
    assert learned.count(tokenizer.eos) == 2
    for bad in ([Turn("assistant", "a")], [Turn("user", "a"), Turn("system", "b")], turns[:1], []):
        with pytest.raises(UserError):
            conversation(tokenizer, bad)
    with pytest.raises(UserError, match="says nothing"):
        example(tokenizer, "a", "")


@pytest.mark.parametrize("changes", [{}, DENSE], ids=["experts", "dense"])
def test_packed_loss_and_gradient_are_those_of_the_examples_alone(
    tiny_model, tokenizer, examples, changes
):
    model = wide(tiny_model(aux_loss_alpha=0.0, **changes))
    together = [pack([examples[:2], examples[2:]], 41, tokenizer.pad)]
    alone = [pack([[e]], len(e.tokens), tokenizer.pad) for e in examples]
    sums = [sum(packed_loss(model, b).main.item() for b in bs) for bs in (together, alone)]
    assert abs(sums[0] - sums[1]) < 1e-11
    one, other = gradient_of(model, together), gradient_of(model, alone)
    for name in other:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-11)


def test_one_example_alone_is_the_models_own_loss(tiny_model, tokenizer, examples):
    model = wide(tiny_model(**DENSE))
    batch = pack([[examples[1]]], len(examples[1].tokens), tokenizer.pad)
    own = type(model).loss(model, batch)
    found = packed_loss(model, batch)
    assert abs(found.main.item() - own.main.item()) < 1e-11
    assert found.n_targets == own.n_targets == sum(examples[1].learn)


def test_nothing_leaks_between_neighbours(tiny_model, tokenizer, examples):
    """Another neighbour, the same gradient on this example."""
    model = wide(tiny_model(**DENSE))
    mute = Example(examples[1].tokens, [False] * len(examples[1].tokens))
    changed = Example([5] * len(mute.tokens), mute.learn)
    losses = {
        packed_loss(model, pack([[n, examples[2]]], 60, tokenizer.pad)).main.item()
        for n in (mute, changed)
    }
    assert max(losses) - min(losses) < 1e-12


def test_a_row_of_padding_alone_is_defined(tiny_model, tokenizer):
    model = tiny_model()
    found = packed_loss(model, pack([[]], 7, tokenizer.pad))
    assert found.n_targets == 0
    assert found.main == 0
    found.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_loads_have_a_row_for_every_expert_layer(tiny_model, tokenizer, examples):
    model = tiny_model(num_nextn_predict_layers=1)
    load = packed_loss(model, pack([examples], 60, tokenizer.pad)).load
    assert len(load) == sum(1 for _ in model.moe_layers())
    assert not load[-1].any()
    assert load[:-1].sum() == 2 * 60 * model.cfg.num_experts_per_tok
    model.update_biases(load)


def test_every_example_once_an_epoch_and_no_row_overflows():
    lengths = [3, 17, 5, 9, 20, 1, 8, 8, 8, 12] * 9
    rows = lay_out(lengths, range(len(lengths)), 20)
    assert sorted(i for row in rows for i in row) == list(range(90))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 20
    assert len(rows) <= 1.1 * sum(lengths) / 20


def test_batches_go_on_where_they_were(tokenizer, examples):
    def begin():
        return PackedBatches(examples * 5, 3, 50, tokenizer.pad, seed=4)

    one, other = begin(), begin()
    for _ in range(5):  # into the second epoch
        one.next()
    assert one.epoch > 0
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(one.next(), other.next(), strict=True))
    labels = one.next().labels
    assert (labels != IGNORE).any()


def config(tokenizer, **train):
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
             "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
             "intermediate_size": 32, "initializer_range": 0.0}  # fmt: skip
    return RunConfig(
        model=ModelConfig(vocab_size=tokenizer.vocab_size, **small),
        data=DataConfig(name="text", path="examples", context=40),
        train=TrainConfig(
            batch_size=2, warmup_steps=1, threads=1, workers=1, device="cpu", precision="float32",
            sample_every_seconds=0, **train,
        ),
    )  # fmt: skip


def data_of(cfg, tokenizer):
    pairs = [(f"{i}", f"<answer>{i}</answer>") for i in range(60)]
    found = [example(tokenizer, *pair) for pair in pairs]
    return open_examples(cfg, tokenizer, found, name="echo", held_out=6)


def test_a_run_learns_and_a_resumed_run_ends_with_the_same_weights(tmp_path):
    tokenizer = Tokenizer.of_characters("0123456789")
    cfg = config(tokenizer, max_steps=40, save_every=12, keep=9)
    data = data_of(cfg, tokenizer)
    whole = tune(cfg, data, out=tmp_path / "whole")
    assert whole.metrics["val_loss"] < 1.4 < math.log(tokenizer.vocab_size)
    kept = tmp_path / "whole/checkpoints"
    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.toml", "run.json", "metrics.jsonl"):
        (half / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (half / "checkpoints").mkdir()
    (kept / "step-00000012").rename(half / "checkpoints/step-00000012")
    assert tune(cfg, data, out=half, resume=True).weights_sha256 == whole.weights_sha256
    with pytest.raises(UserError, match="not what this run was tuned on"):
        other = open_examples(cfg, tokenizer, data.examples, name="other")
        tune(cfg, other, out=half, resume=True)


def test_training_begins_at_the_weights_given(tmp_path):
    tokenizer = Tokenizer.of_characters("0123456789")
    cfg = config(tokenizer, max_steps=1, lr=0.0, muon_lr=0.0)
    data = data_of(cfg, tokenizer)
    first = tune(cfg, data, out=tmp_path / "a")
    from minids.nn.transformer import Transformer

    model = Transformer(cfg.model)
    model.init_weights(torch.Generator().manual_seed(9))
    before = held_out_loss(model, data)
    done = tune(cfg, data, out=tmp_path / "b", weights=model.state_dict())
    assert done.weights_sha256 != first.weights_sha256
    assert done.metrics["val_loss"] == pytest.approx(before["val_loss"], abs=1e-6)


def test_too_few_examples_and_too_long_ones_are_told(tokenizer):
    cfg = config(Tokenizer.of_bytes())
    long = [example(tokenizer, "a" * 50, "b")] * 20
    with pytest.raises(UserError, match="0 of 20 examples fit"):
        open_examples(cfg, tokenizer, long, name="x")
    short = [example(tokenizer, "a", "b")] * 20
    assert open_examples(cfg, tokenizer, long + short, name="x").dropped == 20
