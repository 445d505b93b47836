"""Rotary positions: query and key are turned by position, so their product sees the distance.

Channel pair p turns by position · θ^(−2p/r). Two layouts exist for which channels form a pair;
DeepSeek's weights use neighbours, Llama's use halves, and confusing them is the field's most
common silent bug. YaRN stretches the slow frequencies so that a model reads further than trained.
Axes: b batch, s positions, h heads, r rotated channels, p pairs (r/2).
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from minids.config import ModelConfig


class Rope(NamedTuple):
    """Tables for some positions, float32 whatever the model computes in.

    In bfloat16 positions above 256 would begin to coincide.
    """

    cos: Tensor  # [s p] or [b s p]
    sin: Tensor  # [s p] or [b s p]


def rope_tables(cfg: ModelConfig, positions: Tensor, dtype: torch.dtype = torch.float32) -> Rope:
    """Cosine and sine of every angle.  positions [s] or [b s], integers → Rope

    Angles are formed in float64 and rounded once. With YaRN both carry its length correction
    (1 whenever mscale = mscale_all_dim, as in V3).
    """
    angle = positions.double()[..., None] * frequencies(cfg).to(positions.device)  # [… s p]
    factor = 1.0
    if cfg.rope_type == "yarn":
        factor = length_correction(cfg.rope_factor, cfg.mscale)
        factor /= length_correction(cfg.rope_factor, cfg.mscale_all_dim)
    return Rope((angle.cos() * factor).to(dtype), (angle.sin() * factor).to(dtype))


def frequencies(cfg: ModelConfig) -> Tensor:
    """Radians per token of each pair, fast ones first, in float64. (arXiv 2104.09864, 2309.00071)

    → [p]. YaRN keeps pairs that turn more than beta_fast times over the original context, divides
    those that turn less than beta_slow times by the factor, and blends linearly between; Llama 3
    does the same, but blends along the turns where YaRN blends along the pairs.
    """
    width = cfg.rotary_dim
    pair = torch.arange(width // 2, dtype=torch.float64, device="cpu")  # [p]
    frequency = cfg.rope_theta ** (-2 * pair / width)  # [p]
    if cfg.rope_type == "default":
        return frequency
    if cfg.rope_type == "llama3":
        turns = cfg.original_max_position_embeddings * frequency / (2 * math.pi)  # [p]
        slow = ((cfg.beta_fast - turns) / (cfg.beta_fast - cfg.beta_slow)).clamp(0, 1)  # [p]
        return frequency * (1 - slow) + frequency / cfg.rope_factor * slow
    low = max(math.floor(pair_that_turns(cfg.beta_fast, cfg)), 0)
    high = min(math.ceil(pair_that_turns(cfg.beta_slow, cfg)), width - 1)
    slow = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)  # [p] 0 keeps, 1 divides
    return frequency * (1 - slow) + frequency / cfg.rope_factor * slow


def pair_that_turns(turns: float, cfg: ModelConfig) -> float:
    """The (fractional) pair that makes `turns` full turns over the original context."""
    wavelength = cfg.original_max_position_embeddings / (2 * math.pi * turns)
    return cfg.rotary_dim * math.log(wavelength) / (2 * math.log(cfg.rope_theta))


def length_correction(factor: float, mscale: float) -> float:
    """YaRN's attention temperature: 0.1 · mscale · ln(factor) + 1. (DeepSeek-V3 §4.3)"""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def softmax_scale(cfg: ModelConfig) -> float:
    """1/√(query width), times mscale² under YaRN since query and key would both carry it.

    V3: 192 channels give 0.0722, YaRN with factor 40 raises it to 0.1352.
    """
    scale = cfg.qk_head_dim**-0.5
    if cfg.rope_type == "yarn" and cfg.mscale_all_dim:
        scale *= length_correction(cfg.rope_factor, cfg.mscale_all_dim) ** 2
    return scale


def rotate_pairs(x: Tensor, rope: Rope) -> Tensor:
    """DeepSeek's layout: channels (0,1), (2,3), … turn together.  x [b s h r] → [b s h r]"""
    even, odd = rearrange(x, "b s h (p two) -> two b s h p", two=2)
    cos, sin = for_heads(rope)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rearrange(turned, "b s h p two -> b s h (p two)").to(x.dtype)


def rotate_halves(x: Tensor, rope: Rope) -> Tensor:
    """Llama's layout: channel i turns with channel i + r/2.  x [b s h r] → [b s h r]"""
    first, second = rearrange(x, "b s h (two p) -> two b s h p", two=2)
    cos, sin = for_heads(rope)
    turned = torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.to(x.dtype)


def for_heads(rope: Rope) -> Rope:
    """The tables with an axis that every head shares.  → [… s 1 p] each"""
    return Rope(rope.cos[..., None, :], rope.sin[..., None, :])
