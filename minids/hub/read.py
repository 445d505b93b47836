"""A Hugging Face folder as weights of ours: exported by us, saved by transformers, or released.

Everything is checked by the headers of the files first (names, shapes, both in one line if they
disagree); only then is memory taken and filled, tensor by tensor. A pickle is never opened.
FP8 weights are multiplied by the scale of their block: the scale's name says "inv", the rule is
multiplication all the same.
Axes: o rows, i columns of a matrix, j and k blocks of them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import repeat
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minids.config import ModelConfig
from minids.count.params import main_weights, mtp_weights
from minids.errors import UserError
from minids.hub import families
from minids.hub.config import CONFIG, from_hf, read_json
from minids.hub.names import Part, parts

INDEX = "model.safetensors.index.json"
MTP_FILE = "mtp.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
SCALE = "_scale_inv"
BLOCK = [128, 128]  # unless the config says otherwise


class Found(NamedTuple):
    """A model read from a folder."""

    cfg: ModelConfig
    state: dict[str, Tensor]  # float32, complete: fits `Transformer(cfg)` strictly
    notes: list[str]  # what differs from what the folder promises


class Header(NamedTuple):
    """Where a tensor lies, and its shape, before it is read."""

    file: Path
    shape: tuple[int, ...]


def read(folder: Path) -> Found:
    """The model in a folder. Raises UserError with code 4, naming the tensor and both shapes."""
    raw = read_json(folder / CONFIG)
    cfg = from_hf(raw)
    if families.named(str(raw["model_type"])).counted_only:
        what = f"{raw['model_type']} is counted, its weights are not read"
        raise UserError(f"{folder}", what, "deepseek_v3, deepseek_v2, llama, …", code=4)
    block = scale_block(raw)
    headers = read_headers(shard_files(folder))
    cfg, notes = without_absent_mtp(cfg, headers)
    targets = expected(cfg)
    check(headers, targets, cfg)
    check_memory(cfg)
    state = fill(cfg, headers, targets, block)
    if cfg.tie_word_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    return Found(cfg, state, notes)


def shard_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, MTP's own included; the index decides if there is one."""
    listed = sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        named = (
            sorted({str(v) for v in weight_map.values()}) if isinstance(weight_map, dict) else []
        )
        strange = [name for name in named if Path(name).name != name]
        if strange or not named:
            what = f"points to {strange[0]!r}" if strange else "has no weight_map"
            raise UserError(INDEX, what, "names of files beside it", code=4)
        extra = [path for path in listed if path.name == MTP_FILE and path.name not in named]
        listed = [folder / name for name in named] + extra
    if not listed:
        pickles = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
        what = f"holds {pickles[0]}; a pickle could run code" if pickles else "holds no weights"
        raise UserError(f"{folder}", what, "safetensors", code=4)
    return listed


def read_headers(files: Iterable[Path]) -> dict[str, Header]:
    """Every tensor's place and shape; no data is read."""
    found = {}
    for file in files:
        if not file.is_file():
            raise UserError(file.name, "is named by the index and missing", "all shards", code=4)
        with opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118  this is no dict
                found[name] = Header(file, tuple(tensors.get_slice(name).get_shape()))
    return found


def opened(file: Path) -> Any:
    """A safetensors file, its header verified. Raises UserError with code 4."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(
            file.name, f"is damaged ({error})", "a whole safetensors file", code=4
        ) from error


def without_absent_mtp(
    cfg: ModelConfig, headers: dict[str, Header]
) -> tuple[ModelConfig, list[str]]:
    """The config without MTP if its weights were left out, as `transformers` does when it saves."""
    depth, first = cfg.num_nextn_predict_layers, f"model.layers.{cfg.num_hidden_layers}."
    if not depth or any(name.startswith(first) for name in headers):
        return cfg, []
    note = f"{CONFIG} promises {depth} MTP module(s), the files hold none"
    return dataclasses.replace(cfg, num_nextn_predict_layers=0), [note]


def expected(cfg: ModelConfig) -> dict[str, tuple[str, Part]]:
    """Every tensor that must be there, and the weight of ours it fills."""
    return {
        part.name: (weight.name, part)
        for weight in [*main_weights(cfg), *mtp_weights(cfg)]
        for part in parts(weight.name, weight.shape, cfg.num_hidden_layers)
    }


def check(
    headers: dict[str, Header], targets: dict[str, tuple[str, Part]], cfg: ModelConfig
) -> None:
    """All there, nothing else, every shape right; or one line that names the first that is not."""
    missing = [name for name in targets if name not in headers]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        shape = shown(targets[missing[0]][1].shape)
        raise UserError(missing[0], f"is missing{more}", f"a tensor of shape {shape}", code=4)
    for name, header in headers.items():
        if name not in targets:
            if not may_be_left(name, header, cfg):
                what = f"of shape {shown(header.shape)} belongs to no weight of this model"
                raise UserError(name, what, f"the tensors that {CONFIG} describes", code=4)
            continue
        wanted = targets[name][1].shape
        if header.shape != wanted:
            raise UserError(name, f"has shape {shown(header.shape)}", shown(wanted), code=4)


def may_be_left(name: str, header: Header, cfg: ModelConfig) -> bool:
    """Tensors that hold nothing of their own.

    Scales are read with their weights. Copies of embedding and head stand beside MTP modules and
    tied embeddings. Old files carry RoPE tables. MTP modules may be left out.
    """
    is_copy = name.endswith(("embed_tokens.weight", "shared_head.head.weight"))
    is_head = name == "lm_head.weight" and cfg.tie_word_embeddings
    layer = name.removeprefix("model.layers.").partition(".")[0]
    past = layer.isdigit() and int(layer) >= cfg.num_hidden_layers + cfg.num_nextn_predict_layers
    known = name.endswith((SCALE, "rotary_emb.inv_freq"))
    return known or is_copy or is_head or past or 0 in header.shape


def fill(
    cfg: ModelConfig,
    headers: dict[str, Header],
    targets: dict[str, tuple[str, Part]],
    block: list[int],
) -> dict[str, Tensor]:
    """Read every tensor into its place, one at a time, in float32."""
    shapes = {w.name: w.shape for w in [*main_weights(cfg), *mtp_weights(cfg)]}
    state: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = {h.file: stack.enter_context(opened(h.file)) for h in headers.values()}
        for name, (ours, part) in targets.items():
            if ours not in state:
                state[ours] = torch.empty(shapes[ours], dtype=torch.float32)
            try:
                tensor = files[headers[name].file].get_tensor(name)
                scale = None
                if name + SCALE in headers:
                    scale = files[headers[name + SCALE].file].get_tensor(name + SCALE)
            except (SafetensorError, OSError) as error:
                raise UserError(name, f"is damaged ({error})", "a whole file", code=4) from error
            state[ours][part.where or ...] = plain(name, tensor, scale, block)
    return state


def plain(name: str, tensor: Tensor, scale: Tensor | None, block: list[int]) -> Tensor:
    """A stored tensor in float32, its FP8 blocks scaled."""
    if not tensor.is_floating_point():
        raise UserError(name, f"is of {tensor.dtype}", "float32, bfloat16, float16, FP8", code=4)
    if scale is not None:
        return dequantize(name, tensor, scale, block)
    if tensor.dtype == torch.float8_e4m3fn:
        raise UserError(name, "is FP8 without its scales", f"{name}{SCALE} beside it", code=4)
    return tensor.float()


def dequantize(name: str, code: Tensor, scale: Tensor, block: list[int]) -> Tensor:
    """Each block times its scale; blocks at the edges are cut.  code [o i], scale [j k] → [o i]"""
    (o, i), (rows, columns) = code.shape, block
    wanted = (-(-o // rows), -(-i // columns))
    if tuple(scale.shape) != wanted:
        raise UserError(name + SCALE, f"has shape {shown(scale.shape)}", shown(wanted), code=4)
    wide = repeat(scale.float(), "j k -> (j rows) (k columns)", rows=rows, columns=columns)
    return code.float() * wide[:o, :i]


def scale_block(raw: dict[str, Any]) -> list[int]:
    """Rows and columns that share a scale. Other quantizations are refused."""
    found = raw.get("quantization_config")
    if not isinstance(found, dict):
        return BLOCK
    if found.get("quant_method") != "fp8":
        where = f"{CONFIG}: quantization_config"
        raise UserError(where, f"{found.get('quant_method')!r} is not read", "fp8", code=4)
    block = found.get("weight_block_size") or BLOCK
    if not (
        isinstance(block, list)
        and len(block) == 2
        and all(isinstance(b, int) and b > 0 for b in block)
    ):
        raise UserError(f"{CONFIG}: weight_block_size", f"{block!r}", "two whole numbers", code=4)
    return block


def check_memory(cfg: ModelConfig) -> None:
    """Refuse what this machine cannot hold, before it starts to swap. (code 1)"""
    needed = 4 * sum(w.count for w in [*main_weights(cfg), *mtp_weights(cfg)])
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return  # a system that does not tell
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > physical:
        what = f"needs {needed / 1e9:,.1f} GB in float32, this machine has {physical / 1e9:,.1f} GB"
        raise UserError("memory", what, "a smaller model", code=1)


def shown(shape: Iterable[int]) -> str:
    """(1536, 7168) → [1536 7168]"""
    return "[" + " ".join(map(str, shape)) + "]"
