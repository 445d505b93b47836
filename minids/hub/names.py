"""One weight, four spellings: ours, `transformers` in memory, on disk, and DeepSeek's own.

    ours        layers.3.mlp.experts.gate_up_proj            [e 2f d], gate rows first
    in memory   model.layers.3.mlp.experts.gate_up_proj      the same tensor
    on disk     model.layers.3.mlp.experts.7.gate_proj.weight, …up_proj.weight   [f d] each
    native      layers.3.ffn.experts.7.w1.weight, …w3.weight

MTP modules follow the last layer: our mtp.0 is model.layers.61 of DeepSeek-V3.
Axes: e experts, f width of one, d hidden_size.
"""

import re
from typing import NamedTuple

NATIVE = {
    "embed_tokens": "embed",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn": "attn",
    "mlp": "ffn",
    "q_proj": "wq",
    "q_a_proj": "wq_a",
    "q_a_layernorm": "q_norm",
    "q_b_proj": "wq_b",
    "kv_a_proj_with_mqa": "wkv_a",
    "kv_a_layernorm": "kv_norm",
    "kv_b_proj": "wkv_b",
    "o_proj": "wo",
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
    "lm_head": "head",
    "weight_scale_inv": "scale",
}
FROM_NATIVE = {native: hf for hf, native in NATIVE.items()}
STACKED = re.compile(r"(.*\.mlp\.experts)\.(gate_up_proj|down_proj)")


class Part(NamedTuple):
    """A tensor on disk and the place in our weight that it fills."""

    name: str
    where: tuple[int | slice, ...]  # index into our weight
    shape: tuple[int, ...]


def parts(name: str, shape: tuple[int, ...], n_layers: int) -> list[Part]:
    """The tensors on disk that make up one of our weights, in order."""
    stacked = STACKED.fullmatch(name)
    if stacked is None:
        return [Part(in_memory(name, n_layers), (), shape)]
    experts, kind = in_memory(stacked[1], n_layers), stacked[2]
    n_experts, rows, columns = shape
    if kind == "down_proj":
        return [
            Part(f"{experts}.{e}.down_proj.weight", (e,), (rows, columns)) for e in range(n_experts)
        ]
    half = rows // 2
    halves = {"gate_proj": slice(0, half), "up_proj": slice(half, rows)}
    return [
        Part(f"{experts}.{e}.{part}.weight", (e, rows_of), (half, columns))
        for e in range(n_experts)
        for part, rows_of in halves.items()
    ]


def in_memory(name: str, n_layers: int) -> str:
    """Ours → the name in a `transformers` state dict; MTP modules become further layers."""
    module, _, rest = name.partition(".")
    if module == "lm_head":
        return name
    if module == "mtp":
        depth, _, rest = rest.partition(".")
        return f"model.layers.{n_layers + int(depth)}.{rest}"
    return f"model.{name}"


def from_memory(name: str, n_layers: int) -> str:
    """The name in a `transformers` state dict → ours."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    if found and int(found[1]) >= n_layers:
        return f"mtp.{int(found[1]) - n_layers}.{found[2]}"
    return name.removeprefix("model.")


def to_native(name: str) -> str:
    """On disk → DeepSeek's own inference code (its convert.py)."""
    native = ".".join(NATIVE.get(word, word) for word in name.removeprefix("model.").split("."))
    return native.replace("gate.e_score_correction_bias", "gate.bias")


def from_native(name: str) -> str:
    """DeepSeek's own inference code → on disk."""
    hf = ".".join(FROM_NATIVE.get(word, word) for word in name.split("."))
    hf = hf.replace("mlp.gate.bias", "mlp.gate.e_score_correction_bias")
    return hf if hf.startswith("lm_head.") else f"model.{hf}"
