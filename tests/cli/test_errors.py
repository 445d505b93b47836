"""Bad input: one line that names the field and what is allowed, exit 2, nothing written."""

import json
import os
from pathlib import Path

import pytest

FIELDS = [
    ("model.hiden_size=64", "did you mean model.hidden_size?"),
    ("hidden_sise=64", "did you mean model.hidden_size?"),
    ("modle.hidden_size=64", "did you mean [model]?"),
    ("model.hidden_size=abc", "not a whole number"),
    ("model.hidden_size=1.5", "not a whole number"),
    ("model.hidden_size=0", "1 … 65,536"),
    ("model.qk_rope_head_dim=7", "even numbers"),
    ("model.num_experts_per_tok=99", "model.num_experts_per_tok"),
    ("model.n_group=3", "divisors of 8"),
    ("model.topk_group=2", "1 … 1"),
    ("model.attention=mqa", "mla, gqa, csa"),
    ("model.num_nextn_predict_layers=-1", "0 … 64"),
    ("model.rms_norm_eps=nan", "out of range"),
    ("model.vocab_size=1", "2 … "),
    ("model.tie_word_embeddings=maybe", "true, false"),
    ("data.context=1", "2 … "),
    ("data.context=99999", "data.context"),
    ("data.name=talse", "tales, stdlib, text"),
    ("data.held_out=0.9", "0.5"),
    ("train.lr=-1", "train.lr"),
    ("train.lr=nan", "train.lr"),
    ("train.lr=inf", "train.lr"),
    ("train.lr=1e400", "train.lr"),
    ("train.lr=fast", "not a number"),
    ("train.batch_size=0", "train.batch_size"),
    ("train.beta1=1", "train.beta1"),
    ("train.warmup_steps=100000", "train.warmup_steps"),
    ("train.seed=-1", "train.seed"),
    ("train.seed=18446744073709551616", "train.seed"),
    ("train.precision=float8", "auto, float32, bfloat16, fp8, fp8-sim"),
    ("train.optimizer=muom", "did you mean muon?"),
    ("train.keep=1", "train.keep"),
    ("train.compile=1", "true, false"),
    ("lr", "section.field=value"),
    ("=3", "section.field=value"),
]


@pytest.mark.parametrize(("change", "word"), FIELDS)
def test_a_bad_field_is_named(refused, change, word):
    assert word in refused("train", "--tiny", "--set", change)


def test_heads_that_do_not_divide_are_named(refused):
    changes = ["model.attention=gqa", "model.num_attention_heads=6", "model.num_key_value_heads=4"]
    words = [w for change in changes for w in ("--set", change)]
    assert "divisors of 6" in refused("train", *words)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--tinny"], "did you mean --tiny?"),
        (["train", "--config", "tiney"], "did you mean tiny?"),
        (["train", "--config", "missing.toml"], "missing.toml"),
        (["train", "--config", "evil.py"], "evil.py"),
        (["train", "--tiny", "--config", "gpu"], "--tiny"),
        (["train", "--inject", "nan-grad@x"], "nan-grad@STEP"),
        (["train", "--minutes", "soon"], "not a number"),
        (["train", "--data", "nowhere"], "does not exist"),
        (["train", "--out", "/dev/null/x"], "--out"),
        (["train", "--out", ""], "--out"),
        (["train", "--out", "x" * 300], "--out"),
        (["train", "--config", "deepseek-v4-flash"], "counted, not built"),
        (["train", "--seed", "abc"], "train.seed"),
        (["config", "show", "nothing"], "no preset"),
        (["config", "paint"], "list, show, diff"),
        (["data", "prepare"], "--to"),
        (["completion", "tcsh"], "bash, zsh, fish"),
    ],
)
def test_a_bad_word_is_named(refused, args, word):
    assert word in refused(*args)


def test_a_wrong_resume_never_starts_afresh(refused):
    assert "is no folder" in refused("train", "--resume", "nowhere", code=4)


def files():
    return {
        "empty.txt": b"",
        "binary.txt": b"abc\0def" * 100,
        "latin.txt": "Grüße".encode("latin-1") * 100,
        "short.txt": b"too short",
        "bad.jsonl": b'{"text": "fine"}\n{"text": 3}\n',
        "torn.jsonl": b'{"text": "fine"}\n{"text": "to\n',
    }


@pytest.mark.parametrize("name", sorted(files()))
def test_bad_data_is_named(refused, minids, name):
    (minids.place / name).write_bytes(files()[name])
    line = refused("train", "--tiny", "--data", name, "--set", "data.tokenizer=byte")
    assert name in line or "data" in line


def test_hostile_configs_end_at_once(refused, minids):
    place = minids.place
    (place / "broken.toml").write_text("[model\n")
    (place / "big.toml").write_bytes(b"#" * (2 << 20))
    (place / "deep.toml").write_text("a = " + "[" * 20_000)
    (place / "latin.toml").write_bytes(b'name = "\xff"\n')
    (place / "list.toml").write_text("model = [1]\n")
    (place / "bool.toml").write_text("[model]\nhidden_size = true\n")
    os.mkfifo(place / "fifo.toml")
    (place / "folder.toml").mkdir()
    for path in sorted(place.glob("*.toml")):
        line = refused("train", "--config", path.name)
        assert "config" in line or "model" in line


def test_an_existing_folder_is_kept(refused, minids):
    out = minids.place / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("three years")
    assert "not empty" in refused("train", "--tiny", "--out", "mine")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no place that refuses folders")
def test_a_place_that_refuses_folders_is_named(minids):
    said = minids("train", "--tiny", "--out", "/proc/minids", micro=True)
    assert said.code == 1 and said.err.startswith("minids: error: --out: /proc/minids")
    assert "Error" not in said.err and "report it" not in said.err


def test_with_json_the_error_is_an_object_too(minids):
    said = minids("train", "--json", "--set", "model.hidden_size=0")
    assert said.code == 2
    error = json.loads(said.out)["error"]
    assert error["field"] == "model.hidden_size" and "1 … 65,536" in error["allowed"]


def test_too_large_a_model_is_refused_before_anything_is_allocated(refused):
    line = refused(
        "train", "--set", "model.hidden_size=60000", "--set", "model.intermediate_size=900000"
    )
    assert "GB, available" in line
