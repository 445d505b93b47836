"""Bytes: weights, what training keeps beside them, and what a cached token costs.

MLA caches c + r numbers per token and layer where plain attention caches 2·h·n: at V3's size 35,136
against 1,998,848 per token. Activations are not counted here; they depend on what is recomputed.
Axes: g key/value heads, n head width, c kv_lora_rank, r rope channels.
"""

import math
from typing import NamedTuple

from minids.config import ModelConfig
from minids.count.params import HEAVY, Weight, compress_ratio, main_weights, mtp_weights
from minids.errors import UserError

BYTES = {"float32": 4, "bfloat16": 2, "fp8": 1}
FP8_TILE = 128  # latent channels that share one float32 scale in an FP8 cache
V4_SCALES = 8  # bytes of scales in a cached V4 entry
FP4_GROUP = 32  # indexer channels that share one byte of scale in V4


class Training(NamedTuple):
    """Bytes that live through a training step, on one device without sharding."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.gradients + self.optimizer


def size_of(dtype: str) -> int:
    """Bytes of one number. Raises UserError for an unknown dtype."""
    if dtype not in BYTES:
        raise UserError("--dtype", f"{dtype!r} is unknown", ", ".join(BYTES))
    return BYTES[dtype]


def weights(cfg: ModelConfig, dtype: str = "bfloat16", *, with_mtp: bool = False) -> int:
    """Bytes of all weights; FP8's block scales (0.02 % more) are left out."""
    return all_numbers(cfg, with_mtp=with_mtp) * size_of(dtype)


def training(cfg: ModelConfig, optimizer: str = "muon", *, with_mtp: bool = True) -> Training:
    """As minids trains: float32 throughout, Muon with one moment, AdamW with two."""
    found = [*main_weights(cfg), *(mtp_weights(cfg) if with_mtp else ())]
    numbers = sum(w.count for w in found if is_trained(w))
    single = sum(w.count for w in found if optimizer == "muon" and is_muon(w))
    return Training(4 * numbers, 4 * numbers, 4 * (2 * numbers - single))


def is_trained(weight: Weight) -> bool:
    """Selection biases follow their own rule and have no gradient."""
    return not weight.name.endswith("e_score_correction_bias")


def is_muon(weight: Weight) -> bool:
    """Matrices that map vectors to vectors; rows of embedding, head and router stand alone."""
    tables = weight.name in ("embed_tokens.weight", "lm_head.weight") or ".gate." in weight.name
    return weight.is_matrix and not tables


def all_numbers(cfg: ModelConfig, *, with_mtp: bool) -> int:
    """Parameters, selection biases included."""
    found = [*main_weights(cfg), *(mtp_weights(cfg) if with_mtp else ())]
    return sum(w.count for w in found)


def kv_elements_per_token(cfg: ModelConfig) -> float:
    """Numbers that stay in the cache for each token, over all layers.

    V4's compressed entries are shared by 4 or 128 tokens; its constant window is not in here.
    """
    return sum(kv_elements_in(cfg, layer) for layer in range(cfg.num_hidden_layers))


def kv_elements_in(cfg: ModelConfig, layer: int) -> float:
    """The same in one layer."""
    if cfg.attention == "gqa":
        return 2 * cfg.num_key_value_heads * cfg.head_dim
    if cfg.attention == "mla":
        index_key = cfg.index_head_dim if cfg.index_n_heads else 0
        return cfg.kv_lora_rank + cfg.qk_rope_head_dim + index_key
    ratio = compress_ratio(cfg, layer)
    if not ratio:
        return 0
    return (cfg.head_dim + (cfg.index_head_dim if ratio < HEAVY else 0)) / ratio


def kv_bytes_per_token(cfg: ModelConfig, dtype: str = "bfloat16") -> float:
    """Bytes of the above. fp8 is the layout DeepSeek serves: RoPE channels stay bfloat16."""
    if dtype != "fp8":
        return kv_elements_per_token(cfg) * size_of(dtype)
    return sum(fp8_bytes_in(cfg, layer) for layer in range(cfg.num_hidden_layers))


def fp8_bytes_in(cfg: ModelConfig, layer: int) -> float:
    """One layer of an FP8 cache.

    V3: 512 latent bytes, 16 of scales, 128 of rotated key: 656. V3.2 adds an index key of 128 + 4.
    V4: 448 + 128 + 8 = 584 per entry, index keys in FP4: 64 + 4.
    """
    if cfg.attention == "gqa":
        return kv_elements_in(cfg, layer)
    if cfg.attention == "mla":
        c, r = cfg.kv_lora_rank, cfg.qk_rope_head_dim
        index_key = cfg.index_head_dim + 4 if cfg.index_n_heads else 0
        return c + 4 * math.ceil(c / FP8_TILE) + 2 * r + index_key
    ratio = compress_ratio(cfg, layer)
    if not ratio:
        return 0
    index_key = cfg.index_head_dim // 2 + cfg.index_head_dim // FP4_GROUP
    return (entry_bytes(cfg) + (index_key if ratio < HEAVY else 0)) / ratio


def entry_bytes(cfg: ModelConfig) -> int:
    """One V4 entry in FP8: channels without position, rotated ones in bfloat16, scales."""
    return cfg.head_dim + cfg.qk_rope_head_dim + V4_SCALES


def window_bytes(cfg: ModelConfig, dtype: str = "bfloat16") -> int:
    """What V4 keeps per sequence whatever its length: the last tokens, uncompressed."""
    if cfg.attention != "csa":
        return 0
    entry = entry_bytes(cfg) if dtype == "fp8" else cfg.head_dim * size_of(dtype)
    return cfg.num_hidden_layers * cfg.sliding_window * entry


def kv_cache(cfg: ModelConfig, tokens: int, sequences: int = 1, dtype: str = "bfloat16") -> float:
    """Bytes of a cache that holds `sequences` of `tokens` each."""
    return sequences * (tokens * kv_bytes_per_token(cfg, dtype) + window_bytes(cfg, dtype))
