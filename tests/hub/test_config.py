"""Released config.json files, written down from what is public, read as the presets describe."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minids import config
from minids.errors import UserError
from minids.hub import families
from minids.hub.config import from_hf, read_config, to_hf
from minids.hub.families import TRAINING

V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
V2_LITE = V3 | {
    "model_type": "deepseek_v2",
    "aux_loss_alpha": 0.001,
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "num_nextn_predict_layers": None,
    "q_lora_rank": None,
    "quantization_config": None,
    "rope_scaling": V3["rope_scaling"] | {"mscale": 0.707, "mscale_all_dim": 0.707},
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_group": 1,
    "topk_method": "greedy",
    "vocab_size": 102400,
}
MOONLIGHT = V2_LITE | {
    "model_type": "deepseek_v3",
    "intermediate_size": 11264,
    "max_position_embeddings": 8192,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.446,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "vocab_size": 163840,
}
K2 = V3 | {
    "model_type": "kimi_k2",
    "first_k_dense_replace": 1,
    "max_position_embeddings": 131072,
    "n_group": 1,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "num_nextn_predict_layers": 0,
    "rope_scaling": V3["rope_scaling"] | {"beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0},
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.827,
    "topk_group": 1,
    "vocab_size": 163840,
}
V32 = V3 | {
    "model_type": "deepseek_v32",
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
}
DISTILL_LLAMA = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
DISTILL_QWEN = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 8960,
    "max_position_embeddings": 131072,
    "max_window_layers": 21,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = DISTILL_QWEN | {
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
    "moe_intermediate_size": 1536,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 94,
    "num_key_value_heads": 4,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
}
V4_FLASH = {
    "model_type": "deepseek_v4",
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],  # one more than layers: the MTP module's
    "head_dim": 512,
    "hc_mult": 4,
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "initializer_range": 0.02,
    "max_position_embeddings": 1048576,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "num_hidden_layers": 43,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "routed_scaling_factor": 1.5,
    "scoring_func": "sqrtsoftplus",
    "sliding_window": 128,
    "swiglu_limit": 10.0,
    "tie_word_embeddings": False,
    "vocab_size": 129280,
}
RELEASED = {
    "deepseek-v3": V3,
    "deepseek-r1": V3,
    "deepseek-v2-lite": V2_LITE,
    "moonlight-16b-a3b": MOONLIGHT,
    "kimi-k2": K2,
    "deepseek-v3.2": V32,
    "deepseek-r1-distill-llama-8b": DISTILL_LLAMA,
    "deepseek-r1-distill-qwen-1.5b": DISTILL_QWEN,
    "qwen3-235b-a22b": QWEN3,
    "deepseek-v4-flash": V4_FLASH,
}
BESIDES = {*TRAINING.split(), "initializer_range"}  # the presets take these from the papers


def described(cfg):
    """The fields that a config.json of this family carries, and RoPE."""
    fixed = {
        "attention",
        "attention_bias",
        "use_qk_norm",
        "rope_interleave",
        "partial_rotary_factor",
    }
    family = families.of(cfg) if not (cfg.index_n_heads or cfg.attention == "csa") else None
    named = family.fields.split() if family else families.named("deepseek_v32").fields.split()
    rope = [
        f.name for f in dataclasses.fields(cfg) if f.name.startswith(("rope", "mscale", "beta"))
    ]
    wanted = fixed | {*named, *rope} - BESIDES
    wanted -= {"intermediate_size"} if cfg.attention == "csa" else set()  # no dense layer there
    return {name: getattr(cfg, name) for name in wanted - BESIDES}


@pytest.mark.parametrize("preset", RELEASED)
def test_a_released_config_is_read_as_the_preset_describes_it(preset):
    assert described(from_hf(RELEASED[preset])) == described(config.load(preset).model)


BOTH_WAYS = [
    name
    for name in config.presets()
    if (model := config.load(name).model).attention != "csa"
    and not model.index_n_heads
    and not (model.attention == "mla" and model.use_qk_norm)
    and name not in ("llama-4-maverick", "ernie-4.5-300b-a47b", "mixtral-8x7b")
]


@pytest.mark.parametrize("preset", BOTH_WAYS)
def test_what_we_write_we_read_back_equal(preset):
    cfg = config.load(preset).model
    text = json.dumps(to_hf(cfg, families.of(cfg)))
    back = from_hf(json.loads(text))
    differing = {k for k, v in vars(cfg).items() if getattr(back, k) != v}
    unused = families.GROUPED if cfg.attention == "mla" else families.LATENT
    assert differing <= {*unused.split()}


@pytest.mark.parametrize("preset", ["llama-4-maverick", "mixtral-8x7b", "deepseek-v4-pro"])
def test_models_without_a_class_are_refused_by_field(preset):
    with pytest.raises(UserError, match=r"^model\.") as error:
        families.of(config.load(preset).model)
    assert error.value.code == 2


def test_both_spellings_of_rope_mean_the_same():
    old = from_hf(V3)
    raw = {k: v for k, v in V3.items() if k not in ("rope_scaling", "rope_theta")}
    scaling = {"rope_type" if k == "type" else k: v for k, v in V3["rope_scaling"].items()}
    new = from_hf(raw | {"rope_parameters": scaling | {"rope_theta": 10000.0}})
    assert old == new
    assert (old.rope_type, old.rope_factor, old.mscale_all_dim) == ("yarn", 40.0, 1.0)


def test_an_attention_factor_becomes_the_mscale_that_gives_it():
    factor = 0.1 * 0.7 * 3.6888794541139363 + 1  # ln 40
    scaling = {"type": "yarn", "factor": 40, "attention_factor": factor}
    assert from_hf(V3 | {"rope_scaling": scaling}).mscale == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "deepseek_v9"}, "model_type"),
        ({"rope_scaling": {"type": "yarn"}}, "rope factor: is missing"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "'dynamic' is unknown"),
        ({"kv_lora_rank": None}, "kv_lora_rank: is missing"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": 0}, "hidden_size: 0 is out of range"),
        ({"moe_layer_freq": 2}, "moe_layer_freq: 2 is not supported; allowed: 1"),
        ({"attention_bias": True}, "attention_bias: True is not supported"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: nan is out of range"),
        ({"qk_rope_head_dim": 63}, "qk_rope_head_dim: 63 is odd"),
    ],
)
def test_a_config_we_cannot_compute_is_one_line_with_its_key(changes, word):
    with pytest.raises(UserError) as error:
        from_hf(V3 | changes)
    assert error.value.code == 4
    assert word in error.value.line()
    assert error.value.line().startswith("config.json: ")


def test_a_huge_or_deep_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match="not readable JSON") as error:
        read_config(tmp_path)
    assert error.value.code == 4


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 10**400, -(10**400), "yarn", "llama3"])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "factor", "attention_factor", "mscale"]), inner)
    ),
    max_leaves=5,
)


@given(kind=st.sampled_from(list(RELEASED)), data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_a_config_says_it_is_read_or_refused_in_one_line(kind, data):
    raw = dict(RELEASED[kind])
    for key in data.draw(st.lists(st.sampled_from(sorted(raw)), min_size=1, max_size=3)):
        raw[key] = data.draw(JSON)
    try:
        from_hf(raw)
    except UserError as error:
        assert error.code == 4
        assert "\n" not in error.line()
