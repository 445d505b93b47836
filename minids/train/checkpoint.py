"""Checkpoints that survive anything: a folder that is whole, or does not exist.

    step-00000100/ model.safetensors  optim.safetensors  state.json  manifest.json

Written beside its place, every file forced to disk, the manifest (size and sha256 of all others)
last, then renamed in one step. Several ranks may write a file each instead of the first two
(`parts`). Loading believes nothing that the manifest does not confirm and falls back to the newest
folder that is whole. No pickle is ever read: it can run code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minids.errors import UserError
from minids.train import parts
from minids.train.comm import Solo
from minids.train.disk import Disk, alive, flush, publish, sha256

FORMAT = "minids-checkpoint"
VERSION = 2  # 2: in parts; whole ones are still 1
FILES = ("model.safetensors", "optim.safetensors", "state.json")
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")


class Checkpoint(NamedTuple):
    """A loaded checkpoint."""

    folder: Path
    step: int
    model: dict[str, Tensor]
    optim: dict[str, Tensor]
    state: dict[str, Any]
    manifest: dict[str, Any]


def no_fault(stage: str, step: int) -> None:
    """What happens at each stage of an ordinary save: nothing."""


def save(
    parent: Path,
    step: int,
    *,
    model: dict[str, Tensor],
    optim: dict[str, Tensor],
    state: dict[str, Any],
    about: dict[str, Any],
    keep: int = 0,
    at_stage: Callable[[str, int], None] = no_fault,
) -> Path:
    """Write `parent/step-…` whole or not at all, then delete all but the newest `keep`.

    `about` goes into the manifest (config hash, data fingerprint, versions). Raises UserError with
    code 1 if the disk is full or fails; what was there before stays as it was.
    """
    draft = draft_of(parent, step, os.getpid())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        at_stage("before-files", step)
        save_file(apart(model), draft / FILES[0])
        save_file(apart(optim), draft / FILES[1])
        files = {name: note_of(draft / name) for name in FILES[:2]}
        final = seal(draft, step, files, state=state, about=about, at_stage=at_stage)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise disk_error(error, parent, size_of(model) + size_of(optim)) from error
    at_stage("after-rename", step)
    if keep:
        prune(parent, keep)
    return final


def save_parts(
    parent: Path,
    step: int,
    comm: Solo,
    *,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    about: dict[str, Any],
    keep: int = 0,
    at_stage: Callable[[str, int], None] = no_fault,
) -> Path:
    """The same by all ranks together, each writing the part of `tensors` (named model.… and
    optim.…) that it holds; `state` and `about` are rank 0's. Raises as `save` does, on all."""
    pid = torch.tensor([os.getpid() if comm.rank == 0 else 0])
    if comm.rank == 0:
        try:
            draft_of(parent, step, os.getpid()).mkdir(parents=True)
        except OSError as error:
            pid.fill_(-(error.errno or errno.EIO))
    comm.broadcast(pid)
    draft = draft_of(parent, step, int(pid))
    try:
        if pid < 0:
            raise OSError(-int(pid), os.strerror(-int(pid)))
        at_stage("before-files", step)
        files = parts.write(draft, tensors, comm)
        if comm.rank:
            at_stage("before-manifest", step)
            return draft
        final = seal(draft, step, files, state=state, about=about, at_stage=at_stage)
    except (OSError, UserError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        raise disk_error(error, parent, 0) from error
    at_stage("after-rename", step)
    if keep:
        prune(parent, keep)
    return final


def draft_of(parent: Path, step: int, pid: int) -> Path:
    """Where a save is written before it is whole."""
    return parent / f".tmp-step-{step:08d}-{pid}"


def note_of(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def seal(
    draft: Path,
    step: int,
    files: dict[str, dict[str, Any]],
    *,
    state: dict[str, Any],
    about: dict[str, Any],
    at_stage: Callable[[str, int], None],
) -> Path:
    """What makes a save whole or nothing: state, manifest, then one rename (`disk.publish`)."""
    final = draft.parent / f"step-{step:08d}"
    (draft / FILES[2]).write_text(json.dumps(state, indent=1), encoding="utf-8")
    files = files | {FILES[2]: note_of(draft / FILES[2])}
    version = 2 if parts.are_parts(files) else 1
    manifest = {"format": FORMAT, "version": version, "step": step, "files": files, **about}
    publish(Staged(step, at_stage), draft, final, json.dumps(manifest, indent=1))
    return final


class Staged(Disk):
    """The disk, with faults where they were asked for."""

    def __init__(self, step: int, at_stage: Callable[[str, int], None]) -> None:
        self.step, self.at_stage = step, at_stage

    def write(self, path: Path, text: str) -> None:
        self.at_stage("before-manifest", self.step)
        super().write(path, text)

    def rename(self, old: Path, new: Path) -> None:
        self.at_stage("before-rename", self.step)
        if new.exists():  # this step was saved before a roll-back and is written again
            discard(new)
        super().rename(old, new)


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with memory of its own: safetensors refuses tied weights as they are."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous()
        found[name] = own.clone() if own.data_ptr() in seen else own
        seen.add(own.data_ptr())
    return found


def load_latest(parent: Path, *, alone: bool = True) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and a warning for each newer one that is not.

    `alone`: see `load`. Raises UserError with code 4 when there is none.
    """
    warnings: list[str] = []
    for folder in reversed(steps(parent)):
        try:
            found = load(folder, alone=alone)
        except UserError as error:
            warnings.append(error.line())
            continue
        if warnings:
            warnings = [f"{w}; using {folder.name}" for w in warnings]
        return found, warnings
    what = warnings[0] if warnings else "no checkpoint"
    raise UserError(f"{parent}", what, "a folder of checkpoints written by minids", code=4)


def load(folder: Path, *, alone: bool = True) -> Checkpoint:
    """One checkpoint, every byte confirmed by its manifest. Raises UserError with code 4.

    One of several ranks (not `alone`) leaves tensors in parts on the disk: it needs its own only.
    """
    manifest = verify(folder)
    model, optim = {}, {}
    try:
        state = json.loads((folder / FILES[2]).read_text(encoding="utf-8"))
        if alone or not parts.are_parts(manifest["files"]):
            model, optim = (tensors_of(folder, manifest, kind) for kind in ("model", "optim"))
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder.name}", f"unreadable ({error})", "a whole checkpoint", code=4
        ) from error
    return Checkpoint(folder, manifest["step"], model, optim, state, manifest)


def tensors_of(folder: Path, manifest: dict[str, Any], kind: str) -> dict[str, Tensor]:
    """Whole tensors of a checkpoint's "model" or "optim", in whatever files they are."""
    if parts.are_parts(manifest["files"]):
        return parts.read_whole(folder, f"{kind}.")
    return load_file(folder / f"{kind}.safetensors")


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, once all files agree with it. Raises UserError with code 4."""
    refuse_pickle(folder)
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files, version, name = manifest["files"], manifest["version"], manifest["format"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder.name}", "has no manifest.json", "a finished save", code=4
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.name}", "manifest.json is not readable", "a whole checkpoint", code=4
        ) from error
    if name != FORMAT:
        raise UserError(f"{folder.name}", f"format {name!r}", FORMAT, code=4)
    if version > VERSION:
        raise UserError(
            f"{folder.name}",
            f"format version {version} is newer than this minids",
            f"up to {VERSION}",
            code=4,
        )
    if set(files) != set(FILES) and not parts.are_parts(files):
        raise UserError(f"{folder.name}", f"holds {sorted(files)}", ", ".join(FILES), code=4)
    for name, noted in files.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != noted["size"]:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise UserError(
                f"{folder.name}",
                f"{name} {found}, manifest says {noted['size']:,}",
                "untouched files",
                code=4,
            )
        if sha256(folder / name) != noted["sha256"]:
            raise UserError(
                f"{folder.name}", f"{name} was changed (sha256 differs)", "untouched files", code=4
            )
    return manifest


def refuse_pickle(path: Path) -> None:
    """A pickle may run any code when it is opened, so it is never opened."""
    if path.is_file() or path.suffix in PICKLES:
        raise UserError(
            f"{path}",
            "is a file; a pickle could run code",
            "a checkpoint folder of safetensors",
            code=4,
        )


def steps(parent: Path) -> list[Path]:
    """Checkpoint folders by step, oldest first; drafts do not count."""
    refuse_pickle(parent)
    found = [p for p in parent.glob("step-*") if p.is_dir() and p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def prune(parent: Path, keep: int) -> None:
    """Delete old checkpoints and the drafts of dead saves; the newest whole one always stays."""
    for folder in steps(parent)[:-keep]:
        discard(folder)
    for draft in parent.glob(".tmp-step-*"):
        if not alive(draft.name.rsplit("-", 1)[-1]):
            shutil.rmtree(draft, ignore_errors=True)


def discard(folder: Path) -> None:
    """Delete a checkpoint, manifest first: half deleted must not look whole."""
    (folder / "manifest.json").unlink(missing_ok=True)
    flush(folder)
    shutil.rmtree(folder, ignore_errors=True)


def weights_sha256(model: dict[str, Tensor]) -> str:
    """Of names, dtypes, shapes and bytes in name order: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def size_of(tensors: dict[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


def disk_error(error: Exception, parent: Path, needed: int) -> UserError:
    """An I/O failure in a user's words."""
    number = getattr(error, "errno", None)
    full = number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) or "No space" in str(error)
    if full:
        free = shutil.disk_usage(parent).free
        return UserError(
            f"checkpoint {parent}", f"no space left (needs {needed:,} bytes, free {free:,})", code=1
        )
    return UserError(f"checkpoint {parent}", f"could not be written ({error})", code=1)
