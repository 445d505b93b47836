"""The peer's side: transformers' DeepSeek-V3 of the same shape with the same weights.

Its experts and its attention have several implementations; which is fastest depends on shape and
dtype, so all are tried and the best one runs.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import nn

from minids.bench.harness import Arm, Plan, fastest
from minids.config import ModelConfig
from minids.errors import UserError

EXPERTS = ("eager", "grouped_mm", "batched_mm")
ATTENTION = ("sdpa", "eager")
WORTH_TRYING = 0.6  # of the best rate at the smallest case; slower settings are not tried again


def small_v3(width: int) -> ModelConfig:
    """DeepSeek-V3 in small: 4 layers, hidden 256, 16 experts of which 4 and a shared one work.

    V3's own proportion of expert width to hidden size, 2048 / 7168, makes 73 of 256: 64.
    """
    return ModelConfig(
        vocab_size=2048,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        moe_intermediate_size=width,
        n_routed_experts=16,
        n_shared_experts=1,
        num_experts_per_tok=4,
        max_position_embeddings=1024,
    )


def their_config(cfg: ModelConfig, settings: dict[str, str]) -> Any:
    """The same architecture in their words."""
    from transformers import DeepseekV3Config

    return DeepseekV3Config(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        moe_intermediate_size=cfg.moe_intermediate_size,
        num_hidden_layers=cfg.num_hidden_layers,
        num_attention_heads=cfg.num_attention_heads,
        num_key_value_heads=cfg.num_attention_heads,
        n_shared_experts=cfg.n_shared_experts,
        n_routed_experts=cfg.n_routed_experts,
        num_experts_per_tok=cfg.num_experts_per_tok,
        first_k_dense_replace=cfg.first_k_dense_replace,
        routed_scaling_factor=cfg.routed_scaling_factor,
        n_group=cfg.n_group,
        topk_group=cfg.topk_group,
        norm_topk_prob=cfg.norm_topk_prob,
        q_lora_rank=cfg.q_lora_rank or None,
        kv_lora_rank=cfg.kv_lora_rank,
        qk_nope_head_dim=cfg.qk_nope_head_dim,
        qk_rope_head_dim=cfg.qk_rope_head_dim,
        v_head_dim=cfg.v_head_dim,
        rope_interleave=cfg.rope_interleave,
        max_position_embeddings=cfg.max_position_embeddings,
        rms_norm_eps=cfg.rms_norm_eps,
        tie_word_embeddings=cfg.tie_word_embeddings,
        attn_implementation=settings["attention"],  # pyright: ignore[reportCallIssue]
        experts_implementation=settings["experts"],  # pyright: ignore[reportCallIssue]
    )


def their_model(cfg: ModelConfig, settings: dict[str, str], dtype: torch.dtype) -> Any:
    """Their model with `fill`'s weights; in bfloat16 its weights too, which is fastest."""
    from transformers import DeepseekV3ForCausalLM

    build: Any = DeepseekV3ForCausalLM
    model: nn.Module = build(their_config(cfg, settings))
    model = model.to(dtype=dtype)
    fill(model, strip="model.")
    return model


@torch.no_grad()
def fill(model: nn.Module, strip: str = "") -> None:
    """Weights that depend on their name and shape only: equal in both models, whoever is built.

    Norms 1, biases 0, matrices normal with deviation 1/√inputs, so that experts are told apart.
    """
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        if "inv_freq" in name:
            continue
        if weight.ndim == 1:
            weight.fill_(0.0 if "bias" in name else 1.0)
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(name.removeprefix(strip).encode()))
        values = torch.randn(weight.shape, generator=generator)
        weight.copy_(values * weight.shape[-1] ** -0.5)


def arms(
    module: str, order: dict[str, Any], threads: list[int], settings: list[dict[str, str]]
) -> list[Arm]:
    """Their arms for every setting and thread count."""
    return [
        Arm("transformers", module, {"arm": "peer", **order, "settings": s}, n)
        for n in threads
        for s in settings
    ]


def all_settings(attention: tuple[str, ...] = ATTENTION) -> list[dict[str, str]]:
    """Every combination of their implementations."""
    return [{"experts": e, "attention": a} for a in attention for e in EXPERTS]


def name_of(settings: dict[str, str]) -> str:
    """As the report names it."""
    return ", ".join(settings.values())


class Best:
    """Their best setting for each case: all at the first one, then those that were worth it."""

    def __init__(self, module: str, plan: Plan, attention: tuple[str, ...] = ATTENTION) -> None:
        self.module, self.plan = module, plan
        self.settings = [s for s in all_settings(attention) if plan.settings in name_of(s)]
        if not self.settings:
            names = " · ".join(map(name_of, all_settings(attention)))
            raise UserError("--peer-settings", f"{plan.settings!r} is in no setting", names)
        self.tried: dict[str, dict[str, float]] = {}

    def choose(self, label: str, order: dict[str, Any], threads: list[int]) -> Arm:
        """Their arm for a case."""
        candidates = arms(self.module, order | {"seconds": 1.0}, threads, self.settings)
        best, rates = fastest(candidates, self.plan.tell)
        if rates and not self.tried:
            worth = WORTH_TRYING * max(rates.values())
            kept = [
                a.order["settings"]
                for a, r in zip(candidates, rates.values(), strict=True)
                if r >= worth
            ]
            self.settings = [s for s in self.settings if s in kept]
        self.tried[label] = rates
        return best._replace(order=best.order | order)
