"""Every weight of a model by name and shape, from its config alone; and their sums.

Names are those of the state dict, so what is counted here is held against a model on the meta
device, weight by weight. Beside each shape stands how much of it one token uses: all of an
attention matrix, k of e experts, nothing of the embedding table (a row is looked up, not
multiplied).
Axes: d hidden_size, h heads, g key/value heads, n nope (or whole head), r rope, v value channels,
c kv_lora_rank, q q_lora_rank, f width of a feed-forward, e experts, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minids.config import ModelConfig

HEAVY = 64  # V4: from this compression ratio on, all entries are read and no indexer picks


class Weight(NamedTuple):
    """One tensor of the state dict."""

    name: str
    axes: str  # the shape in letters, blank-separated as in the comments of the code
    shape: tuple[int, ...]
    active: int  # numbers of it that one token uses
    is_matrix: bool  # multiplies the token: 2 FLOPs per active number

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


class Params(NamedTuple):
    """Sums over all weights."""

    main: int  # without MTP: the published total
    active: int  # used by one token, output head included
    embedding: int  # the input table alone
    mtp: int  # own weights of the MTP modules


def count(cfg: ModelConfig) -> Params:
    """The totals; DeepSeek-V3 has 671,026,419,200 and uses 36,624,721,920."""
    main = list(main_weights(cfg))
    return Params(
        main=sum(weight.count for weight in main),
        active=sum(weight.active for weight in main),
        embedding=cfg.vocab_size * cfg.hidden_size,
        mtp=sum(weight.count for weight in mtp_weights(cfg)),
    )


def main_weights(cfg: ModelConfig) -> Iterator[Weight]:
    """Everything but the MTP modules, in the order of the state dict.

    `active` follows the published counts: attention, feed-forward, router and output head; not the
    embedding table, the norms of the stream and the selection biases (0.002 % together).
    """
    sizes = cfg.vocab_size, cfg.hidden_size
    embed = matrix if cfg.tie_word_embeddings else idle  # tied: it is the output head too
    yield embed("embed_tokens.weight", "V d", *sizes)
    for layer in range(cfg.num_hidden_layers):
        yield from under(f"layers.{layer}", block(cfg, layer))
    yield idle("norm.weight", "d", cfg.hidden_size)
    if cfg.hc_mult:
        yield from under("hc_head", stream_reader(cfg))
    if not cfg.tie_word_embeddings:
        yield matrix("lm_head.weight", "V d", *sizes)


def mtp_weights(cfg: ModelConfig) -> Iterator[Weight]:
    """The MTP modules' own weights; embedding and head are the main model's."""
    d = cfg.hidden_size
    for u in range(cfg.num_nextn_predict_layers):
        name = f"mtp.{u}"
        yield from under(name, block(cfg, cfg.num_hidden_layers + u))
        yield from (idle(f"{name}.{norm}.weight", "d", d) for norm in ("enorm", "hnorm"))
        yield matrix(f"{name}.eh_proj.weight", "d 2d", d, 2 * d)
        yield idle(f"{name}.shared_head.norm.weight", "d", d)
        if cfg.hc_mult:
            yield from under(f"{name}.hc_head", stream_reader(cfg))


def block(cfg: ModelConfig, layer: int) -> Iterator[Weight]:
    """One transformer block; layers past the last are those of MTP modules."""
    attention = {"mla": mla, "gqa": gqa, "csa": csa}[cfg.attention]
    yield idle("input_layernorm.weight", "d", cfg.hidden_size)
    yield from under("self_attn", attention(cfg, layer))
    yield idle("post_attention_layernorm.weight", "d", cfg.hidden_size)
    dense = swiglu(cfg.hidden_size, cfg.intermediate_size)
    yield from under("mlp", moe(cfg, layer) if cfg.is_moe_layer(layer) else dense)
    if cfg.hc_mult:
        yield from under("attn_hc", stream_mixer(cfg))
        yield from under("ffn_hc", stream_mixer(cfg))


def mla(cfg: ModelConfig, _layer: int) -> Iterator[Weight]:
    """Multi-head latent attention, with V3.2's indexer where the config has one."""
    d, h, c = cfg.hidden_size, cfg.num_attention_heads, cfg.kv_lora_rank
    n, r, v = cfg.qk_nope_head_dim, cfg.qk_rope_head_dim, cfg.v_head_dim
    yield from queries(cfg, "h(n+r)", h * (n + r), norm="q_a_layernorm")
    yield matrix("kv_a_proj_with_mqa.weight", "c+r d", c + r, d)
    yield vector("kv_a_layernorm.weight", "c", c)
    yield matrix("kv_b_proj.weight", "h(n+v) c", h * (n + v), c)
    yield matrix("o_proj.weight", "d hv", d, h * v)
    if cfg.use_qk_norm:
        yield vector("q_norm.weight", "n+r", n + r)
        yield vector("k_rope_norm.weight", "r", r)
    if cfg.index_n_heads:
        width, heads = cfg.index_head_dim, cfg.index_n_heads
        yield matrix("indexer.wq_b.weight", "", heads * width, cfg.q_lora_rank)
        yield matrix("indexer.wk.weight", "", width, d)
        yield vector("indexer.k_norm.weight", "", width)
        yield vector("indexer.k_norm.bias", "", width)
        yield matrix("indexer.weights_proj.weight", "", heads, d)


def queries(cfg: ModelConfig, axis: str, width: int, *, norm: str) -> Iterator[Weight]:
    """The query projection, through a latent if the config has one."""
    d, q = cfg.hidden_size, cfg.q_lora_rank
    if not q:
        yield matrix("q_proj.weight", f"{axis} d", width, d)
        return
    yield matrix("q_a_proj.weight", "q d", q, d)
    yield vector(f"{norm}.weight", "q", q)
    yield matrix("q_b_proj.weight", f"{axis} q", width, q)


def gqa(cfg: ModelConfig, _layer: int) -> Iterator[Weight]:
    """Grouped attention; biases and head norms where the config has them."""
    d, n, h, g = cfg.hidden_size, cfg.head_dim, cfg.num_attention_heads, cfg.num_key_value_heads
    for name, axis, heads in (("q", "hn", h), ("k", "gn", g), ("v", "gn", g)):
        yield matrix(f"{name}_proj.weight", f"{axis} d", heads * n, d)
        if cfg.attention_bias:
            yield vector(f"{name}_proj.bias", axis, heads * n)
    yield matrix("o_proj.weight", "d hn", d, h * n)
    if cfg.use_qk_norm:
        yield vector("q_norm.weight", "n", n)
        yield vector("k_norm.weight", "n", n)


def csa(cfg: ModelConfig, layer: int) -> Iterator[Weight]:
    """V4's attention: one key/value head, compressed entries beside a sliding window.

    Where an indexer picks among entries, neighbouring blocks overlap and the compressor is twice as
    wide.
    """
    d, h, n, groups = cfg.hidden_size, cfg.num_attention_heads, cfg.head_dim, cfg.o_groups
    ratio, rank = compress_ratio(cfg, layer), cfg.o_lora_rank
    yield vector("sinks", "h", h)
    yield from queries(cfg, "hn", h * n, norm="q_a_norm")
    yield matrix("kv_proj.weight", "n d", n, d)
    yield vector("kv_norm.weight", "n", n)
    yield matrix("o_a_proj.weight", "", groups * rank, h * n // groups)  # block-diagonal
    yield matrix("o_b_proj.weight", "", d, groups * rank)
    if ratio >= HEAVY:
        yield from under("compressor", compressor(ratio, n, d))
    elif ratio:
        width, heads = cfg.index_head_dim, cfg.index_n_heads
        yield from under("compressor", compressor(ratio, 2 * n, d))
        yield from under("compressor.indexer", compressor(ratio, 2 * width, d))
        yield matrix("compressor.indexer.q_b_proj.weight", "", heads * width, cfg.q_lora_rank)
        yield matrix("compressor.indexer.scorer.weights_proj.weight", "", heads, d)


def compress_ratio(cfg: ModelConfig, layer: int) -> int:
    """Tokens per compressed entry of a V4 layer; its MTP module sees the window only."""
    return cfg.compress_ratios[layer] if layer < len(cfg.compress_ratios) else 0


def compressor(ratio: int, width: int, d: int) -> Iterator[Weight]:
    """Values and gates of the entries, and a bias by place in the block."""
    yield vector("position_bias", "", ratio, width)
    yield matrix("kv_proj.weight", "", width, d)
    yield matrix("gate_proj.weight", "", width, d)
    yield vector("kv_norm.weight", "", width if ratio >= HEAVY else width // 2)


def stream_mixer(cfg: ModelConfig) -> Iterator[Weight]:
    """V4's hyper-connections: how the residual streams are read, written and mixed."""
    outputs = (2 + cfg.hc_mult) * cfg.hc_mult
    yield matrix("fn", "", outputs, cfg.hc_mult * cfg.hidden_size)
    yield vector("base", "", outputs)
    yield vector("scale", "", 3)


def stream_reader(cfg: ModelConfig) -> Iterator[Weight]:
    """How the streams become one in front of the output head."""
    yield matrix("hc_fn", "", cfg.hc_mult, cfg.hc_mult * cfg.hidden_size)
    yield vector("hc_base", "", cfg.hc_mult)
    yield vector("hc_scale", "", 1)


def moe(cfg: ModelConfig, layer: int) -> Iterator[Weight]:
    """Router, routed experts (stacked, as in memory) and shared experts."""
    d, f, e = cfg.hidden_size, cfg.moe_intermediate_size, cfg.n_routed_experts
    yield matrix("gate.weight", "e d", e, d)
    if cfg.topk_method == "noaux_tc" and layer >= cfg.num_hash_layers:
        yield idle("gate.e_score_correction_bias", "e", e)
    k = cfg.num_experts_per_tok
    yield Weight("experts.gate_up_proj", "e 2f d", (e, 2 * f, d), k * 2 * f * d, True)
    yield Weight("experts.down_proj", "e d f", (e, d, f), k * d * f, True)
    if cfg.n_shared_experts:
        yield from under("shared_experts", swiglu(d, f * cfg.n_shared_experts))


def swiglu(d: int, f: int) -> Iterator[Weight]:
    """Gate, up and down."""
    yield matrix("gate_proj.weight", "f d", f, d)
    yield matrix("up_proj.weight", "f d", f, d)
    yield matrix("down_proj.weight", "d f", d, f)


def matrix(name: str, axes: str, *shape: int) -> Weight:
    """A weight that multiplies every token."""
    return Weight(name, axes, shape, math.prod(shape), True)


def vector(name: str, axes: str, *shape: int) -> Weight:
    """A weight that is added or multiplied number by number."""
    return Weight(name, axes, shape, math.prod(shape), False)


def idle(name: str, axes: str, *shape: int) -> Weight:
    """A weight that the published active counts leave out."""
    return Weight(name, axes, shape, 0, False)


def under(name: str, weights: Iterable[Weight]) -> Iterator[Weight]:
    """The weights of a module inside the module that holds it."""
    return (weight._replace(name=f"{name}.{weight.name}") for weight in weights)
