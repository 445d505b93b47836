"""FLOPs against published figures, and against a count of what torch really multiplies."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minids import config
from minids.config import ModelConfig
from minids.count import flops
from minids.count.params import count
from minids.nn.transformer import Transformer

V3 = config.load("deepseek-v3").model


def test_v3_trains_at_250_gigaflop_per_token():
    assert flops.training(V3, 4096) / 1e9 == pytest.approx(250.45, abs=0.005)


def test_v2_trains_at_155_gigaflop_per_token():
    assert flops.training(config.load("deepseek-v2").model, 4096) / 1e9 == pytest.approx(
        155, rel=0.01
    )


def test_llama_405b_trains_at_2448_gigaflop_per_token():
    llama = config.load("llama-3.1-405b").model
    assert flops.training(llama, 4096) / 1e9 == pytest.approx(2448, rel=0.015)


def test_v3_pretraining_took_3_7e24_operations_at_39_percent_of_peak():
    done = flops.training(V3, 4096) * 14.8e12
    assert done == pytest.approx(3.707e24, rel=1e-3)
    assert done / (2.664e6 * 3600) / 989.5e12 == pytest.approx(0.391, abs=0.001)


@pytest.mark.parametrize(("context", "giga"), [(4096, 69.6), (131_072, 2227)])
def test_absorbed_attention_of_v3_costs_the_published_work(context, giga):
    assert flops.attention(V3, context, absorbed=True) / 1e9 == pytest.approx(giga, rel=1e-3)


def test_the_indexer_of_v32_makes_long_contexts_cheap():
    v32 = config.load("deepseek-v3.2").model
    core = 2 * 61 * 128 * 1088 * 2048
    assert flops.attention(v32, 131_072) - core == pytest.approx(0.131e12, rel=2e-3)
    assert core == pytest.approx(0.035e12, rel=0.01)


def test_decoding_without_absorption_expands_every_cached_latent_again():
    again = flops.decode(V3, 4096, absorbed=False) - flops.matrices(V3)
    once = flops.attention(V3, 4096)
    assert again - once == 2 * 61 * 4096 * 128 * 256 * 512


def test_mtp_costs_its_block_and_the_head_once_more():
    own = flops.mtp(V3, 4096) - 2 * V3.vocab_size * V3.hidden_size
    assert own == pytest.approx(2 * 0.688e9 + 61e-9 + 128 * 320 * 4096, rel=1e-3)
    assert flops.training(V3, with_mtp=True) - flops.training(V3) == 3 * flops.mtp(V3)


def test_a_prompt_needs_its_output_head_once():
    head = 2 * V3.vocab_size * V3.hidden_size
    assert 100 * flops.forward(V3, 100) - flops.prefill(V3, 100) == pytest.approx(99 * head)


@pytest.mark.parametrize("preset", ["deepseek-v3.2", "deepseek-v4-flash", "deepseek-v4-pro"])
def test_the_causal_mean_of_a_sparse_layer_is_the_mean_over_its_tokens(preset):
    cfg, s = config.load(preset).model, 3000
    for layer in range(4):
        each = [flops.attention_in(cfg, layer, t + 0.5, absorbed=True) for t in range(s)]
        mean = flops.causal_mean(cfg, s, layer, absorbed=True)
        assert mean == pytest.approx(sum(each) / s, rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": 24}, {"attention": "gqa"}])
def test_dense_models_count_what_torch_multiplies(changes):
    small = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 80}
    cfg = ModelConfig(**small, **changes)
    tokens = torch.zeros(1, 32, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Transformer(cfg)(tokens)
    full = flops.matrices(cfg) + flops.attention(cfg, 32)  # torch counts the whole square
    wide = cfg.qk_head_dim - cfg.v_head_dim if cfg.attention == "mla" else 0  # values are padded
    padded = 2 * cfg.num_hidden_layers * cfg.num_attention_heads * wide * 32
    assert counter.get_total_flops() in (32 * full, 32 * (full + padded))


def test_twice_the_active_parameters_is_the_matrix_work():
    assert flops.matrices(V3) == pytest.approx(2 * count(V3).active, rel=1e-5)
