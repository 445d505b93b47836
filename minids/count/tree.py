"""The modules of a model with their parameters, FLOPs and bytes: a table of contents that adds up.

Equal layers are folded into one line with a number of copies, so 61 layers of DeepSeek-V3 become
two kinds. Every number belongs to one copy: a module is the sum of `times` × its parts.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from minids.config import ModelConfig
from minids.count import flops, memory
from minids.count.params import Weight, count, main_weights, mtp_weights


class Node(NamedTuple):
    """A module or a weight."""

    name: str
    axes: str  # of a weight, in letters; of experts how many a token uses; else ""
    shape: tuple[int, ...]  # of a weight; () for a module
    params: int
    active: int
    flops: float  # forward, per token, in a causal pass
    times: int = 1  # equal copies this line stands for
    children: tuple["Node", ...] = ()


def tree(cfg: ModelConfig, s: int = flops.CONTEXT) -> Node:
    """The main model; FLOPs are those of an average token in a causal pass over s tokens."""
    nested = nest(main_weights(cfg))
    blocks = [nested["layers"][str(i)] for i in range(cfg.num_hidden_layers)]
    for i, block in enumerate(blocks):
        add_scores(block, flops.causal_mean(cfg, s, i))
    folded = fold([node_of("", block) for block in blocks], "layer", "layers")
    parts = [(folded if name == "layers" else [node_of(name, nested[name])]) for name in nested]
    return module(cfg.architecture, [node for part in parts for node in part])


def mtp_tree(cfg: ModelConfig, s: int = flops.CONTEXT) -> Node | None:
    """The MTP modules, without the embedding and head they share."""
    depth = cfg.num_nextn_predict_layers
    if not depth:
        return None
    modules = list(nest(mtp_weights(cfg))["mtp"].values())
    for block in modules:
        add_scores(block, flops.causal_mean(cfg, s, cfg.num_hidden_layers))
    return module("mtp", fold([node_of("", block) for block in modules], "mtp", "mtp"))


def nest(weights: Iterable[Weight]) -> dict[str, Any]:
    """Dotted names as dicts within dicts, a Node for each weight."""
    nested: dict[str, Any] = {}
    for weight in weights:
        *path, last = weight.name.split(".")
        place = nested
        for name in path:
            place = place.setdefault(name, {})
        done = 2 * weight.active if weight.is_matrix else 0
        place[last] = Node(last, weight.axes, weight.shape, weight.count, weight.active, done)
    return nested


def add_scores(block: dict[str, Any], done: float) -> None:
    """What attention computes beside its weights, as a line of its own."""
    block["self_attn"]["scores, values"] = Node("scores, values", "", (), 0, 0, done)


def node_of(name: str, inside: Any) -> Node:
    """A weight as it is, a dict as a module; a module of one weight is that weight."""
    if isinstance(inside, Node):
        return inside._replace(name=name)
    if list(inside) == ["weight"]:
        return inside["weight"]._replace(name=name)
    return module(name, [node_of(child, part) for child, part in inside.items()])


def module(name: str, parts: list[Node]) -> Node:
    """The sum of its parts."""
    params = sum(part.times * part.params for part in parts)
    active = sum(part.times * part.active for part in parts)
    done = sum(part.times * part.flops for part in parts)
    axes = ""
    if name == "experts":
        e = parts[0].shape[0]
        axes = f"{e * active // params} of {e}"
    return Node(name, axes, (), params, active, done, 1, tuple(parts))


def fold(layers: list[Node], one: str, several: str) -> list[Node]:
    """Equal layers as one node with a number of copies, in the order of their first."""
    kinds: dict[Node, list[int]] = {}
    for i, layer in enumerate(layers):
        kinds.setdefault(layer, []).append(i)
    return [
        kind._replace(name=f"{several if which[1:] else one} {span(which)}", times=len(which))
        for kind, which in kinds.items()
    ]


def span(numbers: list[int]) -> str:
    """[3, 4, 5, 6] → "3…6"; [2, 4, 6] → "2, 4 … 6"."""
    if len(numbers) == 1:
        return str(numbers[0])
    step = numbers[1] - numbers[0]
    if numbers != list(range(numbers[0], numbers[-1] + 1, step)) or len(numbers) == 2:
        return ", ".join(map(str, numbers))
    return (
        f"{numbers[0]}…{numbers[-1]}"
        if step == 1
        else f"{numbers[0]}, {numbers[1]} … {numbers[-1]}"
    )


def letters(cfg: ModelConfig) -> dict[str, int]:
    """What the letters of the shapes stand for in this model."""
    found = {"d": cfg.hidden_size, "h": cfg.num_attention_heads, "V": cfg.vocab_size}
    if cfg.attention == "mla":
        found |= {"n": cfg.qk_nope_head_dim, "r": cfg.qk_rope_head_dim, "v": cfg.v_head_dim}
        found |= {"c": cfg.kv_lora_rank}
    else:
        found |= {"g": cfg.num_key_value_heads, "n": cfg.head_dim}
    if cfg.q_lora_rank and cfg.attention != "gqa":
        found |= {"q": cfg.q_lora_rank}
    return found | ({"e": cfg.n_routed_experts} if cfg.n_routed_experts else {})


def summary(cfg: ModelConfig, s: int = flops.CONTEXT, dtype: str = "bfloat16") -> dict[str, Any]:
    """The totals by name, as `minids inspect --json` prints them; FLOPs and bytes as numbers."""
    params = count(cfg)
    return {
        "architecture": cfg.architecture,
        "params": params.main,
        "active_params": params.active,
        "embedding_params": params.embedding,
        "mtp_params": params.mtp,
        "context": s,
        "flops_per_token": flops.forward(cfg, s),
        "training_flops_per_token": flops.training(cfg, s),
        "decode_flops_per_token": flops.decode(cfg, s),
        "dtype": dtype,
        "weight_bytes": memory.weights(cfg, dtype),
        "training_bytes": memory.training(cfg).total,
        "kv_elements_per_token": whole(memory.kv_elements_per_token(cfg)),
        "kv_bytes_per_token": whole(memory.kv_bytes_per_token(cfg, dtype)),
        "kv_bytes_per_token_fp8": whole(memory.kv_bytes_per_token(cfg, "fp8")),
        "kv_window_bytes": memory.window_bytes(cfg, dtype),
    }


def whole(number: float) -> float:
    """An int where nothing is lost."""
    return int(number) if number == int(number) else number
