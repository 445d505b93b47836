"""A run folder, opened: its config, its tokenizer and the weights of its newest whole checkpoint.

`find_run` needs no torch, so that a mistyped name is answered at once.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minids.config import RunConfig, load
from minids.errors import UserError

if TYPE_CHECKING:
    import torch

    from minids.data.tokenizer import Tokenizer
    from minids.nn.transformer import Transformer

RUNS = Path("runs")
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
ATTEMPTS = 3  # a trainer beside us may prune what we have just listed


class Run(NamedTuple):
    """What a trained model needs to be used, and where it came from."""

    folder: Path
    cfg: RunConfig
    model: Transformer
    tokenizer: Tokenizer
    step: int
    dtype: torch.dtype  # of matrix products in training; the model stands at float32
    manifest: dict
    warnings: list[str]  # newer checkpoints that could not be used


def find_run(name: str) -> Path:
    """A run folder by its path, or by its name under runs/. Raises UserError, code 2 or 4."""
    if "\0" in name or not name.strip():
        raise UserError("RUN", f"{name!r} is not a folder name", "a run folder")
    try:
        for folder in (Path(name), RUNS / name):
            if folder.is_file():
                raise foreign(folder)
            if (folder / "config.toml").is_file():
                return folder
            if folder.is_dir():
                raise UserError(
                    "RUN",
                    f"{folder} holds no config.toml",
                    "a folder that minids train wrote",
                    hint=f"minids import {folder} --out RUN reads the weights"
                    if (folder / "config.json").is_file()
                    else nearest(name),
                )
    except OSError as error:
        raise UserError("RUN", f"{name}: {error.strerror}", "a run folder") from error
    raise UserError("RUN", f"no folder {name}, none in {RUNS}/", "a run folder", hint=nearest(name))


def foreign(path: Path) -> UserError:
    """A file where a folder should be; pickles are never opened, they can run code."""
    if path.suffix in PICKLES:
        what = "may be a pickle, which could run code; it is not opened"
        return UserError(f"{path}", what, "a run folder of minids", code=4)
    return UserError("RUN", f"{path} is a file", "a run folder")


def nearest(name: str) -> str:
    """A hint: the run that was probably meant, or the newest."""
    known = [p.parent for p in RUNS.glob("*/config.toml")]
    by_name = {p.name: p for p in known}
    close = difflib.get_close_matches(Path(name).name, by_name, 1)
    if close:
        return f"did you mean {by_name[close[0]]}?"
    newest = max(known, key=lambda p: p.stat().st_mtime, default=None)
    return f"the newest run is {newest}" if newest else "minids train --tiny makes one"


def open_run(folder: Path) -> Run:
    """Load a run for use: float32, in evaluation mode, on the device its config asks for.

    Raises UserError with code 4 if no checkpoint is whole or the weights are not of this config.
    """
    import torch

    from minids.data.tokenizer import Tokenizer
    from minids.nn.transformer import Transformer
    from minids.train.probe import pick_device

    cfg = load(str(folder / "config.toml"))
    tokenizer = Tokenizer.load(folder / "tokenizer")
    if tokenizer.vocab_size > cfg.model.vocab_size:
        raise UserError(
            f"{folder}",
            f"its tokenizer has {tokenizer.vocab_size:,} tokens, not {cfg.model.vocab_size:,}",
            "a tokenizer and a model of one run",
            code=4,
        )
    weights, manifest, warnings = newest_weights(folder / "checkpoints")
    with torch.device("meta"):
        model = Transformer(cfg.model)
    fit(model.state_dict(), weights, f"{folder}")
    model.load_state_dict(weights, assign=True)
    model.requires_grad_(False).eval().to(pick_device(cfg.train.device))
    dtype = trained_in(folder, model.embed_tokens.weight.device.type)
    return Run(folder, cfg, model, tokenizer, manifest["step"], dtype, manifest, warnings)


def trained_in(folder: Path, device: str) -> torch.dtype:
    """The dtype of the run's matrix products, if it ran on this kind of device; else float32."""
    import torch

    try:
        machine = json.loads((folder / "run.json").read_text(encoding="utf-8"))["machine"]
        same = machine["device"] == device and machine["precision"] != "float32"
    except (OSError, ValueError, KeyError, TypeError):
        return torch.float32
    return torch.bfloat16 if same else torch.float32


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Every core for a while: training may have left one thread per process."""
    import torch

    from minids.train.probe import usable_cores

    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def newest_weights(parent: Path) -> tuple[dict, dict, list[str]]:
    """Weights and manifest of the newest whole checkpoint, and a warning for each newer broken one.

    The optimizer's state is checked with the rest but stays on the disk.
    """
    from minids.train import checkpoint

    warnings: list[str] = []
    for _ in range(ATTEMPTS):
        warnings = []
        for folder in reversed(checkpoint.steps(parent)):
            try:
                manifest = checkpoint.verify(folder)
                weights = checkpoint.tensors_of(folder, manifest, "model")
            except UserError as error:
                warnings.append(error.line())
            except OSError as error:
                warnings.append(f"{folder.name}: {error}")
            else:
                return weights, manifest, [f"{w}; using {folder.name}" for w in warnings]
    what = warnings[0] if warnings else "no checkpoint"
    raise UserError(f"{parent}", what, "a finished save", code=4)


def fit(expected: dict, weights: dict, where: str) -> None:
    """Names and shapes must be the config's. Raises UserError with code 4 naming the first."""
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights or name not in expected:
            has = "is missing" if name in expected else "is unknown to its config"
            raise UserError(where, f"{name} {has}", "the weights of this config", code=4)
        if weights[name].shape != expected[name].shape:
            raise UserError(
                where,
                f"{name} is {list(weights[name].shape)}, its config says "
                f"{list(expected[name].shape)}",
                "the weights of this config",
                code=4,
            )
