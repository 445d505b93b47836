"""The training step of a small DeepSeek-V3, ours and transformers': forward, backward, AdamW.

Same shape, same weights, same tokens, same threads. Theirs runs in its best implementation and, in
bfloat16, on bfloat16 weights with torch's fused AdamW; ours keeps float32 weights and moments and
computes balance losses and expert loads besides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from minids.bench import ceiling
from minids.bench.harness import Arm, Plan, answer, compare, peak_bytes, report, timed
from minids.bench.peer import Best, fill, small_v3, their_model
from minids.config import TrainConfig
from minids.count.flops import training

MODULE = "minids.bench.train"
DTYPES = ("float32", "bfloat16")
SHAPES = ((4, 64), (8, 128), (16, 256))  # sequences × tokens
WIDTHS = (64, 128)  # of an expert; the second at the middle shape only
LR = 1e-4


class Batch(NamedTuple):
    """What a step reads."""

    tokens: Tensor  # [b s]
    labels: Tensor  # [b s]


def bench(plan: Plan) -> dict[str, Any]:
    """Every case → the report."""
    best = Best(MODULE, plan)
    cases = []
    for label, order in all_cases():
        if plan.only not in label:
            continue
        order = order | {"seconds": plan.seconds}
        ours = Arm("minids", MODULE, {"arm": "minids", **order}, plan.threads)
        theirs = best.choose(label, order, [plan.threads]) if plan.peer else None
        top = ceiling.arm(str(order["dtype"]), flops(order), plan)
        cases.append(compare(label, "tokens/s", ours, theirs, plan, top))
    return report("train", plan, cases, tried=best.tried, best_dtype=best_of_each(cases))


def all_cases() -> list[tuple[str, dict[str, Any]]]:
    """Label and order of every case, the smallest first."""
    return [
        (f"{b}x{s} {dtype} f{width}", {"batch": b, "context": s, "dtype": dtype, "width": width})
        for width in WIDTHS
        for b, s in (SHAPES if width == WIDTHS[0] else SHAPES[1:2])
        for dtype in DTYPES
    ]


def flops(order: dict[str, Any]) -> float:
    """Per token of a step."""
    return training(small_v3(order["width"]), order["context"])


def best_of_each(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per shape: our best dtype against their best dtype."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        if "peer" not in case:
            continue
        b_s, dtype, width = case["case"].split()
        entry = found.setdefault(f"{b_s} {width}", {"ours": 0.0, "peer": 0.0})
        for name in ("ours", "peer"):
            rate = case[name]["rate"]["median"]
            if rate > entry[name]:
                entry |= {name: rate, f"{name}_dtype": dtype}
    return [{"case": k, **v, "ratio": v["ours"] / v["peer"]} for k, v in found.items()]


def data(order: dict[str, Any]) -> Batch:
    """Random tokens, the same for both; the last of a row has no label."""
    generator = torch.Generator().manual_seed(1)
    size = (order["batch"], order["context"])
    tokens = torch.randint(0, small_v3(order["width"]).vocab_size, size, generator=generator)
    labels = torch.full_like(tokens, -100)
    labels[:, :-1] = tokens[:, 1:]
    return Batch(tokens, labels)


def ours(order: dict[str, Any]) -> dict[str, Any]:
    """Steps as `minids train` takes them, AdamW for every parameter."""
    from minids.nn.transformer import Transformer
    from minids.train.comm import Solo
    from minids.train.optim import Optimizer
    from minids.train.step import Gradients

    imported = peak_bytes()
    batch = data(order)
    model = Transformer(small_v3(order["width"]))
    fill(model)
    model.compute_dtype = getattr(torch, order["dtype"])
    gradients = Gradients(model)
    optimizer = Optimizer(model, TrainConfig(optimizer="adamw", lr=LR), model.compute_dtype)
    losses = []

    def step() -> None:
        gradients.zero()
        part = model.loss(batch)
        (part.total / part.n_targets).backward()
        optimizer.step(1.0, Solo())
        losses.append((part.main / part.n_targets).item())

    return measured(step, order, model, imported, losses)


def theirs(order: dict[str, Any]) -> dict[str, Any]:
    """Steps of transformers' model and torch's optimizer."""
    import transformers.models.deepseek_v3.modeling_deepseek_v3  # noqa: F401  before the baseline

    imported = peak_bytes()
    batch = data(order)
    model = their_model(small_v3(order["width"]), order["settings"], getattr(torch, order["dtype"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), fused=True)
    losses = []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=batch.tokens, labels=batch.tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return measured(step, order, model, imported, losses)


def measured(
    step, order: dict[str, Any], model, imported: int, losses: list[float]
) -> dict[str, Any]:
    """What both arms say; equal first losses show that they did the same work."""
    seconds = timed(step, order["seconds"])
    return {
        "rate": order["batch"] * order["context"] / seconds,
        "step_ms": 1e3 * seconds,
        "import_bytes": imported,
        "peak_bytes": peak_bytes(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "first_loss": losses[0],
    }


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One arm."""
    return ours(order) if order["arm"] == "minids" else theirs(order)


if __name__ == "__main__":
    raise SystemExit(answer(work))
