"""What we write, stock transformers loads: every key, the same logits, the same 64 tokens."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.hub import write
from minids.hub.read import INDEX, MTP_FILE, read
from minids.hub.write import export

V2 = {"topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False}

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load(folder):
    """transformers' model, having complained about nothing."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    return model.eval()


@torch.no_grad()
def test_transformers_loads_every_key_and_computes_the_same(any_model, tmp_path):
    export(any_model.cfg, any_model.state_dict(), tmp_path / "out", shard_bytes=40_000)
    theirs = load(tmp_path / "out")
    tokens = torch.randint(97, (2, 40), generator=torch.Generator().manual_seed(3))
    logits = any_model(tokens)  # [b s V]
    assert logits.std() > 0.5
    torch.testing.assert_close(logits, theirs(tokens).logits, rtol=0, atol=1e-5)

    prompt = tokens[:1, :5]
    grown = theirs.generate(prompt, max_new_tokens=64, do_sample=False)
    ours = prompt
    for _ in range(64):
        ours = torch.cat((ours, any_model(ours)[:, -1:].argmax(-1)), dim=1)
    assert ours.tolist() == grown.tolist()


def test_files_are_those_of_a_release(exported):
    folder, model = exported(num_nextn_predict_layers=1)
    index = json.loads((folder / INDEX).read_text())
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    named = {name: file for file in shards for name in load_file(file)}
    assert {name: file.name for name, file in named.items()} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(
        t.nbytes for file in shards for t in load_file(file).values()
    )
    assert all(file.stat().st_size < 30_000 + 4096 for file in shards)
    assert "model.layers.1.mlp.experts.7.gate_proj.weight" in named
    beside = load_file(folder / MTP_FILE)
    assert not beside.keys() & named.keys()
    assert all(name.startswith("model.layers.3.") for name in beside)
    assert torch.equal(beside["model.layers.3.eh_proj.weight"], model.mtp[0].eh_proj.weight)
    assert torch.equal(beside["model.layers.3.shared_head.head.weight"], model.lm_head.weight)
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".tmp")]


def test_bfloat16_keeps_the_selection_bias_in_float32(tiny_model, tmp_path):
    model = tiny_model(n_routed_experts=8, n_shared_experts=1)
    export(model.cfg, model.state_dict(), tmp_path / "out", dtype="bfloat16")
    with safe_open(next((tmp_path / "out").glob("model-*")), framework="pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in list(file.keys())}
    assert {kind for name, kind in kinds.items() if "correction_bias" in name} == {"F32"}
    assert {kind for name, kind in kinds.items() if "correction_bias" not in name} == {"BF16"}
    loaded = load(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    assert loaded.model.layers[0].mlp.gate.e_score_correction_bias.dtype == torch.float32


def test_the_tokenizer_travels_with_the_model(tiny_model, tmp_path):
    tokenizer = Tokenizer.of_bytes()
    tokenizer.save(tmp_path / "tokenizer")
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    export(model.cfg, model.state_dict(), tmp_path / "out", tokenizer=tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("a fox").input_ids == tokenizer.encode("a fox")
    loaded = load(tmp_path / "out")
    assert loaded.generation_config.eos_token_id == tokenizer.eos == theirs.eos_token_id
    assert loaded.config.bos_token_id == tokenizer.bos
    assert Tokenizer.load(tmp_path / "out").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_qk_norm": True}, "model.use_qk_norm"),
        ({"n_routed_experts": 8, "moe_layer_freq": 2}, "model.moe_layer_freq"),
        ({"num_attention_heads": 5, "n_routed_experts": 8, **V2}, "model.num_attention_heads"),
        ({"attention": "gqa", "n_routed_experts": 8, "topk_method": "greedy"}, "model.topk_method"),
        ({"n_routed_experts": 8, "scoring_func": "sqrtsoftplus"}, "model.scoring_func"),
    ],
)
def test_what_no_class_of_transformers_computes_is_refused_by_field(
    changes, field, tiny_model, tmp_path
):
    model = tiny_model(**changes)
    with pytest.raises(UserError) as error:
        export(model.cfg, model.state_dict(), tmp_path / "out")
    assert error.value.code == 2
    assert error.value.where.startswith(field)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_exists_is_overwritten(tiny_model, tmp_path):
    model = tiny_model()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(UserError, match="not empty") as error:
            export(model.cfg, model.state_dict(), tmp_path / name)
        assert error.value.code == 2
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export(model.cfg, model.state_dict(), tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_failed_write_leaves_nothing_behind(tiny_model, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    model = tiny_model()
    monkeypatch.setattr(write, "save_file", full)
    with pytest.raises(UserError, match="disk is full") as error:
        export(model.cfg, model.state_dict(), tmp_path / "out")
    assert error.value.code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_found_before_the_first_byte(tiny_model, tmp_path, monkeypatch):
    usage = write.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: usage)
    model = tiny_model()
    with pytest.raises(UserError, match="1,000 free") as error:
        export(model.cfg, model.state_dict(), tmp_path / "out")
    assert error.value.code == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(tiny_model, tmp_path):
    model = tiny_model()
    state = model.state_dict()
    bad = {
        "missing": {k: v for k, v in state.items() if k != "norm.weight"},
        "has shape [63]; allowed: [64]": state | {"norm.weight": torch.ones(63)},
        "not finite": state | {"norm.weight": torch.full((64,), float("nan"))},
    }
    for message, changed in bad.items():
        with pytest.raises(UserError) as error:
            export(model.cfg, changed, tmp_path / "out")
        assert error.value.code == 4
        assert message in error.value.line()


def test_a_partial_shard_is_never_visible(exported):
    folder, _ = exported()
    assert read(folder).state.keys()
