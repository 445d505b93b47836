"""nanoGPT's recipe for a CPU, run as its README gives it, in a temporary copy of a checkout.

Its time is that of its training alone: iterations by its own log, and one that contains an
evaluation counts as much as the median iteration. Its loss is taken from its last checkpoint over
the whole validation split, not from its random sample of it.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from minids.bench.harness import answer
from minids.bench.split import HELD_OUT, split_loss
from minids.data.split import cut_by_position
from minids.data.text import plain
from minids.errors import UserError

CONFIG = "config/train_shakespeare_char.py"
DATASET = "data/shakespeare_char"
NEEDED = ("train.py", "model.py", CONFIG)
CONTEXT = 64
RECIPE = (
    "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --dropout=0.0 "
    f"--block_size={CONTEXT} --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128"
)
ITERATION = re.compile(r"^iter (\d+): loss [\d.naif]+, time ([\d.]+)ms")
EVALUATION = re.compile(r"^step (\d+): train loss ([\d.naif]+), val loss ([\d.naif]+)")


class Log(NamedTuple):
    """What its output says."""

    seconds: list[float]  # of training behind each iteration, evaluations taken out
    curve: list[tuple[int, float, float]]  # iteration, seconds of training before it, its estimate


def check(checkout: Path) -> None:
    """Raises UserError unless this is a checkout of nanoGPT."""
    missing = [name for name in NEEDED if not (checkout / name).is_file()]
    if missing:
        what = (
            f"{checkout} has no {missing[0]}" if checkout.is_dir() else f"{checkout} is no folder"
        )
        raise UserError("--against", what, "the path of a nanoGPT checkout")


def prepare(folder: Path, text: str) -> tuple[list[int], int]:
    """Its data files from a text, the first 90 % to train on → the other 10 %, vocabulary size."""
    characters = sorted(set(text))
    number = {c: i for i, c in enumerate(characters)}
    train, val = ([number[c] for c in part] for part in cut_by_position(text, HELD_OUT))
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in (("train", train), ("val", val)):
        np.array(ids, dtype=np.uint16).tofile(folder / f"{name}.bin")
    meta = {"vocab_size": len(characters), "stoi": number, "itos": dict(enumerate(characters))}
    with (folder / "meta.pkl").open("wb") as file:
        pickle.dump(meta, file)
    return val, len(characters)


def read_log(text: str) -> Log:
    """Times and losses out of its printed lines."""
    times: list[float] = []
    evaluated: dict[int, float] = {}
    for line in text.splitlines():
        if found := ITERATION.match(line):
            times.append(float(found[2]) / 1e3)
        elif found := EVALUATION.match(line):
            evaluated[int(found[1])] = float(found[3])
    if not times:
        raise UserError("nanoGPT", "printed no iteration", code=1)
    median = statistics.median(times)
    alone = [median if i in evaluated else t for i, t in enumerate(times)]
    seconds = list(accumulate(alone))
    return Log(seconds, [(i, sum(alone[:i]), loss) for i, loss in evaluated.items()])


def work(order: dict[str, Any]) -> dict[str, Any]:
    """The recipe from its data to its loss."""
    text = plain(Path(order["data"]))
    n = order["iterations"]
    with tempfile.TemporaryDirectory(prefix="minids-nanogpt-") as place:
        copy = Path(place) / "nanoGPT"
        ignore = shutil.ignore_patterns(".git", "out*", "*.bin")
        shutil.copytree(order["peer"], copy, ignore=ignore)
        val, _ = prepare(copy / DATASET, text)
        flags = [*RECIPE.split(), f"--max_iters={n}", f"--lr_decay_iters={n}"]
        if n < 250:
            flags += [f"--eval_interval={n}", f"--warmup_iters={n // 10}"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "train.py", CONFIG, *flags],
            cwd=copy,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - start
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no message"]
            raise UserError("nanoGPT", f"exit code {done.returncode}: {said[-1]}", code=1)
        log = read_log(done.stdout)
        iteration, loss, parameters = score(copy, val)
    return {
        "seconds": log.seconds[-1],
        "wall_seconds": wall,
        "iterations": len(log.seconds),
        "median_iteration_ms": 1e3 * statistics.median(np.diff([0.0, *log.seconds]).tolist()),
        "printed_loss": log.curve[-1][2],
        "checkpoint_iteration": iteration,
        "val_loss": loss,
        "parameters": parameters,
        "curve": [{"step": i, "seconds": s, "val_loss": v} for i, s, v in log.curve],
    }


def score(copy: Path, val: list[int]) -> tuple[int, float, int]:
    """Its checkpoint over the whole validation split → iteration, nats, parameters."""
    (path,) = copy.glob("out*/ckpt.pt")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    module = load_module(copy / "model.py")
    model = module.GPT(module.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    loss = split_loss(lambda x, y: model(x, y)[1] * y.numel(), torch.tensor(val), CONTEXT)
    return saved["iter_num"], loss, sum(p.numel() for p in model.parameters())


def load_module(path: Path) -> Any:
    """A Python file as a module. Its own prints would spoil our answer, so they go to stderr."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    raise SystemExit(answer(work))
