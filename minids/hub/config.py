"""config.json ↔ ModelConfig. Reads released DeepSeek configs as they are; needs no torch.

Both spellings of RoPE are read: `rope_theta` beside `rope_scaling`, as released, and
`rope_parameters`, as transformers 5 writes. What `transformers` has no name for (initialisation,
balance, loss weights) lies under "minids", so that an exported model comes back as it was.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_type_hints

from minids.config import ModelConfig, coerce
from minids.errors import UserError
from minids.hub import families
from minids.hub.families import TRAINING, Family

CONFIG = "config.json"
LARGEST_BYTES = 1 << 22
MAY_BE_ABSENT = {  # ours → what the released model code assumes then; None: our own default
    "num_nextn_predict_layers": 0,
    "tie_word_embeddings": False,
    "initializer_range": None,
    "rope_interleave": None,
    "attention_bias": False,
    "use_qk_norm": False,
    "q_lora_rank": 0,
    "n_routed_experts": 0,
    "n_shared_experts": 0,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "scoring_func": None,
    "num_key_value_heads": None,
    "head_dim": None,
    "moe_layer_freq": 1,
}
KINDS = get_type_hints(ModelConfig)


def read_config(folder: Path) -> ModelConfig:
    """The model that a Hugging Face folder describes. Raises UserError with code 4."""
    return from_hf(read_json(folder / CONFIG))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of decent size. Raises UserError with code 4."""
    if not path.is_file():
        allowed = "a Hugging Face folder with config.json and safetensors"
        raise UserError(str(path.parent), f"holds no {path.name}", allowed, code=4)
    try:
        if path.stat().st_size > LARGEST_BYTES * 16:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(str(path), f"is not readable JSON ({error})", code=4) from error
    if not isinstance(found, dict):
        raise UserError(str(path), "is not a JSON object", code=4)
    return found


def from_hf(raw: dict[str, Any]) -> ModelConfig:
    """A config.json as ModelConfig. Raises UserError with code 4, naming the key."""
    family = families.named(str(raw.get("model_type", "")))
    try:
        values = dict(family.fixed)
        for field in family.fields.split():
            values |= field_of(raw, field, family, values)
        check_assumptions(raw, family)
        values |= rope_of(raw)
        values |= training_of(raw)
        if not values.get("n_routed_experts"):
            values.pop("first_k_dense_replace", None)
        return ModelConfig(**values)
    except UserError as error:
        where = error.where.removeprefix("model.")
        raise UserError(f"{CONFIG}: {where}", error.what, error.allowed, code=4) from error


def field_of(
    raw: dict[str, Any], field: str, family: Family, values: dict[str, Any]
) -> dict[str, Any]:
    """One value under our name; null counts as absent. `values` are those read before."""
    key = family.renamed.get(field, field)
    if raw.get(key) is not None:
        value = raw[key]
        if field == "compress_ratios" and isinstance(value, list):
            value = value[: values["num_hidden_layers"]]  # the rest are MTP modules
        return {field: coerce(key, value, KINDS[field])}
    dense = not raw.get(family.renamed.get("n_routed_experts", "n_routed_experts"))
    needs_experts = field in families.EXPERTS.split() and dense
    in_v4 = family.model_type == "deepseek_v4"  # whose config.json leaves more unsaid
    heads = values.get("num_attention_heads", 0)
    if field == "head_dim" and heads > 0:
        return {field: values["hidden_size"] // heads}
    if field == "num_key_value_heads" and heads > 0:
        return {field: heads}
    if MAY_BE_ABSENT.get(field) is not None:
        return {field: MAY_BE_ABSENT[field]}
    if field in MAY_BE_ABSENT or needs_experts or in_v4:
        return {}
    raise UserError(key, "is missing", f"what {family.model_type} needs")


def check_assumptions(raw: dict[str, Any], family: Family) -> None:
    """Refuse a config that asks for something its class would need other code for."""
    assumed = {family.renamed.get(k, k): v for k, v in family.fixed.items()}
    if family.fixed["attention"] != "csa":
        assumed |= {"hidden_act": "silu", "mlp_bias": False, "use_sliding_window": False}
        assumed |= {"mlp_only_layers": []}
    if family.fixed["attention"] == "mla":
        assumed["attention_bias"] = False
    for key, wanted in assumed.items():
        if raw.get(key) is not None and raw[key] != wanted:
            raise UserError(key, f"{raw[key]!r} is not supported", str(wanted).lower())


def rope_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Rotary positions from either spelling, as our fields."""
    new, old = raw.get("rope_parameters"), raw.get("rope_scaling")
    found = {**(old if isinstance(old, dict) else {}), **(new if isinstance(new, dict) else {})}
    kind = found.get("rope_type", found.get("type", "default"))
    theta = found.get("rope_theta", raw.get("rope_theta", 10_000.0))
    share = found.get("partial_rotary_factor", raw.get("partial_rotary_factor"))
    values: dict[str, Any] = {"rope_theta": coerce("rope_theta", theta, float)}
    if share is not None and raw.get("model_type") != "deepseek_v4":
        values["partial_rotary_factor"] = coerce("partial_rotary_factor", share, float)
    if kind == "default":
        return values
    if kind not in ("yarn", "llama3"):
        raise UserError("rope_type", f"{kind!r} is unknown", "default, yarn, llama3")
    keys = {"rope_factor": "factor", "original_max_position_embeddings": ""}
    keys |= (
        {"beta_fast": "high_freq_factor", "beta_slow": "low_freq_factor"}
        if kind == "llama3"
        else {"beta_fast": "", "beta_slow": "", "mscale": "", "mscale_all_dim": ""}
    )
    for field, spelled in keys.items():
        key = spelled or field
        if found.get(key) is not None:
            values[field] = coerce(f"rope {key}", found[key], KINDS[field])
    if "rope_factor" not in values:
        raise UserError("rope factor", "is missing", f"what {kind} needs")
    if found.get("attention_factor") and "mscale" not in values and values["rope_factor"] > 1:
        turned = coerce("rope attention_factor", found["attention_factor"], float)
        values["mscale"] = (turned - 1) / (0.1 * math.log(values["rope_factor"]))
    return values | {"rope_type": kind}


def training_of(raw: dict[str, Any]) -> dict[str, Any]:
    """What only training uses: ours if we wrote the file, else the maker's name for the model."""
    ours = raw.get("minids")
    if isinstance(ours, dict):
        names = [name for name in TRAINING.split() if name in ours]
        return {name: coerce(f"minids.{name}", ours[name], KINDS[name]) for name in names}
    return {"architecture": str(raw.get("_name_or_path") or raw["model_type"])}


def to_hf(cfg: ModelConfig, family: Family) -> dict[str, Any]:
    """The config.json that `transformers` reads; inverse of `from_hf`."""
    values: dict[str, Any] = {
        "architectures": [family.model_class],
        "model_type": family.model_type,
        "hidden_act": "silu",
        "attention_bias": cfg.attention_bias and cfg.attention == "gqa",
    }
    for field in family.fields.split():
        values[family.renamed.get(field, field)] = getattr(cfg, field)
    if cfg.attention == "mla":  # every head has keys of its own there
        values["num_key_value_heads"] = cfg.num_attention_heads
        values["q_lora_rank"] = cfg.q_lora_rank or None
    if not cfg.n_routed_experts and "first_k_dense_replace" in values:
        values["first_k_dense_replace"] = cfg.num_hidden_layers
    values["rope_parameters"] = rope_to_hf(cfg, family)
    values["minids"] = {name: getattr(cfg, name) for name in TRAINING.split()}
    return values


def rope_to_hf(cfg: ModelConfig, family: Family) -> dict[str, Any]:
    """Rotary positions as transformers 5 spells them."""
    values: dict[str, Any] = {"rope_type": cfg.rope_type, "rope_theta": cfg.rope_theta}
    if family.model_type == "glm4_moe":  # the others turn whole heads, and warn of the key
        values["partial_rotary_factor"] = cfg.partial_rotary_factor
    if cfg.rope_type == "default":
        return values
    values["factor"] = cfg.rope_factor
    values["original_max_position_embeddings"] = cfg.original_max_position_embeddings
    if cfg.rope_type == "llama3":
        return values | {"high_freq_factor": cfg.beta_fast, "low_freq_factor": cfg.beta_slow}
    values |= {"beta_fast": cfg.beta_fast, "beta_slow": cfg.beta_slow}
    values |= {"mscale": cfg.mscale, "mscale_all_dim": cfg.mscale_all_dim}
    if cfg.mscale and cfg.mscale_all_dim:
        return values
    grown = [0.1 * m * math.log(cfg.rope_factor) + 1 for m in (cfg.mscale, cfg.mscale_all_dim)]
    return values | {"attention_factor": grown[0] / grown[1]}  # else the classes take mscale = 1
