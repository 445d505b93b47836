"""A model as a Hugging Face folder that stock `transformers` loads without a missing or extra key.

    config.json  generation_config.json  model-00001-of-00001.safetensors …
    model.safetensors.index.json  tokenizer files  mtp.safetensors

Experts are one tensor each, as released. MTP modules have a file of their own that the index does
not name: `transformers` knows to ignore them in a model of 61 layers only. The folder is written
beside its place and renamed when it is whole, so that it is never seen half done.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from minids.config import ModelConfig
from minids.count.params import Weight, main_weights, mtp_weights
from minids.errors import UserError
from minids.hub import families
from minids.hub.config import to_hf
from minids.hub.families import Family
from minids.hub.names import in_memory, parts
from minids.hub.read import INDEX, MTP_FILE, shown
from minids.hub.rotary import in_layout
from minids.hub.tokens import TOKENIZER_FILES, special_ids

SHARD_BYTES = 5_000_000_000
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KEPT_WIDE = "e_score_correction_bias"  # float32 in every release: it decides by small differences


class Exported(NamedTuple):
    """What was written."""

    folder: Path
    model_class: str  # of transformers
    files: list[str]
    n_bytes: int


def export(
    cfg: ModelConfig,
    state: dict[str, Tensor],
    to: Path,
    *,
    tokenizer: Path | None = None,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> Exported:
    """Write the folder, whole or not at all. `tokenizer` is a folder whose files are copied.

    Raises UserError: code 2 for a model no class of `transformers` computes and for a target that
    is in use, before anything is written; 4 for weights that do not fit; 1 for a full disk.
    """
    family = families.of(cfg)
    check_target(to)
    check_state(cfg, state)
    layout = family.fixed.get("rope_interleave", cfg.rope_interleave)
    state = {name: in_layout(name, tensor, cfg, layout) for name, tensor in state.items()}
    cfg = dataclasses.replace(cfg, rope_interleave=layout)
    kind = DTYPES[dtype]
    main = list(on_disk(main_weights(cfg), state, cfg, kind)) + list(hollow(cfg, family, kind))
    beside = list(on_disk(mtp_weights(cfg), state, cfg, kind)) + list(mtp_copies(cfg, state, kind))
    shards = split(main, shard_bytes)
    total = sum(tensor.nbytes for _, tensor in main)
    check_disk(to, total + sum(tensor.nbytes for _, tensor in beside))
    ids = special_ids(tokenizer) if tokenizer else dict.fromkeys(special_ids(None))
    about = to_hf(cfg, family) | ids | {"dtype": dtype}
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, tensors in shards.items() for name in tensors},
    }
    texts = {"config.json": about, INDEX: index}
    texts["generation_config.json"] = {k: v for k, v in ids.items() if v is not None}
    if beside:
        shards = shards | {MTP_FILE: dict(beside)}
    files = write_folder(to, texts, shards, tokenizer)
    return Exported(to, family.model_class, files, sum((to / f).stat().st_size for f in files))


def on_disk(
    weights: Iterable[Weight], state: dict[str, Tensor], cfg: ModelConfig, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Our weights as tensors of the release: one per expert, each with memory of its own."""
    for weight in weights:
        kind = torch.float32 if weight.name.endswith(KEPT_WIDE) else dtype
        for part in parts(weight.name, weight.shape, cfg.num_hidden_layers):
            yield part.name, state[weight.name][part.where or ...].to(kind).contiguous().cpu()


def hollow(cfg: ModelConfig, family: Family, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Shared experts of width 0, which the classes build even when a model has none."""
    if cfg.n_shared_experts or "n_shared_experts" not in family.fields.split():
        return
    for layer in filter(cfg.is_moe_layer, range(cfg.num_hidden_layers)):
        name, d = f"model.layers.{layer}.mlp.shared_experts", cfg.hidden_size
        for part, shape in (("gate", (0, d)), ("up", (0, d)), ("down", (d, 0))):
            yield f"{name}.{part}_proj.weight", torch.empty(shape, dtype=dtype)


def mtp_copies(
    cfg: ModelConfig, state: dict[str, Tensor], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Embedding and head once more beside each MTP module: so released, so expected by others."""
    head = "embed_tokens.weight" if cfg.tie_word_embeddings else "lm_head.weight"
    for u in range(cfg.num_nextn_predict_layers):
        for name, ours in (("embed_tokens", "embed_tokens.weight"), ("shared_head.head", head)):
            yield (
                in_memory(f"mtp.{u}.{name}.weight", cfg.num_hidden_layers),
                state[ours].to(dtype).clone().cpu(),
            )


def split(tensors: list[tuple[str, Tensor]], shard_bytes: int) -> dict[str, dict[str, Tensor]]:
    """Tensors by file, in order, none above `shard_bytes` unless one tensor alone is."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors:
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": s for i, s in enumerate(shards, 1)}


def write_folder(
    to: Path,
    texts: dict[str, dict[str, Any]],
    shards: dict[str, dict[str, Tensor]],
    tokenizer: Path | None,
) -> list[str]:
    """Into a sibling, every file forced to disk, then renamed. Raises UserError with code 1."""
    draft = to.parent / f".tmp-{to.name}-{os.getpid()}"
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        for file, content in texts.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (draft / file).write_text(text, encoding="utf-8")
        for file, tensors in shards.items():
            save_file(tensors, draft / file, metadata={"format": "pt"})
            shutil.copymode(draft / INDEX, draft / file)  # safetensors keeps its files private
        for file in TOKENIZER_FILES if tokenizer else ():
            if tokenizer and (tokenizer / file).is_file():
                shutil.copyfile(tokenizer / file, draft / file)
        files = sorted(path.name for path in draft.iterdir())
        for file in files:
            with (draft / file).open("rb+") as handle:
                os.fsync(handle.fileno())
        if to.exists():
            to.rmdir()  # empty, or check_target had refused it
        draft.rename(to)
    except (OSError, SafetensorError) as error:
        raise disk_error(error, to) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files


def check_target(to: Path) -> None:
    """Nothing that exists is overwritten."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError("--to", f"{to} exists and is not empty", "a new or an empty folder")


def check_state(cfg: ModelConfig, state: dict[str, Tensor]) -> None:
    """The weights are those the config describes. Raises UserError with code 4."""
    wanted = {w.name: w.shape for w in [*main_weights(cfg), *mtp_weights(cfg)]}
    for name, shape in wanted.items():
        if name not in state:
            raise UserError(name, "is missing", f"a tensor of shape {shown(shape)}", code=4)
        if tuple(state[name].shape) != shape:
            raise UserError(name, f"has shape {shown(state[name].shape)}", shown(shape), code=4)
        if not state[name].isfinite().all():
            raise UserError(name, "is not finite", "weights of a run that did not fail", code=4)


def check_disk(to: Path, needed: int, flag: str = "--to") -> None:
    """Refuse before the first byte if the disk cannot hold it. (code 1)"""
    place = next(folder for folder in (to.parent, *to.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(flag, f"needs {needed:,} bytes, {place} has {free:,} free", code=1)


def disk_error(error: Exception, to: Path) -> UserError:
    """An I/O failure in a user's words."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = (
        "the disk is full" if full or "No space" in str(error) else f"cannot be written ({error})"
    )
    return UserError(f"{to}", what, "a writable folder on a disk with room", code=1)
