"""One attention layer between its cache and its output matrix: what it computes, what it moves.

s queries, the last of t tokens, read t cached entries. Grouped attention reads its keys and values
as they lie there. MLA has two bills for one function: expanded, every latent becomes keys and
values per head first; absorbed, the key matrix goes into the query and the value matrix behind the
sum, and each pair of tokens costs 2c + r per head instead of n + r + v.

The floor counts pairs that a query may see and every byte once; keys and values that are expanded
are written and read again. Axes: s queries, t tokens, h query heads, g key/value heads, n nope (or
whole head), r rope, v value channels, c kv_lora_rank.
"""

from minids.config import ModelConfig
from minids.count.memory import kv_elements_in, size_of
from minids.count.roofline import Work
from minids.errors import UserError


def core(
    cfg: ModelConfig,
    s: int,
    t: int,
    form: str = "expanded",
    *,
    sequences: int = 1,
    dtype: str = "bfloat16",
) -> Work:
    """From queries and cache to the heads' outputs, in one layer; `form` matters for MLA only."""
    if cfg.attention == "csa" or cfg.index_n_heads:
        raise UserError("model.attention", "a sparse kind reads what it chooses", "gqa, dense mla")
    h, pairs = cfg.num_attention_heads, s * t - s * (s - 1) // 2  # nobody looks ahead
    cached = t * kv_elements_in(cfg, 0)
    if cfg.attention == "gqa":
        ends = 2 * s * h * cfg.head_dim  # queries in, outputs out
        done = 4 * h * pairs * cfg.head_dim
        return Work(sequences * done, sequences * size_of(dtype) * (cached + ends))
    c, r, w = cfg.kv_lora_rank, cfg.qk_rope_head_dim, cfg.qk_nope_head_dim + cfg.v_head_dim
    ends, matrices = s * h * (w + r), h * w * c
    if form == "absorbed":
        done, made = 2 * s * matrices + 2 * h * pairs * (2 * c + r), 0
    else:
        done, made = 2 * t * matrices + 2 * h * pairs * (w + r), 2 * t * h * w
    moved = matrices + sequences * (cached + ends + made)
    return Work(sequences * done, size_of(dtype) * moved)


def crossing(cfg: ModelConfig, t: int) -> float:
    """Queries up to which absorbed MLA multiplies less over t tokens, all pairs computed.

    V3: 170.7 over a long past, from c·(n+v) / (2c − n − v).
    """
    c, w = cfg.kv_lora_rank, cfg.qk_nope_head_dim + cfg.v_head_dim
    return t * c * w / (c * w + t * (2 * c - w)) if 2 * c > w else float(t)
