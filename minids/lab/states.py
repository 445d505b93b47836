"""Catch-up states: weights that a lesson starts from where making them takes minutes.

`minids r1 --tiny --out ROAD` walks the whole road; `python -m minids.lab.states base ROAD` keeps a
stage of it, float16, two bytes a number. Beside the weights lies their receipt: which stage, its
seed, the machine, seconds, and what the kept model can do.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file

from minids.config import load
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.nn.transformer import Transformer

FOLDER = Path(__file__).with_name("weights")
STAGES = {"base": "1-base", "zero": "2-zero"}  # by name: the stage of the road that it is
PRESET = "r1-tiny"


class State(NamedTuple):
    """A trained model, what it reads, and how it came about."""

    model: Transformer
    tokenizer: Tokenizer
    receipt: dict[str, Any]


def state(name: str) -> State:
    """A new copy of the model, in float32. Raises UserError for a state that does not exist."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json"))) or "none is kept"
        raise UserError("state", f"{name!r} does not exist", known)
    tokenizer = Tokenizer.shipped("tales")
    cfg = dataclasses.replace(load(PRESET).model, vocab_size=tokenizer.vocab_size)
    model = Transformer(cfg)
    model.load_state_dict(load_file(path.with_suffix(".safetensors")))
    receipt = json.loads(path.read_text(encoding="utf-8"))
    return State(model.requires_grad_(False).eval(), tokenizer, receipt)


def keep(name: str, road: Path) -> dict[str, Any]:
    """Store a stage of a road and measure what is stored → its receipt. Raises UserError."""
    from minids.bench.harness import machine, version
    from minids.reason import recipe
    from minids.reason.passrate import attempt, pass_rate
    from minids.reason.tasks import held_out_set

    if name not in STAGES:
        raise UserError("state", f"{name!r} is no stage", ", ".join(STAGES))
    plan, folder = recipe.tiny(), road / STAGES[name]
    stage = next(s for s in plan.stages if s.name == STAGES[name])
    done = json.loads((folder / recipe.DONE).read_text(encoding="utf-8"))
    cfg = load(str(folder / "config.toml"))
    FOLDER.mkdir(exist_ok=True)
    halves = {n: w.half().contiguous() for n, w in recipe.weights_of(folder).items()}
    save_file(halves, FOLDER / f"{name}.safetensors")
    path = FOLDER / f"{name}.json"
    receipt = {
        "made by": f"minids r1 --tiny; python -m minids.lab.states {name}",
        "stage": stage._asdict(),
        "task": plan.task,
        "seed": cfg.train.seed,
        "seconds": round(done["seconds"]),
        "machine": machine(),
        "torch": version("torch"),
    }
    path.write_text("{}", encoding="utf-8")
    found, (task, level) = state(name), plan.task.split(":")
    problems = held_out_set(task, int(level), plan.held_out)
    rate = pass_rate(attempt(found.model, found.tokenizer, problems, longest=96))
    receipt["held out"] = {"right": rate.hits, "well formed": rate.well_formed, "of": rate.n}
    path.write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
    return receipt


if __name__ == "__main__":
    sys.stdout.write(json.dumps(keep(sys.argv[1], Path(sys.argv[2]))) + "\n")
