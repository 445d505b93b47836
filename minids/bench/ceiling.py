"""What the machine allows: the rate at which its matrix products alone would fill a step.

No implementation can pass it, so it bounds every ratio: a peer at half of it cannot be beaten by
more than two. FLOPs are those of the definition: active weights, the causal half of attention.
"""

from __future__ import annotations

from typing import Any

import torch

from minids.bench.harness import Arm, Plan, answer, peak_bytes, timed
from minids.config import ModelConfig

SHAPES = ((1024, 1024, 1024), (2048, 256, 1024), (256, 1024, 2048), (512, 512, 512))


def arm(dtype: str, flops: float, plan: Plan) -> Arm:
    """The machine as a third arm; `flops` of one unit of the case."""
    order = {"dtype": dtype, "flops": flops, "seconds": min(1.0, plan.seconds)}
    return Arm("machine", "minids.bench.ceiling", order, plan.threads)


def moe_flops_per_token(cfg: ModelConfig) -> float:
    """Of one expert layer, forward and backward."""
    d, f = cfg.hidden_size, cfg.moe_intermediate_size
    experts = cfg.num_experts_per_tok + cfg.n_shared_experts
    return 3 * 2 * (experts * 3 * d * f + d * cfg.n_routed_experts)


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Best GFLOP/s of some products, as units of `flops` each per second."""
    dtype = getattr(torch, order["dtype"])
    best = 0.0
    for m, k, n in SHAPES:
        a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        seconds = timed(lambda a=a, b=b: a @ b, order["seconds"] / len(SHAPES))
        best = max(best, 2 * m * k * n / seconds)
    return {
        "rate": best / order["flops"],
        "gflops": best / 1e9,
        "import_bytes": 0,
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    raise SystemExit(answer(work))
