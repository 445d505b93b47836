"""Counts against published totals, and weight by weight against real models without memory."""

import math

import pytest
import torch

from minids import config
from minids.config import ModelConfig
from minids.count.params import count, main_weights, mtp_weights
from minids.nn.transformer import Transformer

EXACT = {  # sums over the shapes of the released files, stream norms and biases included
    "deepseek-v3": 671_026_419_200,
    "deepseek-r1": 671_026_419_200,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
    "deepseek-r1-distill-qwen-7b": 7_615_616_512,
    "deepseek-r1-distill-qwen-14b": 14_770_033_664,
    "deepseek-r1-distill-qwen-32b": 32_763_876_352,
    "deepseek-r1-distill-llama-8b": 8_030_261_248,
    "deepseek-r1-distill-llama-70b": 70_553_706_496,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
}
ROUNDED = {  # as the makers state them, in billions
    "kimi-k2": 1026.4,
    "deepseek-v4-flash": 284.33,
    "deepseek-v4-pro": 1573.0,
    "llama-3.1-405b": 405.0,
    "llama-3.3-70b": 70.6,
    "llama-4-maverick": 400.0,
    "glm-4.5": 355.0,
    "ernie-4.5-300b-a47b": 300.0,
}
ACTIVE = {  # billions; what the makers count in differs, hence 4 %
    "deepseek-v3": 36.6,
    "deepseek-v4-flash": 13.27,
    "deepseek-v4-pro": 48.85,
    "deepseek-v2": 21.0,
    "deepseek-v2-lite": 2.4,
    "kimi-k2": 32.6,
    "qwen3-235b-a22b": 22.0,
    "glm-4.5": 32.0,
    "ernie-4.5-300b-a47b": 47.0,
    "mixtral-8x7b": 12.9,
}


def built(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the real model."""
    with torch.device("meta"):
        model = Transformer(cfg)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if cfg.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


@pytest.mark.parametrize(("preset", "total"), EXACT.items())
def test_totals_are_exactly_those_of_the_released_files(preset, total):
    assert count(config.load(preset).model).main == total


@pytest.mark.parametrize(("preset", "billions"), ROUNDED.items())
def test_totals_are_within_one_percent_of_what_the_makers_state(preset, billions):
    assert count(config.load(preset).model).main == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize(("preset", "billions"), ACTIVE.items())
def test_active_parameters_are_those_the_makers_state(preset, billions):
    assert count(config.load(preset).model).active == pytest.approx(billions * 1e9, rel=0.04)


def test_v3_uses_36_billion_of_its_parameters_for_a_token_and_has_an_mtp_module_of_11():
    v3 = count(config.load("deepseek-v3").model)
    assert v3.active == 36_624_721_920
    assert v3.embedding == 926_679_040
    assert v3.mtp == pytest.approx(11.5e9, rel=0.01)  # README_WEIGHTS.md of the release


def test_the_indexer_of_v32_adds_14_million_per_layer():
    added = (
        count(config.load("deepseek-v3.2").model).main
        - count(config.load("deepseek-v3").model).main
    )
    assert added == 61 * 13_959_424 == 851_524_864


def test_moonlight_has_15_289_billion_beside_its_embeddings():
    moonlight = count(config.load("moonlight-16b-a3b").model)
    assert moonlight.main - 2 * moonlight.embedding == 15_289_021_568


BUILDABLE = [
    name
    for name in config.presets()
    if (model := config.load(name).model).attention != "csa" and not model.index_n_heads
]


@pytest.mark.parametrize("preset", BUILDABLE)
def test_every_preset_counts_what_its_model_holds_name_by_name(preset):
    cfg = config.load(preset).model
    counted = {w.name: w.shape for w in [*main_weights(cfg), *mtp_weights(cfg)]}
    assert counted == built(cfg)


@pytest.mark.parametrize(
    "changes",
    [
        {"q_lora_rank": 24, "use_qk_norm": True},
        {"attention": "gqa", "attention_bias": True, "use_qk_norm": True},
        {"tie_word_embeddings": True},
        {"n_routed_experts": 0, "num_nextn_predict_layers": 2},
        {"n_shared_experts": 0, "topk_method": "greedy", "scoring_func": "softmax"},
        {"moe_layer_freq": 2, "first_k_dense_replace": 0},
    ],
)
def test_every_option_counts_what_its_model_holds(changes):
    cfg = ModelConfig(**({"n_routed_experts": 8, "n_shared_experts": 1} | changes))
    counted = {w.name: w.shape for w in [*main_weights(cfg), *mtp_weights(cfg)]}
    assert counted == built(cfg)


def test_v32_and_v4_count_what_transformers_holds():
    transformers = pytest.importorskip("transformers")
    flash = config.load("deepseek-v4-flash").model
    theirs = {
        "deepseek-v3.2": transformers.DeepseekV32Config(),
        "deepseek-v4-flash": transformers.DeepseekV4Config(
            compress_ratios=list(flash.compress_ratios)
        ),
    }
    for preset, cfg in theirs.items():
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(cfg)
        held = {
            name.removeprefix("model."): tuple(tensor.shape)
            for name, tensor in model.state_dict().items()
            if not name.endswith("tid2eid")  # a table of indices, not parameters
        }
        assert {w.name: w.shape for w in main_weights(config.load(preset).model)} == held


@pytest.mark.parametrize("preset", ["deepseek-v3", "deepseek-v2-lite", "glm-4.5"])
def test_the_letters_of_a_shape_multiply_to_its_numbers(preset):
    cfg = config.load(preset).model
    n = cfg.head_dim if cfg.attention == "gqa" else cfg.qk_nope_head_dim
    for weight in [*main_weights(cfg), *mtp_weights(cfg)]:
        width = (
            cfg.moe_intermediate_size * (cfg.n_shared_experts if "shared" in weight.name else 1)
            if "expert" in weight.name
            else cfg.intermediate_size
        )
        letters = {"d": cfg.hidden_size, "h": cfg.num_attention_heads, "n": n, "f": width}
        letters |= {"r": cfg.qk_rope_head_dim, "v": cfg.v_head_dim, "c": cfg.kv_lora_rank}
        letters |= {"q": cfg.q_lora_rank, "g": cfg.num_key_value_heads, "V": cfg.vocab_size}
        letters |= {"e": cfg.n_routed_experts}
        assert tuple(size(axis, letters) for axis in weight.axes.split()) == weight.shape, (
            weight.name
        )
        assert weight.count == math.prod(weight.shape)


def size(axis: str, letters: dict[str, int]) -> int:
    """ "h(n+r)" → h · (n + r)."""
    outside, _, inside = axis.removesuffix(")").partition("(")
    if inside:
        return size(outside, letters) * size(inside, letters)
    if "+" in axis:
        return sum(size(part, letters) for part in axis.split("+"))
    return math.prod(letters.get(c) or int(c) for c in axis)
