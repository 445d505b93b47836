"""Does a model trained in FP8 end where bfloat16 ends? Same text, steps and first weights for all.

Two runs that differ in nothing but rounding drift apart as well, so the yardstick is a run in
float32: what FP8 adds can be seen only where it is larger than what bfloat16 adds. Losses are those
of text never trained on, in the way that was trained and, the same weights, in bfloat16. Accuracy
alone: no speed is measured here.  (DeepSeek-V3 §3.3, appendix B.1: below 0.25 % at 16B and 230B)
Axes: b rows, s tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from minids.bench.harness import Arm, Plan, answer, report, run, spread
from minids.config import RunConfig, load
from minids.data.load import Document, open_data
from minids.errors import UserError
from minids.lowp.linear import PER_TENSOR, V3_HOPPER, V3_UNPROMOTED, Recipe
from minids.nn.loss import IGNORE
from minids.nn.transformer import Transformer
from minids.train.comm import Solo
from minids.train.optim import Optimizer
from minids.train.precision import check_fp8, recipe_of, to_fp8
from minids.train.schedule import lr_factor
from minids.train.step import Gradients, clip, gradient

MODULE = "minids.bench.fp8_train"
CLAIM = 0.0025  # of the report
LAST = 4  # the last quarter of the steps is "the end"
ROWS = 32  # documents scored together


class Way(NamedTuple):
    """One way to multiply."""

    says: str
    dtype: str  # between the layers
    recipe: Recipe | None = None


SIMULATED = {
    "bfloat16": Way("products and everything else in bfloat16", "bfloat16"),
    "float32": Way("the yardstick: rounding alone moves the loss by so much", "float32"),
    "per tensor": Way("FP8, one scale per tensor, short sums promoted", "bfloat16", PER_TENSOR),
    "v3": Way("FP8, tiles and blocks, 14-bit sums promoted every 128", "bfloat16", V3_HOPPER),
    "v3 unpromoted": Way("the same, never promoted", "bfloat16", V3_UNPROMOTED),
}
PRESETS = {
    "cpu": (
        "tiny",
        "data.name=stdlib data.documents=600 data.held_out=0.25 train.batch_size=12 "
        "train.max_steps=240",
    ),
    "cuda": (
        "gpu",
        "model.num_hidden_layers=4 model.n_routed_experts=16 model.n_group=4 model.topk_group=2 "
        "data.documents=20000 data.held_out=0.01 data.context=512 train.batch_size=16 "
        "train.grad_accum=1 train.max_minutes=0 train.max_steps=120",
    ),
}


def ways(device: str) -> dict[str, Way]:
    """On a GPU the recipes that hardware can follow, on the hardware; on a CPU all, simulated."""
    if device == "cpu":
        return SIMULATED
    real = recipe_of("fp8")
    tensor = Recipe(groups="tensor", backend=real.backend)
    found = {name: SIMULATED[name] for name in ("bfloat16", "float32")}
    found["per tensor"] = Way(
        f"FP8 units, one scale per tensor, {real.backend}", "bfloat16", tensor
    )
    found["v3"] = Way(f"FP8 units, tiles and blocks, {real.backend}", "bfloat16", real)
    return found


def bench(
    plan: Plan,
    device: str | None = None,
    preset: str | None = None,
    changes: Sequence[str] = (),
    *,
    kept: Path | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Every way once per seed → the report. `plan.repeats` is the number of seeds.

    Runs that `kept` holds are not repeated: each is written there when it is done.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        check_fp8(device)
    default, cut = PRESETS[device]
    settings = [*(cut.split() if preset is None else ()), *changes]
    cfg = load(preset or default, settings)
    names = [n for n in ways(device) if plan.only in n or n == "bfloat16"]
    if len(names) < 2:
        raise UserError("--only", f"{plan.only!r} is in no way's name", ", ".join(ways(device)))
    common = {"preset": preset or default, "set": settings, "device": device}
    orders = [
        common | {"way": name, "seed": seed}
        for seed in range(1, plan.repeats + 1)
        for name in names
    ]
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(partial(remembered, plan=plan, kept=kept), orders))
    runs = {
        name: [r for o, r in zip(orders, found, strict=True) if o["way"] == name] for name in names
    }
    cases = [case(name, ways(device)[name], runs[name], runs["bfloat16"]) for name in names]
    return report(
        "fp8-train", plan, cases, claim=CLAIM, preset=preset or default, set=settings,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        steps=cfg.train.max_steps, parameters=found[0]["parameters"],
        tokens_per_step=cfg.train.batch_size * cfg.train.grad_accum * cfg.data.context,
    )  # fmt: skip


def remembered(order: dict[str, Any], *, plan: Plan, kept: Path | None) -> dict[str, Any]:
    """One run in a process of its own, or what is known of it from an earlier start."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    for line in lines:
        if line.endswith("}") and (known := json.loads(line))["order"] == order:
            return known["found"]
    name = f"{order['way']}, seed {order['seed']} of {plan.repeats}"
    plan.tell(name)
    found = run(Arm(name, MODULE, order, plan.threads))
    plan.tell(f"{name}: {found['held_out']:.4f} nats held out")
    if kept:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"order": order, "found": found}) + "\n")
    return found


def case(
    name: str, way: Way, mine: list[dict[str, Any]], plain: list[dict[str, Any]]
) -> dict[str, Any]:
    """A way's losses and how far each seed's lie from bfloat16's, as shares of those."""
    found: dict[str, Any] = {"case": name, "says": way.says}
    for what in ("end", "held_out", "in_bfloat16"):
        found[what] = spread([r[what] for r in mine])
        apart = [a[what] / b[what] - 1 for a, b in zip(mine, plain, strict=True)]
        found[f"{what}_apart"] = spread(apart) | {"seeds": apart}
    return found | {"losses": [[round(x, 4) for x in r["losses"]] for r in mine]}


# In an arm's process


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    seeds = [f"train.seed={order['seed']}", f"data.seed={order['seed']}"]
    cfg = load(order["preset"], [*order["set"], *seeds])
    return train(cfg, ways(order["device"])[order["way"]], order["device"])


def train(cfg: RunConfig, way: Way, device: str) -> dict[str, Any]:
    """The loop of `minids train` without its safety net."""
    data = open_data(cfg, None)
    cfg = data.cfg
    model = Transformer(cfg.model)
    model.init_weights(torch.Generator().manual_seed(cfg.train.seed))
    model.to(device)
    model.compute_dtype = getattr(torch, way.dtype)
    if way.recipe:
        to_fp8(model, way.recipe)
    gradients = Gradients(model)
    optimizer = Optimizer(model, cfg.train, torch.bfloat16 if device == "cuda" else torch.float32)
    batches, losses, steps = data.train(), [], cfg.train.max_steps
    for step in range(steps):
        micro_batches = [batches.next() for _ in range(cfg.train.grad_accum)]
        found = gradient(model, gradients, micro_batches, Solo())
        clip(gradients, found.grad_norm, cfg.train.max_grad_norm)
        optimizer.step(lr_factor(step, step / steps, cfg.train), Solo())
        model.update_biases(torch.tensor(found.load))
        losses.append(found.loss)
    plain = Transformer(cfg.model).to(device)
    plain.load_state_dict(model.state_dict())
    plain.compute_dtype = torch.bfloat16
    end = losses[-max(1, steps // LAST) :]
    return {
        "losses": losses,
        "end": sum(end) / len(end),
        "held_out": held_out_loss(model.eval(), data.held_out, cfg.data.context),
        "in_bfloat16": held_out_loss(plain.eval(), data.held_out, cfg.data.context),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def held_out_loss(model: Transformer, documents: Sequence[Document], context: int) -> float:
    """Nats per token of the first `context` tokens of each document."""
    device, total, n = model.embed_tokens.weight.device, 0.0, 0
    for first in range(0, len(documents), ROWS):
        ids = [torch.tensor(d.tokens[: context + 1]) for d in documents[first : first + ROWS]]
        tokens = pad_sequence([row[:-1] for row in ids], True)  # [b s]
        labels = pad_sequence([row[1:] for row in ids], True, IGNORE).to(device)  # [b s]
        total += model.cross_entropy(model.hidden(tokens.to(device)), labels).item()
        n += int((labels != IGNORE).sum())
    return total / n


if __name__ == "__main__":
    raise SystemExit(answer(work))
