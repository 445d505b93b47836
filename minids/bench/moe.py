"""One expert layer, forward and backward: our sorted blocks against transformers' best way.

Router, 16 experts of which 4 work on each token, a shared expert; gradients to the input and to
every weight. Rates are tokens per second through the layer.
"""

from __future__ import annotations

from typing import Any

import torch

from minids.bench import ceiling
from minids.bench.harness import Arm, Plan, answer, compare, peak_bytes, report, timed
from minids.bench.peer import Best, fill, small_v3, their_config

MODULE = "minids.bench.moe"
DTYPES = ("float32", "bfloat16")
TOKENS = (256, 1024, 4096)
WIDTH = 64


def bench(plan: Plan) -> dict[str, Any]:
    """Every case → the report."""
    best = Best(MODULE, plan, attention=("sdpa",))
    cases = []
    for tokens in TOKENS:
        for dtype in DTYPES:
            label = f"{tokens} tokens {dtype} f{WIDTH}"
            if plan.only not in label:
                continue
            order = {"tokens": tokens, "dtype": dtype, "width": WIDTH, "seconds": plan.seconds}
            ours = Arm("minids", MODULE, {"arm": "minids", **order}, plan.threads)
            theirs = best.choose(label, order, [plan.threads]) if plan.peer else None
            flops = ceiling.moe_flops_per_token(small_v3(WIDTH))
            top = ceiling.arm(dtype, flops, plan)
            cases.append(compare(label, "tokens/s", ours, theirs, plan, top))
    return report("moe", plan, cases, tried=best.tried)


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One arm."""
    dtype = getattr(torch, order["dtype"])
    cfg = small_v3(order["width"])
    if order["arm"] == "minids":
        from minids.nn.moe import MoE

        imported = peak_bytes()
        layer: Any = MoE(cfg)
    else:
        from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

        imported = peak_bytes()
        layer = DeepseekV3MoE(their_config(cfg, order["settings"])).to(dtype)
    fill(layer)
    generator = torch.Generator().manual_seed(1)
    shape = (1, order["tokens"], cfg.hidden_size)
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()  # [1 T d]
    weights = torch.randn(shape, generator=generator).to(dtype)  # [1 T d] gradient of the output
    first: list[float] = []

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        out = layer(x)
        out = out[0] if isinstance(out, tuple) else out  # ours returns its routing too
        out.backward(weights)
        if not first:
            first.append(out.detach().double().square().mean().item())

    seconds = timed(step, order["seconds"])
    return {
        "rate": order["tokens"] / seconds,
        "step_ms": 1e3 * seconds,
        "import_bytes": imported,
        "peak_bytes": peak_bytes(),
        "parameters": sum(p.numel() for p in layer.parameters()),
        "first_output": first[0],  # mean square, equal in both
    }


if __name__ == "__main__":
    raise SystemExit(answer(work))
