"""sample, chat, eval and report from outside, on a run that a fixture trains once."""

import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys

import pytest

from minids_cli.main import main

BAD = [
    ("--temperature", "-1"), ("--temperature", "1e-9"), ("--temperature", "3"),
    ("--temperature", "nan"), ("--temperature", "inf"), ("--temperature", "hot"),
    ("--temperature", ""), ("--top-p", "0"), ("--top-p", "-0.1"), ("--top-p", "1.1"),
    ("--top-p", "nan"), ("--top-p", "x"), ("--top-k", "-1"), ("--top-k", "1.5"),
    ("--top-k", "99999999999"), ("--seed", "-1"), ("--seed", "9223372036854775808"),
    ("--seed", "1.5"), ("--seed", "abc"), ("--max-new-tokens", "0"), ("--max-new-tokens", "-1"),
    ("--max-new-tokens", "9999999999"), ("--max-new-tokens", "few"), ("--num-samples", "0"),
    ("--num-samples", "-3"), ("--num-samples", "99999999"), ("--num-samples", "2.0"),
]  # fmt: skip


CHANGES = """
model.hidden_size=32 model.num_hidden_layers=2 model.num_attention_heads=2
model.kv_lora_rank=16 model.qk_nope_head_dim=8 model.qk_rope_head_dim=8 model.v_head_dim=8
model.intermediate_size=48 model.moe_intermediate_size=16 model.n_routed_experts=4
model.max_position_embeddings=80 data.context=64 data.documents=200 train.batch_size=4
train.max_steps=6 train.warmup_steps=2 train.save_every=2 train.eval_every=3
train.eval_documents=2 train.workers=1 train.threads=1 train.precision=float32
train.sample_every_seconds=0
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which `runs/tiny-001` lies, trained for a few steps."""
    place = tmp_path_factory.mktemp("trained")
    words = [word for change in CHANGES.split() for word in ("--set", change)]
    said = call(place, "train", "--tiny", *words)
    assert said.returncode == 0, said.stderr
    return place


def call(place, *args, stdin="", env=None):
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MINIDS_CACHE": str(place / "cache"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }
    return subprocess.run(
        [sys.executable, "-m", "minids_cli", *args],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=place,
        env=environment | (env or {}),
        timeout=120,
        check=False,
    )


def inside(place, *args):
    """What a command that succeeds prints, run in this process: importing torch costs seconds."""
    said = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(said):
        assert main([*args]) == 0
    return said.getvalue()


def sampled(place, *args):
    said = inside(place, "sample", "tiny-001", "--json", *args)
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.parametrize(("flag", "value"), BAD)
def test_a_bad_sampling_value_is_named_before_anything_is_loaded(refused, flag, value):
    line = refused("sample", "no-such-run", f"{flag}={value}")
    assert flag.strip("-").replace("-", "_") in line.replace("-", "_")
    assert "allowed: " in line


@pytest.mark.parametrize("command", ["sample", "chat", "eval", "report"])
def test_a_run_that_does_not_exist_is_named(refused, command):
    assert "tiny-7" in refused(command, "tiny-7")
    assert "RUN" in refused(command, "")


@pytest.mark.parametrize("flag", ["--documents", "--questions"])
@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_eval_names_a_bad_count(refused, flag, value):
    assert flag in refused("eval", "tiny-001", f"{flag}={value}")


def test_a_run_is_suggested(trained):
    said = call(trained, "sample", "tiny-01")
    assert said.returncode == 2
    assert "did you mean runs/tiny-001?" in said.stderr


def test_samples_come_with_ids_and_logprobs(trained):
    one, two = sampled(trained, "--prompt", "In Bel", "--num-samples", "2", "--max-new-tokens", "9")
    assert {"prompt", "completion", "token_ids", "logprobs"} <= one.keys()
    assert one["prompt"] == "In Bel"
    assert one["token_ids"] != two["token_ids"]
    for sample in (one, two):
        assert len(sample["token_ids"]) == len(sample["logprobs"]) <= 9
        assert all(math.isfinite(p) and p <= 0 for p in sample["logprobs"])


def test_the_same_seed_gives_the_same_text_and_no_cache_changes_nothing(trained):
    args = ["--seed", "5", "--max-new-tokens", "12", "--num-samples", "2", "--top-p", "0.9"]
    first, again = sampled(trained, *args), sampled(trained, *args)
    full = sampled(trained, *args, "--no-cache")
    assert first == again
    assert [s["token_ids"] for s in first] == [s["token_ids"] for s in full]
    for a, b in zip(first, full, strict=True):
        assert a["logprobs"] == pytest.approx(b["logprobs"], abs=1e-4)
    assert first != sampled(trained, *args, "--seed", "6")


def test_temperature_zero_ignores_the_seed(trained):
    args = ["--temperature", "0", "--max-new-tokens", "8"]
    assert sampled(trained, *args, "--seed", "1") == sampled(trained, *args, "--seed", "2")


@pytest.mark.parametrize(
    "extreme", [("--top-p", "1e-9"), ("--top-k", "1"), ("--temperature=0.01",)]
)
def test_the_narrowest_cuts_are_the_likeliest_token(trained, extreme):
    args = ["--max-new-tokens", "8", "--prompt", "Once"]
    narrow, greedy = sampled(trained, *args, *extreme), sampled(trained, *args, "--temperature=0")
    assert narrow[0]["token_ids"] == greedy[0]["token_ids"]


def test_top_k_beyond_the_vocabulary_keeps_all(trained):
    args = ["--max-new-tokens", "8"]
    assert sampled(trained, *args, "--top-k", "1000000") == sampled(trained, *args)


def test_an_empty_prompt_begins_a_story(trained):
    assert sampled(trained, "--prompt", "", "--max-new-tokens", "3")[0]["token_ids"]


def test_text_that_spells_a_special_token_is_text(trained):
    spelled = "<|eos|><|bos|> <think>"
    found = sampled(trained, "--prompt", spelled, "--max-new-tokens", "2")[0]
    assert found["prompt"] == spelled
    assert found["token_ids"]


def test_a_prompt_longer_than_the_context_is_refused(trained):
    said = call(trained, "sample", "tiny-001", "--prompt", "word " * 400)
    assert said.returncode == 2
    assert "minids: error: prompt: " in said.stderr and "up to 79 tokens" in said.stderr


def test_the_end_of_the_context_ends_the_text(trained):
    found = sampled(trained, "--prompt", "Once", "--max-new-tokens", "5000")[0]
    assert found["stop"] in ("context", "eos")
    assert len(found["token_ids"]) < 80


def test_control_characters_of_a_model_do_not_reach_the_terminal(trained):
    said = call(
        trained, "sample", "tiny-001", "--prompt", "a\x1b[31mb\x07", "--max-new-tokens", "2"
    )
    assert said.returncode == 0
    assert "\x1b" not in said.stdout and "\x07" not in said.stdout


def test_chat_streams_answers_line_by_line_and_ends_with_quit(trained):
    said = call(
        trained,
        "chat",
        "tiny-001",
        "--max-new-tokens",
        "5",
        stdin="Once\n/reset\nOnce\n/quit\nno\n",
    )
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].startswith("tiny, step 6: ")
    assert len(lines) == 3 and all(lines[1:])


def test_chat_ends_with_the_input_and_survives_long_talk(trained):
    said = call(trained, "chat", "tiny-001", "--max-new-tokens", "9", stdin="word word word\n" * 20)
    assert said.returncode == 0, said.stderr
    assert "no longer fits" in said.stdout
    assert "Traceback" not in said.stderr


def test_eval_holds_the_model_against_the_floor_and_against_chance(trained):
    words = ["eval", "tiny-001", "--documents", "6", "--questions", "4", "--json"]
    found = json.loads(inside(trained, *words))
    bpb, above = found["bits_per_byte"], found["above_floor"]
    assert bpb["low"] < bpb["value"] < bpb["high"]
    assert found["floor_bits_per_byte"] < bpb["value"]
    assert above["value"] == pytest.approx(bpb["value"] / found["floor_bits_per_byte"] - 1)
    assert {"owner", "place", "person", "thing"} <= {f["kind"] for f in found["facts"]}
    for fact in found["facts"]:
        assert 0 <= fact["right"] <= fact["n"] <= 4
        assert 0 < fact["chance"] < 1


def test_eval_draws_a_table_that_fits_the_screen(trained):
    said = call(trained, "eval", "runs/tiny-001", "--documents", "3", "--questions", "2")
    assert said.returncode == 0
    for word in ("bits per byte", "exact floor", "owner", "chance"):
        assert word in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 100


def test_eval_of_one_document_has_no_interval_and_stays_json(trained):
    words = ["eval", "tiny-001", "--documents", "1", "--questions", "1", "--json"]
    found = json.loads(inside(trained, *words), parse_constant=lambda word: pytest.fail(word))
    assert found["bits_per_byte"]["low"] is None


def test_report_is_written_again_to_the_same_words(trained):
    folder = trained / "runs" / "tiny-001"
    before = (folder / "report.md").read_text()
    assert inside(trained, "report", "tiny-001").strip().endswith("report.md")
    assert (folder / "report.md").read_text() == before
    for figure in ("loss", "cloze", "experts", "training"):
        assert (folder / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{figure}.png" in before


@pytest.fixture
def broken(trained, tmp_path):
    """A copy of the run that a test may break."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def newest(place):
    return max((place / "runs" / "tiny-001" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("file", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(broken, file, damage):
    path = newest(broken) / file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": raw, "cut": raw[: len(raw) // 3], "empty": b""}[damage])
    if damage == "flip" and file == "manifest.json":
        return  # one bit of a comment field may well leave it valid
    said = inside(broken, "eval", "tiny-001", "--documents", "2", "--questions", "1")
    assert "using step-00000004" in said


@pytest.mark.parametrize("command", ["sample", "eval", "report"])
def test_without_a_whole_checkpoint_the_answer_is_4(broken, command):
    for folder in (broken / "runs" / "tiny-001" / "checkpoints").glob("step-*"):
        (folder / "model.safetensors").write_bytes(b"no weights")
    said = call(broken, command, "tiny-001")
    assert said.returncode == 4, said
    assert said.stderr.startswith("minids: error: ") and "Traceback" not in said.stderr
    assert len(said.stderr.splitlines()) <= 2


def test_weights_of_another_config_are_named(broken):
    config = broken / "runs" / "tiny-001" / "config.toml"
    config.write_text(config.read_text().replace("v_head_dim = 8", "v_head_dim = 12"))
    said = call(broken, "sample", "tiny-001")
    assert said.returncode == 4
    assert "kv_b_proj.weight is [" in said.stderr


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "run.pickle"])
def test_a_pickle_is_never_opened(minids, name):
    class Trap:
        def __reduce__(self):
            return (os.system, ("touch canary",))

    import pickle

    (minids.place / name).write_bytes(pickle.dumps(Trap()))
    said = minids("sample", name)
    assert said.code == 4
    assert "pickle" in said.err
    assert not (minids.place / "canary").exists()


def test_a_weight_that_is_not_finite_ends_with_3_and_its_name(broken):
    """NaN must not become an endless row of token 0 (N20)."""
    import torch
    from safetensors.torch import load_file, save_file

    from minids.train import checkpoint

    folder = newest(broken)
    weights = load_file(folder / "model.safetensors")
    weights["layers.1.self_attn.o_proj.weight"][0, 0] = math.nan
    save_file(weights, folder / "model.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = {
        "size": (folder / "model.safetensors").stat().st_size,
        "sha256": checkpoint.sha256(folder / "model.safetensors"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert torch.isnan(weights["layers.1.self_attn.o_proj.weight"]).any()
    said = call(broken, "sample", "tiny-001")
    assert said.returncode == 3
    assert "layers.1.self_attn.o_proj.weight" in said.stderr
    assert not said.stdout
