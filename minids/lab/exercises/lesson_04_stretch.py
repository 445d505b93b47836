"""Lesson 04: frequencies, YaRN's ramp, and the scale of the softmax under YaRN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from minids import config
from minids.config import ModelConfig
from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.rope import frequencies, length_correction, pair_that_turns, softmax_scale


@lru_cache(1)
def published() -> ModelConfig:
    """DeepSeek-V3's."""
    return config.load("deepseek-v3").model


def some(generator: torch.Generator, low: float, high: float) -> float:
    """A number in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def settings(generator: torch.Generator) -> Iterator[Case]:
    """Plain and stretched; V3 itself; other bases, widths, factors, betas and contexts."""
    v3 = published()
    yield Case((replace(v3, rope_type="default", qk_rope_head_dim=4),), "plain, 4 channels")
    yield Case((replace(v3, rope_type="default"),), "plain, V3's 64 channels")
    yield Case((v3,), "V3 with YaRN")
    yield Case((replace(v3, rope_theta=50_000.0, rope_factor=32.0),), "base 50,000, factor 32")
    for r in (6, 16, 32, 48):
        theta = round(some(generator, 2_000, 90_000))
        cfg = replace(
            v3, qk_rope_head_dim=r, rope_theta=float(theta), rope_factor=some(generator, 2, 30)
        )
        plain = replace(cfg, rope_type="default")
        yield Case((plain,), f"plain, {r} channels, base {theta:,}")
        slow, fast = some(generator, 0.5, 3.0), some(generator, 9.0, 50.0)
        long = round(some(generator, 1_000, 9_000))
        cfg = replace(cfg, beta_slow=slow, beta_fast=fast, original_max_position_embeddings=long)
        yield Case((cfg,), f"YaRN, {r} channels, base {theta:,}, trained at {long:,} tokens")
    tight = replace(v3, original_max_position_embeddings=16, qk_rope_head_dim=8)
    yield Case((tight,), "YaRN, a context so short that no pair is kept")
    for theta, long in ((4.0, 310), (10_000.0, 6)):
        edge = replace(v3, rope_theta=theta, original_max_position_embeddings=long)
        yield Case((edge,), f"YaRN, base {theta:,.0f}, trained at {long:,} tokens")
    same = replace(v3, rope_theta=1e12, qk_rope_head_dim=4, beta_fast=1.01, beta_slow=1.0)
    yield Case((same,), "YaRN, a huge base")


def plain(cfg: ModelConfig, exponent: float = -2.0, width: int = 0) -> Tensor:
    """θ^(exponent · p / width).  → [p]"""
    pair = torch.arange(cfg.rotary_dim // 2, dtype=torch.float64)  # [p]
    return cfg.rope_theta ** (exponent * pair / (width or cfg.rotary_dim))


def stretched(cfg: ModelConfig, frequency: Tensor, low: float, high: float) -> Tensor:
    """YaRN between two pairs.  frequency [p] → [p]"""
    if cfg.rope_type == "default":
        return frequency
    pair = torch.arange(len(frequency), dtype=torch.float64)  # [p]
    slow = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)  # [p]
    return frequency * (1 - slow) + frequency / cfg.rope_factor * slow


def bounds(cfg: ModelConfig) -> tuple[float, float]:
    """Rounded outwards, as the paper's authors do."""
    low = max(math.floor(pair_that_turns(cfg.beta_fast, cfg)), 0)
    high = min(math.ceil(pair_that_turns(cfg.beta_slow, cfg)), cfg.rotary_dim - 1)
    return low, high


def without_two(cfg: ModelConfig) -> Tensor:
    return stretched(cfg, plain(cfg, -1.0), *bounds(cfg))


def whole_head(cfg: ModelConfig) -> Tensor:
    return stretched(cfg, plain(cfg, width=cfg.qk_head_dim), *bounds(cfg))


def growing(cfg: ModelConfig) -> Tensor:
    return stretched(cfg, plain(cfg, 2.0), *bounds(cfg))


def all_divided(cfg: ModelConfig) -> Tensor:
    return plain(cfg) / (1.0 if cfg.rope_type == "default" else cfg.rope_factor)


def fast_ones_divided(cfg: ModelConfig) -> Tensor:
    if cfg.rope_type == "default":
        return plain(cfg)
    pair, (low, high) = torch.arange(cfg.rotary_dim // 2, dtype=torch.float64), bounds(cfg)
    slow = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)  # [p]
    return plain(cfg) * slow + plain(cfg) / cfg.rope_factor * (1 - slow)


def not_rounded(cfg: ModelConfig) -> Tensor:
    low, high = pair_that_turns(cfg.beta_fast, cfg), pair_that_turns(cfg.beta_slow, cfg)
    return stretched(cfg, plain(cfg), max(low, 0), min(high, cfg.rotary_dim - 1))


def long_context(cfg: ModelConfig) -> Tensor:
    longer = round(cfg.original_max_position_embeddings * cfg.rope_factor)
    return frequencies(replace(cfg, original_max_position_embeddings=longer))


def larger_base(cfg: ModelConfig) -> Tensor:
    if cfg.rope_type == "default":
        return plain(cfg)
    r = cfg.rotary_dim
    theta = cfg.rope_theta * cfg.rope_factor ** (r / (r - 2))
    return plain(replace(cfg, rope_theta=min(theta, 1e12)))


FREQUENCIES = Exercise(
    "04.3",
    "frequencies",
    "radians per token of each pair, stretched by YaRN",
    frequencies,
    settings,
    (
        Mistake(
            "exponent without the two",
            "Pairs are counted, but the width counts channels, and a pair has two. So the slowest "
            "pair ends at 1/√θ instead of nearly 1/θ.",
            without_two,
        ),
        Mistake(
            "width of the whole head",
            "In MLA only some channels of a head turn (V3: 64 of 192), and only they are counted.",
            whole_head,
        ),
        Mistake(
            "frequencies grow",
            "The sign of the exponent is missing: the first pair turns fastest, one radian per "
            "token, and each one after it more slowly.",
            growing,
        ),
        Mistake(
            "every pair divided",
            "That is position interpolation: also the fast pairs, which tell neighbours apart, "
            "are slowed down. YaRN leaves these alone.",
            all_divided,
        ),
        Mistake(
            "YaRN left out",
            "All frequencies are as in training, so slow pairs meet angles they never saw.",
            plain,
        ),
        Mistake(
            "the ramp is turned round",
            "The fast pairs were divided and the slow ones kept. Slow pairs are those that never "
            "finished a turn in training, and would meet unknown angles.",
            fast_ones_divided,
        ),
        Mistake(
            "bounds not rounded",
            "The ramp runs between whole pairs: rounded down where it begins, up where it ends.",
            not_rounded,
        ),
        Mistake(
            "turns counted over the long context",
            "What matters is how often a pair turned in training, over the original context.",
            long_context,
        ),
        Mistake(
            "a larger base instead",
            "Raising θ also slows the slow pairs down most, and all others a little. It is another "
            "recipe (NTK-aware scaling), and V3's weights were not tuned with it.",
            larger_base,
        ),
    ),
    (
        "Without YaRN: pair 0 turns by 1 radian per token, the last one by nearly 1/θ.",
        "YaRN: which share of each frequency is the divided one? 0 up to a first pair, 1 from a "
        "second one on, in proportion between; both come from how often a pair turned in training.",
        "pair_that_turns(beta_fast, cfg), rounded down and not below 0, is where the ramp begins; "
        "the same of beta_slow, rounded up and at most width − 1, is where it ends. Clamp the "
        "ramp to 0 … 1, and blend.",
    ),
    atol=1e-12,
    rtol=1e-9,
)


# 04.4 softmax_scale


def scales(generator: torch.Generator) -> Iterator[Case]:
    """Plain, V3, V2's 0.707, both corrections different, one of them off, grouped heads."""
    v3 = published()
    yield Case((replace(v3, rope_type="default"),), "V3 without YaRN")
    yield Case((v3,), "V3 with YaRN")
    yield Case((replace(v3, mscale=0.707, mscale_all_dim=0.707),), "V2's correction")
    yield Case((replace(v3, mscale=1.0, mscale_all_dim=0.0),), "no correction of the scale")
    for _ in range(4):
        changes = {
            "qk_nope_head_dim": round(some(generator, 8, 200)),
            "rope_factor": some(generator, 2, 60),
            "mscale": some(generator, 0.2, 0.8),
            "mscale_all_dim": some(generator, 1.0, 2.0),
        }
        yield Case((replace(v3, **changes),), "YaRN, other widths and factors")
    grouped = replace(v3, attention="gqa", head_dim=80, num_key_value_heads=v3.num_attention_heads)
    yield Case((grouped,), "grouped heads of 80, YaRN")


def corrected(cfg: ModelConfig, width: float, power: float = 2.0, mscale: float = -1.0) -> float:
    """width^(−1/2), times the correction to a power."""
    mscale = cfg.mscale_all_dim if mscale < 0 else mscale
    stretch = cfg.rope_type == "yarn" and mscale
    return width**-0.5 * (length_correction(cfg.rope_factor, mscale) ** power if stretch else 1.0)


SCALE = Exercise(
    "04.4",
    "softmax_scale",
    "what scores are multiplied by, with YaRN",
    softmax_scale,
    scales,
    (
        Mistake(
            "the correction is not squared",
            "Query and key would each carry the factor, so their product carries it twice.",
            lambda cfg: corrected(cfg, cfg.qk_head_dim, 1.0),
        ),
        Mistake(
            "YaRN's correction left out",
            "Only 1/√width. V3's scores then have about half the size they had in training (0.072 "
            "instead of 0.135), and every head looks less sharply.",
            lambda cfg: cfg.qk_head_dim**-0.5,
        ),
        Mistake(
            "the other mscale",
            "mscale belongs to cosine and sine; the scale of the softmax has mscale_all_dim. In "
            "V3 both are 1, which hides this until another model is loaded.",
            lambda cfg: corrected(cfg, cfg.qk_head_dim, 2.0, cfg.mscale),
        ),
        Mistake(
            "width of the rotated channels",
            "A score sums over all channels of a head, those without position too: 192 in V3.",
            lambda cfg: corrected(cfg, cfg.rotary_dim),
        ),
        Mistake(
            "width of what is cached",
            "The cache holds c + r numbers per token (576 in V3), but the score is that of a head "
            "with n + r channels. Absorbing changes the order of sums, not the scale.",
            lambda cfg: corrected(cfg, cfg.kv_lora_rank + cfg.qk_rope_head_dim),
        ),
        Mistake(
            "the root is forgotten",
            "Scores of random vectors have the size √width, not width.",
            lambda cfg: corrected(cfg, cfg.qk_head_dim**2),
        ),
    ),
    (
        "Without YaRN it is what lesson 03 used. Which width? cfg has a property for it.",
        "With YaRN every query and every key would be multiplied by one number. What does that "
        "do to their product?",
        "length_correction gives that number, from the factor and mscale_all_dim. Apply it only "
        "for rope_type yarn, and twice.",
    ),
    atol=1e-12,
    rtol=1e-9,
)
