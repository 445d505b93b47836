"""The runs of an ablation, each a run folder of its own; what is done is not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from minids.config import RunConfig, load
from minids.count import memory, params
from minids.evaluate import quick_eval
from minids.history import read_history
from minids.nn.balance import max_violation
from minids.train import checkpoint
from minids.train.loop import Hooks, train
from minids.train.probe import usable_cores

DONE = "ablation.json"


class Interrupted(Exception):
    """A signal came; the run has saved itself."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def train_all(
    runs: Sequence[tuple[str, RunConfig]], out: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train what is not done yet → a record of each run. Raises Interrupted after a clean save."""
    found = []
    for number, (arm, cfg) in enumerate(runs, 1):
        folder = out / f"{'-'.join(arm.replace(',', '').split())}-seed{cfg.train.seed}"
        mark = folder / DONE
        if not mark.is_file():
            tell(f"{number} of {len(runs)}: {arm}, seed {cfg.train.seed}")
            began = time.monotonic()
            resume = bool(checkpoint.steps(folder / "checkpoints"))
            done = train(cfg, out=folder, resume=resume, hooks=Hooks(evaluate=quick_eval))
            if done.interrupted:
                raise Interrupted(done.interrupted)
            record = {"arm": arm, "seed": cfg.train.seed, "bpb": done.metrics["bpb"]}
            record |= {"floor_bpb": done.metrics.get("floor_bpb"), "tokens": done.tokens}
            record |= {"seconds": time.monotonic() - began} | counted(folder)
            mark.write_text(json.dumps(record), encoding="utf-8")
        found.append(json.loads(mark.read_text(encoding="utf-8")))
        tell(f"{arm}, seed {cfg.train.seed}: {found[-1]['bpb']:.4f} bits per byte")
    return found


def counted(folder: Path) -> dict[str, float]:
    """What an arm costs: parameters, those at work, cache a token, how uneven its experts ended."""
    made = load(str(folder / "config.toml")).model  # with the vocabulary of its tokenizer
    size, load_ = params.count(made), read_history(folder).load
    uneven = max_violation(torch.tensor(load_[-1])).max().item() if load_ and load_[-1] else 0.0
    return {
        "parameters": size.main,
        "active": size.active,
        "cache": memory.kv_elements_per_token(made),
        "imbalance": uneven,
    }


def machine_words() -> str:
    """The machine in a few words."""
    return f"{usable_cores()} cores, torch {torch.__version__.split('+')[0]}"
