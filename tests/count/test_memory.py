"""Cache and state sizes against published tables."""

import dataclasses

import pytest
import torch

from minids import config
from minids.config import ModelConfig, TrainConfig
from minids.count import memory
from minids.errors import UserError
from minids.nn.cache import Cache
from minids.nn.transformer import Transformer

ELEMENTS = {
    "deepseek-v3": 35_136,
    "deepseek-r1": 35_136,
    "kimi-k2": 35_136,
    "deepseek-v2": 34_560,
    "deepseek-v2-lite": 15_552,
    "moonlight-16b-a3b": 15_552,
    "llama-3.1-405b": 258_048,
    "llama-3.3-70b": 163_840,
    "qwen2.5-72b": 163_840,
    "llama-4-maverick": 98_304,
    "qwen3-235b-a22b": 96_256,
    "glm-4.5": 188_416,
    "ernie-4.5-300b-a47b": 110_592,
    "mixtral-8x7b": 65_536,
}


@pytest.mark.parametrize(("preset", "elements"), ELEMENTS.items())
def test_cached_numbers_per_token_are_the_published_ones(preset, elements):
    cfg = config.load(preset).model
    assert memory.kv_elements_per_token(cfg) == elements
    assert memory.kv_bytes_per_token(cfg, "bfloat16") == 2 * elements


def test_mla_caches_57_times_less_than_plain_attention_of_the_same_model():
    plain = ModelConfig(
        attention="gqa",
        num_hidden_layers=61,
        num_attention_heads=128,
        num_key_value_heads=128,
        head_dim=128,
    )
    assert memory.kv_elements_per_token(plain) == 1_998_848
    assert memory.kv_elements_per_token(plain) / 35_136 == pytest.approx(56.9, abs=0.05)


@pytest.mark.parametrize(
    ("preset", "per_token", "window"),
    [
        ("deepseek-v3.2", 48_068, 0),
        ("deepseek-v4-flash", 3514.25, 43 * 128 * 584),
        ("deepseek-v4-pro", 5031.4375, 61 * 128 * 584),
    ],
)
def test_fp8_caches_have_the_served_layout(preset, per_token, window):
    cfg = config.load(preset).model
    assert memory.kv_bytes_per_token(cfg, "fp8") == per_token
    assert memory.window_bytes(cfg, "fp8") == window
    assert memory.kv_cache(cfg, 1000, 2, "fp8") == 2 * (1000 * per_token + window)


@pytest.mark.parametrize("attention", ["mla", "gqa"])
def test_the_real_cache_holds_exactly_what_is_counted(attention):
    cfg = ModelConfig(attention=attention, vocab_size=97, num_key_value_heads=2)
    cache = Cache(cfg.num_hidden_layers)
    with torch.no_grad():
        Transformer(cfg)(torch.zeros(3, 5, dtype=torch.long), cache=cache)
    held = sum(t.numel() for layer in cache.layers for t in layer.kept())
    assert held == 3 * 5 * memory.kv_elements_per_token(cfg)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_training_memory_is_what_the_optimizer_really_keeps(optimizer):
    optim = pytest.importorskip("minids.train.optim")
    cfg = dataclasses.replace(config.load("tiny").model, num_hidden_layers=2)
    model = Transformer(cfg)
    kept = optim.Optimizer(model, TrainConfig(optimizer=optimizer), torch.float32)
    moments = [t for t in kept.state_dict().values() if t.ndim and t.is_floating_point()]
    counted = memory.training(cfg, optimizer)
    assert counted.weights == sum(4 * p.numel() for p in model.parameters())
    assert counted.gradients == counted.weights
    assert counted.optimizer == sum(4 * m.numel() for m in moments)
    assert counted.total == counted.weights + counted.gradients + counted.optimizer


def test_weights_take_their_dtype():
    cfg = config.load("deepseek-v3").model
    assert memory.weights(cfg, "bfloat16") == 2 * 671_026_419_200
    assert memory.weights(cfg, "fp8", with_mtp=True) == 671_026_419_200 + 11_610_068_224
    with pytest.raises(UserError, match="float32, bfloat16, fp8"):
        memory.weights(cfg, "fp3")
