"""What a forward pass keeps for its backward pass, part by part, from the config alone.

Autograd keeps every tensor that a gradient will need: inputs of matrix products and norms, both
factors of a product, the attention weights. Most are as wide as the token's stream, so their sum
grows with layers · tokens · width; attention written as two products (short contexts on a CPU)
keeps h · s numbers more per token. Recomputing a block keeps its input alone, at a third more
arithmetic.
Axes: s tokens of a sequence, d hidden_size, h heads, n nope, r rope, v value channels,
c kv_lora_rank, q q_lora_rank, g key/value heads, f width of a feed-forward, e experts, k experts
per token, V vocabulary.
"""

from minids.config import ModelConfig
from minids.count.memory import size_of
from minids.count.params import main_weights, mtp_weights

SHORT = 512  # tokens up to which attention on a CPU keeps its weights (nn.attention)
NEAR = 1 << 20  # logits of one block of the loss (nn.loss)
SHORTEST = 512  # tokens of one block


def kept(
    cfg: ModelConfig, b: int, s: int, dtype: str, *, recompute: bool = False, fused: bool = False
) -> float:
    """Bytes kept for b sequences of s tokens, copies of the weights in `dtype` included.

    `fused`: attention by a kernel that keeps no weights, as on a GPU or beyond 512 tokens.
    """
    tokens, depth = b * s, cfg.num_nextn_predict_layers
    layers = range(cfg.num_hidden_layers + depth)
    per_token = sum(
        cfg.hidden_size * size_of(dtype) if recompute else block(cfg, i, s, dtype, fused)
        for i in layers
    )
    if recompute:
        per_token += max(block(cfg, i, s, dtype, fused) for i in layers)
    per_token += ends(cfg, dtype) * (1 + depth) + depth * 5 * cfg.hidden_size * size_of(dtype)
    table = (1 + depth) * 4 * cfg.vocab_size * cfg.hidden_size  # the head's gradient, each depth
    if tokens * cfg.vocab_size <= NEAR:
        table = (1 + depth) * 4 * tokens * cfg.vocab_size
    return tokens * per_token + table + casts(cfg, dtype, recompute=recompute)


def block(cfg: ModelConfig, layer: int, s: int, dtype: str, fused: bool) -> float:
    """Bytes per token of one block."""
    z, d = size_of(dtype), cfg.hidden_size
    return z * (4 * d + attention(cfg, s, fused)) + feed_forward(cfg, layer, dtype)


def attention(cfg: ModelConfig, s: int, fused: bool) -> float:
    """Numbers per token between the two norms of a block, in the compute dtype."""
    h = cfg.num_attention_heads
    scores = h * s if s <= SHORT and not fused else h * 4  # else float32 sums and their padding
    if cfg.attention == "gqa":
        n, g = cfg.head_dim, cfg.num_key_value_heads
        normed = (h + g) * n if cfg.use_qk_norm else 0
        return 4 * h * n + scores + normed
    n, r, v = cfg.qk_nope_head_dim, cfg.qk_rope_head_dim, cfg.v_head_dim
    c, q = cfg.kv_lora_rank, cfg.q_lora_rank
    normed = h * (n + r) if cfg.use_qk_norm else 0
    latents = (c + r) + c + 2 * q  # the query latent before and behind its norm
    return 2 * h * (n + r) + 2 * h * v + scores + normed + latents


def feed_forward(cfg: ModelConfig, layer: int, dtype: str) -> float:
    """Bytes per token behind the second norm.

    A SwiGLU keeps gate, up, SiLU(gate) and their product: 4 f. An expert keeps the product before
    and behind its weight too: d + 5 f for each of k visits.
    """
    z, d = size_of(dtype), cfg.hidden_size
    if not cfg.is_moe_layer(layer):
        return z * 4 * cfg.intermediate_size
    f, k, e = cfg.moe_intermediate_size, cfg.num_experts_per_tok, cfg.n_routed_experts
    visits = k * (d + 5 * f) + 4 * f * cfg.n_shared_experts
    routing = 3 * 4 * e + 5 * 8 * k + (4 * d if dtype != "float32" else 0)
    return z * visits + routing


def ends(cfg: ModelConfig, dtype: str) -> float:
    """Bytes per token of the final norm and of the loss, once per depth."""
    return size_of(dtype) * 3 * cfg.hidden_size


def casts(cfg: ModelConfig, dtype: str, *, recompute: bool = False) -> float:
    """Copies of the weights in the compute dtype, kept until the backward pass has used them; of
    one block at a time if it is computed again."""
    if dtype == "float32":
        return 0.0
    tables = ("embed_tokens.weight", "lm_head.weight")
    blocks: dict[str, int] = {}
    for w in [*main_weights(cfg), *mtp_weights(cfg)]:
        if w.is_matrix and w.name not in tables and ".gate." not in w.name:
            name = ".".join(w.name.split(".")[:2])
            blocks[name] = blocks.get(name, 0) + w.count
    used = max(blocks.values(), default=0) if recompute else sum(blocks.values())
    return used * size_of(dtype)
