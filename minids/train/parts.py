"""Checkpoints that every rank writes its part of: torch.distributed.checkpoint, in safetensors.

    step-00000100/ shard-00001-model-00001-of-00001.safetensors …  state.json  manifest.json

Nobody gathers anything: a rank writes what it holds, and each file's header says where in the whole
tensors its pieces lie. So any number of ranks can read them back, each what it now holds, and one
process the whole. torch's own file format would put a pickle beside them (`.metadata`); this one,
made for Hugging Face's files, does not. Manifest, draft and rename are those of `checkpoint`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minids.errors import UserError
from minids.train.comm import Solo
from minids.train.disk import flush, sha256
from minids.train.sharded import local, part_like

NAME = "shard-{:05d}-model-00001-of-00001.safetensors"  # torch's; counted from 1
PATTERN = re.compile(r"shard-\d{5,}-model-00001-of-00001\.safetensors")


def are_parts(files: Mapping[str, Any]) -> bool:
    """Whether a manifest's files are those of a checkpoint in parts."""
    shards = set(files) - {"state.json"}
    return bool(shards) and len(shards) < len(files) and all(map(PATTERN.fullmatch, shards))


def write(draft: Path, tensors: dict[str, Tensor], comm: Solo) -> dict[str, dict[str, Any]]:
    """This rank's part into a folder that is there → size and sha256 of all ranks' files.

    Called by all ranks. Raises UserError, code 1, on all of them if one cannot write.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    mine = apart(tensors)
    try:
        dcp.save(mine, storage_writer=HuggingFaceStorageWriter(str(draft), save_distributed=True))
        note = noted(draft / NAME.format(comm.rank + 1))
    except CheckpointException as error:
        rank, what = min(error.failures.items())
        raise UserError(f"checkpoint {draft.parent}", f"rank {rank}: {what[0]}", code=1) from error
    except OSError as error:
        note = torch.full((33,), -1, dtype=torch.int64)
        note[1] = error.errno or 0
    everyone = [torch.empty_like(note) for _ in range(comm.world)]
    comm.all_gather(everyone, note)
    files = {}
    for rank, found in enumerate(everyone):
        size, *digest = found.tolist()
        if size < 0:
            what = f"rank {rank} could not write its part (error {digest[0]})"
            raise UserError(f"checkpoint {draft.parent}", what, code=1)
        if size:
            files[NAME.format(rank + 1)] = {"size": size, "sha256": bytes(digest).hex()}
    return files


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each part with memory of its own: safetensors refuses tied weights as they are."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        part = local(tensor.detach())
        at = part.untyped_storage().data_ptr()
        found[name] = part_like(tensor, part.clone()) if at in seen else tensor
        seen.add(at)
    return found


def noted(path: Path) -> Tensor:
    """Size and sha256 of a file on the disk; zeros if this rank had nothing to write.  → [33]"""
    if not path.is_file():
        return torch.zeros(33, dtype=torch.int64)
    flush(path)
    return torch.tensor([path.stat().st_size, *bytes.fromhex(sha256(path))])


def listed(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Name, shape and dtype of every whole tensor in a folder of parts."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: (m.size, m.properties.dtype) for name, m in found.items()}  # type: ignore[union-attr]


def read_into(folder: Path, tensors: dict[str, Tensor], *, alone: bool) -> None:
    """Fill tensors in place, each with what of it is held here; not `alone`: all ranks call.

    Raises UserError with code 4 if a piece is missing or cannot be read.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one process reads alone is meant
        reader = HuggingFaceStorageReader(str(folder))
        try:
            dcp.load(tensors, storage_reader=reader, no_dist=alone)
        except CheckpointException as error:
            rank, what = min(error.failures.items())
            raise UserError(folder.name, f"rank {rank}: {what[0]}", code=4) from error


def read_whole(folder: Path, prefix: str) -> dict[str, Tensor]:
    """All tensors under `prefix`, whole, without it."""
    names = {n: about for n, about in listed(folder).items() if n.startswith(prefix)}
    found = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in names.items()}
    read_into(folder, found, alone=True)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}
