"""Time to quality: who reaches which loss on the same text, and when.

The peer is nanoGPT's CPU recipe on characters: 90 % of a text to train on, the last 10 % to judge.
Ours is a preset, trained by the ordinary loop once for each share of the peer's time, each run with
a schedule of its own length. Evaluations count on neither side.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.bench import nanogpt
from minids.bench.harness import Arm, Plan, answer, report, run, spread
from minids.bench.split import HELD_OUT, split_loss

PRESET = "shakespeare-char"
SHARES = (1 / 8, 1 / 2, 1.0)  # of the peer's training time
TARGET = 1.58
EVAL_EVERY = 25  # steps
ITERATIONS = 2_000  # of the peer's recipe
TRIAL = 100  # iterations that show which number of threads suits it


def bench(
    plan: Plan,
    data: Path,
    checkout: Path | None,
    *,
    preset: str = PRESET,
    changes: tuple[str, ...] = (),
    budgets: tuple[float, ...] = (),
    iterations: int = ITERATIONS,
) -> dict[str, Any]:
    """Peer and ours in turn → the report. `budgets` in seconds replace the shares."""
    source = str(data.absolute())
    peers: list[dict[str, Any]] = []
    runs: list[list[dict[str, Any]]] = []
    tried: dict[int, float] = {}  # threads → median milliseconds of the peer's iteration
    for turn in range(plan.repeats):
        if checkout:
            order = {"data": source, "peer": str(checkout.absolute()), "iterations": iterations}
            tried = tried or try_threads(order, plan)
            n = min(tried, key=lambda n: tried[n])
            plan.tell(f"nanoGPT, turn {turn + 1} of {plan.repeats}, threads {n}")
            peers.append(run(Arm("nanoGPT", nanogpt.__name__, order, n)) | {"threads": n})
            lengths = budgets or tuple(share * peers[-1]["seconds"] for share in SHARES)
        else:
            lengths = budgets or (60.0,)
        runs.append([])
        for seconds in lengths:
            plan.tell(f"minids, turn {turn + 1} of {plan.repeats}, {seconds:.1f} s of training")
            order = {"data": source, "preset": preset, "set": list(changes)}
            order |= {"budget": seconds, "seed": turn + 1}
            runs[-1].append(run(Arm("minids", __name__, order, plan.threads)))
    return report(
        "quality",
        plan,
        [],
        text={"name": data.name, "bytes": data.stat().st_size},
        tried=tried,
        peer_runs=peers,
        runs=runs,
        summary=summarize(peers, runs, TARGET),
    )


def try_threads(order: dict[str, Any], plan: Plan) -> dict[int, float]:
    """The peer's recipe for a moment on one thread and on all → its iteration in milliseconds."""
    found = {}
    order = order | {"iterations": min(TRIAL, order["iterations"])}
    for n in sorted({1, plan.threads}):
        plan.tell(f"trying nanoGPT: threads {n}")
        found[n] = run(Arm("nanoGPT", nanogpt.__name__, order, n))["median_iteration_ms"]
    return found


def summarize(
    peers: list[dict[str, Any]], runs: list[list[dict[str, Any]]], target: float
) -> dict[str, Any]:
    """The figures of the issue: seconds until two losses, losses at shares of the peer's time."""
    found: dict[str, Any] = {
        "target": target,
        "seconds_to_target": reached(runs, target),
        "loss_after": [
            {
                "budget": columns[0]["budget"],
                "seconds": spread([r["seconds"] for r in columns]),
                "val_loss": spread([r["val_loss"] for r in columns]),
            }
            for columns in zip(*runs, strict=True)
        ],
    }
    if not peers:
        return found
    loss = min(p["val_loss"] for p in peers)
    seconds = spread([p["seconds"] for p in peers])
    for entry in found["loss_after"]:
        entry["share_of_peer"] = entry["seconds"]["median"] / seconds["median"]
    found |= {
        "peer_threads": peers[0]["threads"],
        "peer_seconds": seconds,
        "peer_loss": loss,
        "seconds_to_peer_loss": reached(runs, loss),
    }
    for name in ("target", "peer_loss"):
        if until := found[f"seconds_to_{name}"]:
            found[f"share_to_{name}"] = until["median"] / seconds["median"]
    return found


def reached(runs: list[list[dict[str, Any]]], loss: float) -> dict[str, float] | None:
    """Seconds of training until a loss, the quickest run of each turn; None if a turn never did."""
    firsts = []
    for turn in runs:
        times = [p["seconds"] for r in turn for p in r["curve"] if p["val_loss"] <= loss]
        if not times:
            return None
        firsts.append(min(times))
    return spread(firsts) if firsts else None


def config_of(order: dict[str, Any]) -> Any:
    """The preset on this text, by the clock, evaluated often and saved at the end only."""
    from minids.config import load

    return load(
        order["preset"],
        [
            f"train.eval_every={EVAL_EVERY}",
            *order["set"],
            "data.name=text",
            f"data.path={order['data']}",
            "data.tokenizer=char",
            f"data.held_out={HELD_OUT}",
            f"train.max_minutes={order['budget'] / 60}",
            f"train.seed={order['seed']}",
            "train.save_every=0",
            "train.sample_every_seconds=0",
        ],
    )


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One training run of ours."""
    from minids.train import events
    from minids.train.loop import Hooks, train

    cfg = config_of(order)
    curve: list[dict[str, float]] = []
    now = {"seconds": 0.0}
    started: list[events.Started] = []

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Started):
            started.append(event)
        if isinstance(event, events.Step):
            now["seconds"] = event.elapsed_s
        if isinstance(event, events.Evaluated):
            loss = event.metrics["val_loss"]
            curve.append({"step": event.step, "seconds": now["seconds"], "val_loss": loss})

    with tempfile.TemporaryDirectory(prefix="minids-quality-") as place:
        hooks = Hooks(on_event=watch, evaluate=whole_split)
        done = train(cfg, out=Path(place) / "run", hooks=hooks)
    machine = started[0].machine
    return {
        "budget": order["budget"],
        "seed": order["seed"],
        "seconds": done.elapsed_s,
        "steps": done.step,
        "tokens": done.tokens,
        "val_loss": curve[-1]["val_loss"],
        "curve": curve,
        "parameters": started[0].parameters,
        "precision": machine.precision,
        "threads": machine.threads,
        "workers": machine.workers,
    }


def whole_split(model: Any, data: Any) -> dict[str, float]:
    """Our loss over all characters held out, in the precision it trains in."""
    (document,) = data.held_out
    ids = torch.tensor(document.tokens[1:-1])  # without BOS and EOS

    def nats(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum")

    return {"val_loss": split_loss(nats, ids, data.cfg.data.context)}


if __name__ == "__main__":
    raise SystemExit(answer(work))
