"""inspect, export, import from outside: what they print, write and refuse."""

import dataclasses
import json
import subprocess
import sys

import pytest

from minids import config
from minids_cli.main import main


@pytest.fixture
def run_folder(minids):
    """(changes) → a run folder with a random small model, as training leaves it behind."""

    def make(**changes):
        import torch

        from minids.data.tokenizer import Tokenizer
        from minids.nn.transformer import Transformer
        from minids.train import checkpoint, folder

        cfg = config.load("tiny")
        tokenizer = Tokenizer.of_bytes()
        small = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
        small |= {"vocab_size": tokenizer.vocab_size, "use_qk_norm": False} | changes
        cfg = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, **small))
        model = Transformer(cfg.model)
        model.init_weights(torch.Generator().manual_seed(1))
        out = minids.place / "run"
        folder.create(out, cfg, {})
        tokenizer.save(out / "tokenizer")
        checkpoint.save(
            out / "checkpoints", 7, model=model.state_dict(), optim={}, state={}, about={}
        )
        return out

    return make


def sha(said):
    """The last line's checksum."""
    assert said.code == 0, said
    return said.out.splitlines()[-1].removeprefix("weights_sha256=")


@pytest.mark.parametrize("tied", [False, True])
def test_a_run_goes_out_and_comes_back_with_the_same_weights(minids, run_folder, tied):
    run_folder(tie_word_embeddings=tied)
    gone = minids("export", "run", "--to", "hf")
    assert "AutoModelForCausalLM" in gone.out
    back = minids("import", "hf", "--out", "back")
    assert sha(gone) == sha(back)
    prompt = ("--prompt", "The", "--max-new-tokens", "5", "--json")
    before, after = (minids("sample", folder, *prompt).json() for folder in ("run", "back"))
    assert before == after
    resumed = minids("train", "--resume", "back")
    assert resumed.code == 4
    assert "was imported" in resumed.err and "Traceback" not in resumed.err


def test_export_names_what_transformers_cannot_compute(run_folder, refused):
    run_folder(use_qk_norm=True)
    line = refused("export", "run", "--to", "hf")
    assert "model.use_qk_norm" in line and "DeepseekV3ForCausalLM" in line


def test_export_overwrites_nothing_and_knows_its_flags(minids, run_folder, refused):
    run_folder()
    (minids.place / "full").mkdir()
    (minids.place / "full" / "file").write_text("mine")
    assert "not empty" in refused("export", "run", "--to", "full")
    assert "float32, bfloat16" in refused("export", "run", "--to", "new", "--dtype", "int4")
    assert "a run folder" in refused("export", "rnu", "--to", "new")
    assert "--to" in refused("export", "run")
    said = minids("export", "run", "--to", "new", "--dtype", "bfloat16", "--json")
    assert said.json()[0]["model_class"] == "DeepseekV3ForCausalLM"
    assert json.loads((minids.place / "new" / "config.json").read_text())["dtype"] == "bfloat16"


def test_import_refuses_what_it_cannot_trust(minids, refused):
    place = minids.place
    (place / "empty").mkdir()
    assert "config.json" in refused("import", "empty", "--out", "new", code=4)
    assert "config.json" in refused("import", "nowhere", "--out", "new", code=4)
    (place / "empty" / "config.json").write_text('{"model_type": "gpt2"}')
    assert "'gpt2' is unknown" in refused("import", "empty", "--out", "new", code=4)
    assert "not empty" in refused("import", "empty", "--out", "empty")


def test_inspect_shows_the_tree(minids):
    said = minids("inspect", "deepseek-v3")
    assert said.code == 0, said
    assert "671,026,419,200" in said.out
    assert "36,624,721,920 per token" in said.out
    assert "layers 3…60  ×58" in said.out
    assert "h(n+r) × q" in said.out
    assert "35,136 numbers per token" in said.out


@pytest.mark.parametrize("preset", config.presets())
def test_inspect_stays_within_a_hundred_columns(preset, capsys):
    assert main(["inspect", preset, "--depth", "9"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown and max(map(len, shown)) <= 100


def test_inspect_counts_a_run_by_its_config(minids, run_folder):
    run_folder()
    found = minids("inspect", "run", "--json").json()[0]
    assert found["architecture"] == "minids-tiny"
    assert 0 < found["active_params"] < found["params"]


@pytest.mark.parametrize(
    ("preset", "params", "elements"),
    [
        ("deepseek-v3", 671_026_419_200, 35_136),
        ("deepseek-v2", 235_741_434_880, 34_560),
        ("deepseek-v2-lite", 15_706_484_224, 15_552),
    ],
)
def test_inspect_gives_scripts_the_published_numbers(minids, preset, params, elements):
    found = minids("inspect", preset, "--json").json()[0]
    assert found["params"] == params
    assert found["kv_elements_per_token"] == elements
    assert found["kv_bytes_per_token"] == 2 * elements
    assert found["active_params"] < params
    assert found["flops_per_token"] > 2 * found["active_params"]


def test_inspect_reads_a_released_config_without_weights(minids, tmp_path):
    released = {
        "model_type": "deepseek_v3",
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "n_shared_experts": 1,
        "n_routed_experts": 256,
        "routed_scaling_factor": 2.5,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "n_group": 8,
        "topk_group": 4,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 1,
        "max_position_embeddings": 163840,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "rope_scaling": None,
    }
    (minids.place / "hf").mkdir()
    (minids.place / "hf" / "config.json").write_text(json.dumps(released))
    for name in ("hf", "hf/config.json"):
        assert minids("inspect", name, "--json").json()[0]["params"] == 671_026_419_200


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["deepseek-v33"], 2, "did you mean deepseek-v3?"),
        (["nowhere/at/all"], 4, "config.json"),
        (["tiny", "--depth", "x"], 2, "--depth"),
        (["tiny", "--depth", "11"], 2, "0 … 9"),
        (["tiny", "--context", "0"], 2, "--context"),
        (["tiny", "--context", "999999999"], 2, "--context"),
        (["tiny", "--dtype", "int3"], 2, "float32, bfloat16, fp8"),
        (["tiny", "--set", "model.hidden_size=0"], 2, "model.hidden_size"),
    ],
)
def test_inspect_names_what_is_wrong(refused, words, code, word):
    assert word in refused("inspect", *words, code=code)


def test_inspect_imports_no_torch():
    code = (
        "import sys; from minids_cli.main import main;"
        "main(['inspect', 'deepseek-v3', '--json']); main(['inspect', 'kimi-k2']);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
