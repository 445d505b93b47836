"""Which class of `transformers` computes what a config describes.

Our field names are those of DeepSeek's released config.json, so most values pass unchanged. A
family lists the fields its config.json carries, what its class takes for granted, and the few names
it spells otherwise.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, NamedTuple

from minids.config import ModelConfig
from minids.errors import UserError

SIZES = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size rms_norm_eps "
    "max_position_embeddings initializer_range tie_word_embeddings "
)
LATENT = "q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim "
GROUPED = "num_key_value_heads head_dim "
EXPERTS = (
    "moe_intermediate_size n_routed_experts n_shared_experts num_experts_per_tok "
    "first_k_dense_replace n_group topk_group norm_topk_prob routed_scaling_factor "
)
INDEXER = "index_n_heads index_head_dim index_topk "
V4 = "sliding_window compress_ratios o_groups o_lora_rank hc_mult num_hash_layers swiglu_limit "
MTP = "num_nextn_predict_layers "
TRAINING = (  # changes no logit; `transformers` keeps these without using them
    "architecture zero_init_output bias_update_speed aux_loss_alpha device_loss_alpha "
    "comm_loss_alpha mtp_loss_weight"
)

MLA = {"attention": "mla", "use_qk_norm": False, "moe_layer_freq": 1}
GQA = {"attention": "gqa", "rope_interleave": False}
DENSE = GQA | {"n_routed_experts": 0, "partial_rotary_factor": 1.0, "num_nextn_predict_layers": 0}
V2_ROUTER = {"scoring_func": "softmax", "norm_topk_prob": False}
V3_ROUTER = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
PLAIN_ROUTER = {"scoring_func": "softmax", "topk_method": "greedy", "first_k_dense_replace": 0}
ONLY_WITH_EXPERTS = ("scoring_func", "topk_method", "norm_topk_prob", "moe_layer_freq")


class Family(NamedTuple):
    """One model class of `transformers`."""

    model_type: str
    model_class: str
    fields: str  # ours that its config.json carries, blank-separated
    fixed: dict[str, Any]  # what the class takes for granted
    renamed: MappingProxyType[str, str] = MappingProxyType({})  # ours → its name
    whole_heads: bool = False  # its config insists that the heads divide the hidden size
    counted_only: bool = False  # we read its config and have no such model


FAMILIES = [
    Family(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        SIZES + LATENT + EXPERTS + MTP + "rope_interleave",
        MLA | V3_ROUTER | {"index_n_heads": 0},
    ),
    Family(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        SIZES + LATENT + EXPERTS.replace("norm_topk_prob ", "") + MTP + "topk_method",
        MLA | V2_ROUTER | {"rope_interleave": True, "index_n_heads": 0},
        whole_heads=True,
    ),
    Family(
        "llama",
        "LlamaForCausalLM",
        SIZES + GROUPED,
        DENSE | {"attention_bias": False, "use_qk_norm": False},
        whole_heads=True,
    ),
    Family(
        "qwen2",
        "Qwen2ForCausalLM",
        SIZES + GROUPED,
        DENSE | {"attention_bias": True, "use_qk_norm": False},
    ),
    Family(
        "qwen3",
        "Qwen3ForCausalLM",
        SIZES + GROUPED,
        DENSE | {"attention_bias": False, "use_qk_norm": True},
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        SIZES + GROUPED + "moe_intermediate_size n_routed_experts num_experts_per_tok "
        "norm_topk_prob moe_layer_freq",
        GQA
        | PLAIN_ROUTER
        | {"attention_bias": False, "use_qk_norm": True, "partial_rotary_factor": 1.0}
        | {"n_shared_experts": 0, "routed_scaling_factor": 1.0, "num_nextn_predict_layers": 0},
        MappingProxyType(
            {"n_routed_experts": "num_experts", "moe_layer_freq": "decoder_sparse_step"}
        ),
    ),
    Family(
        "glm4_moe",
        "Glm4MoeForCausalLM",
        SIZES + GROUPED + EXPERTS + MTP + "attention_bias use_qk_norm",
        GQA | V3_ROUTER | {"moe_layer_freq": 1},
    ),
    Family(
        "deepseek_v32",
        "DeepseekV32ForCausalLM",
        SIZES + LATENT + EXPERTS + MTP + INDEXER,
        MLA | V3_ROUTER,
        counted_only=True,
    ),
    Family(
        "deepseek_v4",
        "DeepseekV4ForCausalLM",
        SIZES
        + GROUPED
        + EXPERTS
        + MTP
        + INDEXER
        + V4
        + "q_lora_rank qk_rope_head_dim scoring_func",
        {"attention": "csa", "topk_method": "noaux_tc"},
        counted_only=True,
    ),
]
SAME_AS = {"kimi_k2": "deepseek_v3"}


def named(model_type: str) -> Family:
    """The family a config.json says it is. Raises UserError with code 4."""
    known = {family.model_type: family for family in FAMILIES}
    found = known.get(SAME_AS.get(model_type, model_type))
    if found is None:
        allowed = ", ".join([*known, *SAME_AS])
        raise UserError("config.json: model_type", f"{model_type!r} is unknown", allowed, code=4)
    return found


def of(cfg: ModelConfig) -> Family:
    """The family whose class computes this model. Raises UserError if there is none."""
    candidates = [
        family
        for family in FAMILIES
        if family.fixed["attention"] == cfg.attention and not family.counted_only
    ]
    if not candidates:
        raise UserError("model.attention", f"{cfg.attention} is counted only", "mla, gqa")
    reasons = {family.model_type: obstacles(cfg, family) for family in candidates}

    def distance(family: Family) -> tuple[bool, int]:
        found = reasons[family.model_type]
        return "n_routed_experts" in found, len(found)

    nearest = min(candidates, key=distance)
    for field, allowed in reasons[nearest.model_type].items():
        value = str(getattr(cfg, field)).lower()
        what = f"{value} has no place in {nearest.model_class} of transformers"
        hint = "" if " " in allowed else f"train with --set model.{field}={allowed} to export"
        raise UserError(f"model.{field}", what, allowed, hint=hint)
    return nearest


def obstacles(cfg: ModelConfig, family: Family) -> dict[str, str]:
    """Fields that keep a class from computing this model, and what it would allow.

    RoPE's layout is none: the weights' rows are put into the order the class expects.
    """
    found = {}
    for field, wanted in family.fixed.items():
        idle = field in ONLY_WITH_EXPERTS and not cfg.n_routed_experts
        if getattr(cfg, field) != wanted and not idle and field != "rope_interleave":
            found[field] = str(wanted).lower()
    if family.whole_heads and cfg.hidden_size % cfg.num_attention_heads:
        found["num_attention_heads"] = f"divisors of {cfg.hidden_size}"
    if cfg.attention == "gqa" and cfg.rope_type == "yarn" and cfg.mscale_all_dim:
        found["mscale_all_dim"] = "0"
    return found
