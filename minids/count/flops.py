"""Floating-point operations, counted from the config: a multiply and an add are two.

Two parts. Matrices: every number that a token uses costs 2 FLOPs, whatever the context. Attention:
scores and values cost per pair of tokens, so a causal pass over s tokens pays half of s² and a
decoded token pays its whole context. Training costs three forward passes, one and two more for the
backward pass. Norms, softmax and RoPE are left out: together under 1 %.
Axes: s tokens of a sequence, h heads, n nope (or whole head), r rope, v value channels,
c kv_lora_rank.
"""

from itertools import pairwise

from minids.config import ModelConfig
from minids.count.params import HEAVY, compress_ratio, main_weights, mtp_weights

CONTEXT = 4096  # what published figures per token refer to


def matrices(cfg: ModelConfig) -> int:
    """Forward FLOPs of one token in all matrix products of the main model.

    The selected experts only; DeepSeek-V3: 73.25 GFLOP.
    """
    return 2 * sum(weight.active for weight in main_weights(cfg) if weight.is_matrix)


def attention(cfg: ModelConfig, context: float, *, absorbed: bool = False) -> float:
    """Scores and values of one query that sees `context` tokens, over all layers."""
    layers = range(cfg.num_hidden_layers)
    return sum(attention_in(cfg, i, context, absorbed=absorbed) for i in layers)


def attention_in(cfg: ModelConfig, layer: int, context: float, *, absorbed: bool = False) -> float:
    """The same in one layer. Sparse kinds read less than they could, and pay for choosing.

    Per pair and head, forward: grouped attention 2·2n, MLA as trained 2(n+r+v), MLA absorbed
    2(2c+r) (more work, far fewer bytes), V4 2·2n as its one head serves as key and value.
    """
    h = cfg.num_attention_heads
    choosing = 2 * cfg.index_n_heads * cfg.index_head_dim  # per pair the indexer looks at
    if cfg.attention == "gqa":
        return 4 * h * cfg.head_dim * context
    if cfg.attention == "mla":
        sparse = bool(cfg.index_n_heads)
        expanded = cfg.qk_head_dim + cfg.v_head_dim
        width = 2 * cfg.kv_lora_rank + cfg.qk_rope_head_dim if absorbed or sparse else expanded
        read = min(context, cfg.index_topk) if sparse else context
        return 2 * h * width * read + choosing * context
    ratio = compress_ratio(cfg, layer)
    entries = context / ratio if ratio else 0.0
    picked = min(entries, cfg.index_topk) if ratio < HEAVY else entries
    read = min(context, cfg.sliding_window) + picked
    return 4 * h * cfg.head_dim * read + (choosing * entries if ratio < HEAVY else 0.0)


def causal_mean(cfg: ModelConfig, s: int, layer: int, *, absorbed: bool = False) -> float:
    """Attention FLOPs of an average token in a causal pass over s tokens, in one layer.

    A token sees s/2 others on average. What a sparse kind reads is bent at its limits, so the mean
    is taken over straight pieces between them: on each, the middle stands for the whole.
    """
    ratio = compress_ratio(cfg, layer) if cfg.attention == "csa" else 1
    limits = {cfg.sliding_window, cfg.index_topk * ratio} if cfg.index_n_heads else set()
    bends = sorted({0, s} | {limit for limit in limits if 0 < limit < s})
    total = sum(
        (b - a) * attention_in(cfg, layer, (a + b) / 2, absorbed=absorbed)
        for a, b in pairwise(bends)
    )
    return total / s


def forward(cfg: ModelConfig, s: int = CONTEXT) -> float:
    """Per token, one causal pass over s tokens, output head included."""
    layers = range(cfg.num_hidden_layers)
    return matrices(cfg) + sum(causal_mean(cfg, s, layer) for layer in layers)


def mtp(cfg: ModelConfig, s: int = CONTEXT) -> float:
    """What the MTP modules add per token; each runs the output head once more."""
    depth = range(cfg.num_hidden_layers, cfg.num_hidden_layers + cfg.num_nextn_predict_layers)
    own = 2 * sum(weight.active for weight in mtp_weights(cfg) if weight.is_matrix)
    head = 2 * cfg.vocab_size * cfg.hidden_size
    return own + sum(head + causal_mean(cfg, s, layer) for layer in depth)


def training(cfg: ModelConfig, s: int = CONTEXT, *, with_mtp: bool = False) -> float:
    """Per token; DeepSeek-V3 at 4K: 250.45 GFLOP, as published without MTP."""
    return 3 * (forward(cfg, s) + (mtp(cfg, s) if with_mtp else 0.0))


def prefill(cfg: ModelConfig, s: int) -> float:
    """A whole prompt of s tokens; the output head runs for its last token only."""
    head = 2 * cfg.vocab_size * cfg.hidden_size
    return s * (forward(cfg, s) - head) + head


def decode(cfg: ModelConfig, context: int, *, absorbed: bool = True) -> float:
    """One new token behind `context` cached ones.

    Absorbed, MLA works on the latents as they lie in the cache, and the two key and value matrices
    are applied to the query and the output instead: the same 2 FLOPs per number. Not absorbed,
    every cached latent is expanded again.
    """
    expanding = 0.0
    if cfg.attention == "mla" and not absorbed:
        kv_b = cfg.num_attention_heads * (cfg.qk_nope_head_dim + cfg.v_head_dim) * cfg.kv_lora_rank
        expanding = 2.0 * kv_b * context * cfg.num_hidden_layers
    return matrices(cfg) + attention(cfg, context, absorbed=absorbed) + expanding
