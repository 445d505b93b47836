"""What may be asked: a claim and the fields in which its arms differ; the first is the claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minids.config import ModelConfig, RunConfig, load
from minids.errors import UserError

MOST_SEEDS = 10
ALL = ("train.eval_every=0", "train.sample_every_seconds=0", "train.eval_documents=500")


class Question(NamedTuple):
    """A claim and its arms, as changes of a config."""

    claim: str
    arms: Callable[[ModelConfig], dict[str, list[str]]]


def attentions(cfg: ModelConfig) -> dict[str, list[str]]:
    """MLA against heads that share keys, at equal widths of a query and key."""
    h, width = cfg.num_attention_heads, cfg.qk_nope_head_dim + cfg.qk_rope_head_dim
    shared = {"MHA": h, "GQA": max(1, h // 2), "MQA": 1}
    same = ["model.attention=gqa", f"model.head_dim={width}"]
    return {"MLA": []} | {
        name: [*same, f"model.num_key_value_heads={g}"] for name, g in shared.items()
    }


def experts(cfg: ModelConfig) -> dict[str, list[str]]:
    """Experts against a dense layer that computes as much, and one that holds as much."""
    f, shared = cfg.moe_intermediate_size, cfg.n_shared_experts
    dense = f"model.first_k_dense_replace={cfg.num_hidden_layers}"
    works, holds = cfg.num_experts_per_tok + shared, cfg.n_routed_experts + shared
    return {
        "experts": [],
        "dense, as many work": [dense, f"model.intermediate_size={works * f}"],
        "dense, all of them": [dense, f"model.intermediate_size={holds * f}"],
    }


QUESTIONS = {
    "mla": Question("MLA keeps multi-head quality with a small cache", attentions),
    "moe": Question("experts buy quality that a dense layer of equal cost does not", experts),
    "mtp": Question(
        "foretelling one token more makes the next one better",
        lambda _cfg: (
            {"MTP": ["model.num_nextn_predict_layers=1"]}
            | {"no MTP": ["model.num_nextn_predict_layers=0"]}
        ),
    ),
    "fp8": Question(
        "training in FP8 costs less than 0.25 % of the loss",
        lambda _cfg: (
            {"FP8": ["train.precision=fp8-sim"]} | {"bfloat16": ["train.precision=bfloat16"]}
        ),
    ),
    "balance": Question(
        "a bias keeps experts busy at less cost than a loss does",
        lambda _cfg: (
            {"bias": []}
            | {"loss": ["model.bias_update_speed=0", "model.aux_loss_alpha=0.01"]}
            | {"neither": ["model.bias_update_speed=0", "model.aux_loss_alpha=0"]}
        ),
    ),
}


def plan(name: str, preset: str, changes: Sequence[str], seeds: int) -> list[tuple[str, RunConfig]]:
    """The runs, seed by seed: (arm, config). Everything that can be wrong is found here."""
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError("--seeds", f"{seeds} is out of range", f"1 … {MOST_SEEDS}")
    base = load(preset, [*ALL, *changes])
    model, first = base.model, base.train.seed
    dense = model.n_routed_experts == 0 or model.first_k_dense_replace >= model.num_hidden_layers
    if name in ("moe", "balance") and dense:
        raise UserError("--config", f"{base.name} has no experts", "a config with experts")
    if name == "mla" and model.attention != "mla":
        raise UserError("--config", f"{base.name} has no MLA", "a config with MLA")
    return [
        (arm, load(preset, [*ALL, *changes, *fields, f"train.seed={seed}"]))
        for seed in range(first, first + seeds)
        for arm, fields in QUESTIONS[name].arms(model).items()
    ]
