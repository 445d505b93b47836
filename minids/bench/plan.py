"""What `minids plan` predicts of a step on this machine against what a step takes.

Each case is two fresh processes with one thread that take steps as `minids train` does: one says
how long they took; the other, whose allocator returns to the system what is freed, how much memory
was ever in use (glibc keeps freed pieces otherwise: `held_bytes` of the first, up to a third more).
The prediction knows the config, two rates and what a runtime with its kernels takes: all three
probed in other processes before.
"""

from __future__ import annotations

import os
import statistics
from contextlib import contextmanager
from typing import Any

from minids import config
from minids.bench.harness import Arm, Plan, answer, peak_bytes, report, run, timed
from minids.count import step

MODULE = "minids.bench.plan"
CASES = (  # preset, changes, sequences, tokens: sizes of real runs, and some the fit never saw
    ("tiny", (), 15, 134),
    ("laptop", (), 4, 512),
    ("shakespeare-char", (), 16, 128),
    ("tiny", ("model.num_hidden_layers=8",), 8, 100),
    ("tiny", ("model.attention=gqa", "model.hidden_size=192"), 12, 160),
    ("laptop", ("model.n_routed_experts=32", "model.num_hidden_layers=3"), 6, 200),
)
DTYPES = ("bfloat16", "float32")
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
SMALLEST = ("model.hidden_size=64", "model.moe_intermediate_size=32", "model.vocab_size=256")


def bench(plan: Plan) -> dict[str, Any]:
    """Every case → the report; errors are predicted over measured, less 1."""
    speeds, runtimes = {}, {}
    for dtype in DTYPES:
        plan.tell(f"probe {dtype}")
        found = run(Arm("probe", MODULE, {"arm": "probe", "dtype": dtype}, 1))
        speeds[dtype] = step.Speed(found["flops_per_s"], found["numbers_per_s"])
        runtimes |= {(dtype, moe): runtime_bytes(dtype, moe) for moe in (True, False)}
    cases = [
        one_case(plan, preset, changes, b, s, dtype, speeds[dtype], runtimes)
        for dtype in DTYPES
        for preset, changes, b, s in CASES
        if plan.only in label_of(preset, changes, b, s, dtype)
    ]
    worst = {
        name: max((abs(case[name]) for case in cases), default=0.0)
        for name in ("seconds_error", "peak_error", "own_bytes_error")
    }
    named = {dtype: speed._asdict() for dtype, speed in speeds.items()}
    return report("plan", plan, cases, speeds=named, worst=worst)


def label_of(preset: str, changes: tuple[str, ...], b: int, s: int, dtype: str) -> str:
    """What a case is called."""
    words = [change.removeprefix("model.") for change in changes]
    return " ".join([preset, *words, f"{b}x{s}", dtype])


def order_of(
    preset: str, changes: tuple[str, ...], b: int, s: int, dtype: str, seconds: float
) -> dict[str, Any]:
    """What a process is told to do."""
    order = {"arm": "step", "preset": preset, "changes": changes, "batch": b, "context": s}
    return order | {"dtype": dtype, "seconds": seconds}


@contextmanager
def giving_back():
    """Processes started inside return freed memory to the system."""
    before = {name: os.environ.get(name) for name in GIVE_BACK}
    os.environ.update(GIVE_BACK)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def runtime_bytes(dtype: str, moe: bool) -> float:
    """Interpreter, libraries and kernels: a process that trains next to nothing, of the kind."""
    with giving_back():
        changes = SMALLEST if moe else (*SMALLEST, "model.n_routed_experts=0")
        order = order_of("tiny", changes, 2, 32, dtype, 0.1)
        return run(Arm("runtime", MODULE, order, 1))["peak_bytes"]


def one_case(
    plan: Plan,
    preset: str,
    changes: tuple[str, ...],
    b: int,
    s: int,
    dtype: str,
    speed: step.Speed,
    runtimes: dict[tuple[str, bool], float],
) -> dict[str, Any]:
    """Predict, then measure `repeats` times."""
    label = label_of(preset, changes, b, s, dtype)
    cfg = config.load(preset, list(changes))
    again = cfg.train.activation_checkpointing == "full"
    said = step.predict(cfg.model, b, s, dtype, speed, cfg.train.optimizer, recompute=again)
    plan.tell(label)
    arm = Arm(label, MODULE, order_of(preset, changes, b, s, dtype, plan.seconds), 1)
    found = [run(arm) for _ in range(plan.repeats)]
    with giving_back():
        peak = run(Arm(label, MODULE, arm.order | {"seconds": 0.1}, 1))["peak_bytes"]
    seconds = statistics.median(record["seconds"] for record in found)
    runtime = runtimes[dtype, bool(cfg.model.n_routed_experts)]
    predicted = runtime + said.peak_bytes
    return {
        "case": label,
        "seconds": seconds,
        "seconds_predicted": said.seconds,
        "seconds_error": said.seconds / seconds - 1,
        "peak_bytes": peak,
        "peak_bytes_predicted": predicted,
        "peak_error": predicted / peak - 1,
        "runtime_bytes": runtime,
        "own_bytes_error": said.peak_bytes / (peak - runtime) - 1,
        "held_bytes": statistics.median(record["peak_bytes"] for record in found),
        "mfu": said.flops / seconds / speed.flops_per_s,
    }


# In an arm's process


def probe(dtype: str, seconds: float = 0.4) -> step.Speed:
    """The two rates of this process: products of 2,048 tokens, and a product element by element."""
    import torch
    from torch.nn import functional as F

    kind = getattr(torch, dtype)
    rates = []
    for width in (128, 320):
        x, w = torch.randn(2048, width).to(kind), torch.randn(4 * width, width).to(kind)
        taken = timed(lambda x=x, w=w: F.linear(x, w), seconds)
        rates.append(2 * 2048 * width * 4 * width / taken)
    a, b = torch.randn(2048, 512).to(kind), torch.randn(2048, 512).to(kind)
    return step.Speed(statistics.mean(rates), a.numel() / timed(lambda: a * b, seconds))


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One arm."""
    if order["arm"] == "probe":
        return probe(order["dtype"])._asdict()
    return take_steps(order)


def take_steps(order: dict[str, Any]) -> dict[str, Any]:
    """Steps as a run takes them, on random tokens."""
    import torch

    from minids.data.batches import Batch
    from minids.nn.transformer import Transformer
    from minids.train.comm import Solo
    from minids.train.optim import Optimizer
    from minids.train.step import Gradients, clip, gradient

    cfg = config.load(order["preset"], list(order["changes"]))
    model = Transformer(cfg.model)
    model.init_weights(torch.Generator().manual_seed(1))
    model.compute_dtype = getattr(torch, order["dtype"])
    gradients = Gradients(model)
    optimizer = Optimizer(model, cfg.train, model.compute_dtype)
    size = order["batch"], order["context"]
    tokens = torch.randint(0, cfg.model.vocab_size, size)
    labels = torch.roll(tokens, -1, 1)  # [b s]
    labels[:, -1] = -100
    batch = Batch(tokens, labels, [])

    def one() -> None:
        found = gradient(model, gradients, [batch], Solo())
        clip(gradients, found.grad_norm, 1.0)
        optimizer.step(1e-3, Solo())

    seconds = timed(one, order["seconds"])
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


if __name__ == "__main__":
    raise SystemExit(answer(work))
