"""Every preset that ships loads, says where its numbers come from, and describes a whole model."""

import tomllib

import pytest

from minids import config

RUNNING = {"tiny", "laptop", "gpu", "node", "cluster"}
REAL = {
    "deepseek-v2-lite",
    "deepseek-v2",
    "deepseek-v3",
    "deepseek-r1",
    "deepseek-r1-distill-qwen-1.5b",
    "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-distill-qwen-14b",
    "deepseek-r1-distill-qwen-32b",
    "deepseek-r1-distill-llama-8b",
    "deepseek-r1-distill-llama-70b",
    "deepseek-v3.2",
    "deepseek-v4-flash",
    "deepseek-v4-pro",
    "moonlight-16b-a3b",
    "kimi-k2",
    "llama-3.3-70b",
    "llama-3.1-405b",
    "llama-4-maverick",
    "qwen2.5-72b",
    "qwen3-235b-a22b",
    "glm-4.5",
    "ernie-4.5-300b-a47b",
    "mixtral-8x7b",
}


def test_all_promised_presets_ship():
    assert set(config.presets()) >= RUNNING | REAL


@pytest.mark.parametrize("name", config.presets())
def test_a_preset_loads_and_survives_being_written_out(name, tmp_path):
    loaded = config.load(name)
    (tmp_path / "copy.toml").write_text(config.to_toml(loaded), encoding="utf-8")
    assert config.load(str(tmp_path / "copy.toml")) == loaded


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_system_names_its_source_and_nothing_but_the_model(name):
    path = config.find(name)
    text = path.read_text(encoding="utf-8")
    assert "# Source:" in text
    assert set(tomllib.loads(text)) == {"model"}


@pytest.mark.parametrize("name", sorted(RUNNING))
def test_a_preset_that_runs_says_on_what_and_how_long(name):
    text = config.find(name).read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert {"model", "data", "train"} <= set(tomllib.loads(text))


def test_the_released_long_contexts_need_no_data_section():
    for name in REAL:
        run = config.load(name)
        assert run.data.context <= run.model.max_position_embeddings
