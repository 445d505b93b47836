"""Decoding with a cache: our engine against transformers' `generate`, same weights, greedy.

Small models at batch 1 are bound by the start of operators, so a second thread may cost more than
it gives: each side runs with the thread count that is better for it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from minids.bench.harness import Arm, Plan, answer, compare, fastest, peak_bytes, report, timed
from minids.bench.peer import Best, fill, small_v3, their_model

MODULE = "minids.bench.decode"
BATCHES = (1, 16)
PROMPT, NEW = 32, 128  # tokens
WIDTH = 64


def bench(plan: Plan) -> dict[str, Any]:
    """Every case → the report."""
    best = Best(MODULE, plan, attention=("sdpa",))
    threads = sorted({1, plan.threads})
    cases = []
    for batch in BATCHES:
        label = f"batch {batch}, {PROMPT} + {NEW} tokens float32"
        if plan.only not in label:
            continue
        shape = {"batch": batch, "prompt": PROMPT, "new": NEW, "width": WIDTH}
        order = shape | {"seconds": plan.seconds}
        candidates = [Arm("minids", MODULE, {"arm": "minids", **order}, n) for n in threads]
        ours, _ = fastest(candidates, plan.tell)
        theirs = best.choose(label, order, threads) if plan.peer else None
        case = compare(label, "tokens/s", ours, theirs, plan)
        mine, yours = case["ours"].pop("tokens"), case.get("peer", {}).pop("tokens", None)
        if yours:
            case["same_tokens"] = share_equal(mine, yours)
        cases.append(case)
    return report("decode", plan, cases, tried=best.tried)


def share_equal(mine: list[list[int]], yours: list[list[int]]) -> float:
    """Share of positions where both chose the same token."""
    pairs = [a == b for m, y in zip(mine, yours, strict=True) for a, b in zip(m, y, strict=True)]
    return sum(pairs) / len(pairs)


def prompts(order: dict[str, Any]) -> Tensor:
    """Random prompts.  → [b t]"""
    generator = torch.Generator().manual_seed(1)
    size = (order["batch"], order["prompt"])
    return torch.randint(0, small_v3(order["width"]).vocab_size, size, generator=generator)


def ours(order: dict[str, Any]) -> dict[str, Any]:
    """The engine, likeliest token each step, no end token."""
    from minids.generate.engine import Engine
    from minids.generate.settings import Sampling
    from minids.nn.transformer import Transformer

    imported = peak_bytes()
    model = Transformer(small_v3(order["width"])).eval()
    fill(model)
    tokenizer: Any = SimpleNamespace(eos=-1, pad=0)
    engine = Engine(model, tokenizer)
    rows = prompts(order).tolist()

    def call() -> list[list[int]]:
        steps = list(engine.generate(rows, Sampling(temperature=0.0), order["new"]))
        return [list(row) for row in zip(*(step.tokens for step in steps), strict=True)]

    return measured(call, order, imported)


def theirs(order: dict[str, Any]) -> dict[str, Any]:
    """`generate` with its cache."""
    import transformers.models.deepseek_v3.modeling_deepseek_v3  # noqa: F401  before the baseline

    imported = peak_bytes()
    model = their_model(small_v3(order["width"]), order["settings"], torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    rows = prompts(order)
    mask = torch.ones_like(rows)

    def call() -> list[list[int]]:
        out = model.generate(
            input_ids=rows,
            attention_mask=mask,
            max_new_tokens=order["new"],
            do_sample=False,
            use_cache=True,
        )
        return out[:, rows.shape[1] :].tolist()

    return measured(call, order, imported)


def measured(call, order: dict[str, Any], imported: int) -> dict[str, Any]:
    """What both arms say."""
    tokens = call()
    seconds = timed(call, order["seconds"], warmup=1)
    return {
        "rate": order["batch"] * order["new"] / seconds,
        "ms_per_step": 1e3 * seconds / order["new"],
        "import_bytes": imported,
        "peak_bytes": peak_bytes(),
        "tokens": tokens,
    }


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One arm."""
    return ours(order) if order["arm"] == "minids" else theirs(order)


if __name__ == "__main__":
    raise SystemExit(answer(work))
