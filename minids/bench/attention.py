"""Attention between cache and heads, five ways: MHA, GQA, MQA, MLA expanded, MLA absorbed.

Heads as wide as the preset's nope channels; a group of GQA is eight query heads. A prompt is s = t
tokens at once, decoding one token per sequence over t. Projections from and to the residual stream
are left out: all five have them. Then, over one past, more and more queries at once: where
expanded MLA overtakes absorbed MLA is the crossing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from minids import config
from minids.bench.harness import Arm, Plan, answer, report, run, spread, timed
from minids.config import ModelConfig
from minids.count import attention as counted
from minids.count.memory import kv_elements_in
from minids.errors import UserError
from minids.nn.attention import attend_grouped
from minids.nn.mla import MLA, attend_absorbed, attend_expanded

MODULE = "minids.bench.attention"
SHARE = 8  # query heads of a GQA group
FORMS = {"MLA expanded": "expanded", "MLA absorbed": "absorbed"}
WAYS = ("MHA", "GQA", "MQA", *FORMS)


class Sizes(NamedTuple):
    """What is measured on a device."""

    preset: str
    dtype: str
    prompts: tuple[int, ...]  # tokens
    contexts: tuple[int, ...]  # tokens behind a decoded one
    sequences: int  # decoded at once
    pasts: tuple[int, ...]  # tokens over which the crossing is looked for


CPU = Sizes("deepseek-v2-lite", "float32", (128, 512, 1024), (256, 1024, 4096, 16_384), 1, (1024,))
CUDA = Sizes(
    "deepseek-v3", "bfloat16", (512, 2048, 4096), (1024, 4096, 16_384, 65_536), 4, (4096, 16_384)
)


def bench(plan: Plan, device: str | None, preset: str | None, changes: list[str]) -> dict:
    """Every case → the report. Raises UserError for a device that is not there."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", "torch sees no cuda device", "cpu")
    sizes = CUDA if device == "cuda" else CPU
    preset = preset or sizes.preset
    cfg = dense_mla(config.load(preset, changes).model)
    points = [p for p in every_point(cfg, sizes) if plan.only in p.case]
    settings = {"device": device, "preset": preset, "changes": changes, "dtype": sizes.dtype}
    order = settings | {"seconds": plan.seconds, "points": [p._asdict() for p in points]}
    turns = []
    for turn in range(plan.repeats if points else 0):
        plan.tell(f"turn {turn + 1} of {plan.repeats}: {len(points)} cases")
        turns.append(run(Arm("attention", MODULE, order, plan.threads))["ms"])
    found = [
        point._asdict() | {"ways": ways_of(cfg, point, [turn[i] for turn in turns], sizes.dtype)}
        for i, point in enumerate(points)
    ]
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    cases = [case for case in found if case["phase"] != "crossing"]
    crossings = [crossing(cfg, t, found) for t in sizes.pasts]
    return report(
        "attention", plan, cases, crossings=[c for c in crossings if c["queries"]], gpu=gpu,
        **settings,
    )  # fmt: skip


class Point(NamedTuple):
    """s queries of each sequence over t tokens, measured in several ways."""

    phase: str  # decode · prefill · crossing
    s: int
    t: int
    sequences: int
    ways: tuple[str, ...]

    @property
    def case(self) -> str:
        """Its name, for --only."""
        queries = f", {self.s:,} queries" if self.phase == "crossing" else ""
        return f"{self.phase}, {self.t:,} tokens{queries}"


def every_point(cfg: ModelConfig, sizes: Sizes) -> list[Point]:
    """Decoding, prompts, and 1, 2, 4 … queries until four times the counted crossing."""
    points = [Point("decode", 1, t, sizes.sequences, WAYS) for t in sizes.contexts]
    points += [Point("prefill", t, t, 1, WAYS) for t in sizes.prompts]
    for t in sizes.pasts:
        last = min(t, 4 * counted.crossing(cfg, t))
        doublings = range(max(2, math.floor(math.log2(last)) + 1))
        points += [Point("crossing", 1 << i, t, 1, tuple(FORMS)) for i in doublings]
    return points


def dense_mla(cfg: ModelConfig) -> ModelConfig:
    """The model itself, if it has the attention this is about."""
    if cfg.attention != "mla" or cfg.index_n_heads:
        kind = "sparse" if cfg.index_n_heads else cfg.attention
        raise UserError("--config", f"its attention is {kind}", "a preset with dense mla")
    return cfg


def ways_of(
    cfg: ModelConfig, point: Point, turns: list[dict[str, float | None]], dtype: str
) -> dict[str, dict[str, Any]]:
    """What each way took and what it had to do; ms None: the memory did not hold it."""
    found = {}
    for way in point.ways:
        ms = [turn[way] for turn in turns]
        variant, form = variant_of(cfg, way), FORMS.get(way, "expanded")
        work = counted.core(variant, point.s, point.t, form, sequences=point.sequences, dtype=dtype)
        entry = {
            "cache_elements_per_token": kv_elements_in(variant, 0),
            "flops": work.flops,
            "moved_bytes": work.moved_bytes,
            "ms": None,
        }
        known = [x for x in ms if x is not None]
        if len(known) == len(ms):
            entry["ms"] = spread(known)
            entry["gbytes_per_s"] = work.moved_bytes / entry["ms"]["median"] / 1e6
            entry["gflops_per_s"] = work.flops / entry["ms"]["median"] / 1e6
        found[way] = entry
    return found


def crossing(cfg: ModelConfig, t: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Both forms over t tokens by the number of queries, and where they meet."""
    points = [p for p in found if (p["phase"], p["t"]) == ("crossing", t)]
    points = [p for p in points if all(way["ms"] for way in p["ways"].values())]
    queries = [p["s"] for p in points]
    ms = {way: [p["ways"][way]["ms"]["median"] for p in points] for way in FORMS}
    at = meeting(queries, ms["MLA absorbed"], ms["MLA expanded"])
    counted_at = counted.crossing(cfg, t)
    return {"t": t, "queries": queries, "ms": ms, "counted": counted_at, "measured": at}


def meeting(x: Sequence[float], rising: Sequence[float], other: Sequence[float]) -> float | None:
    """Where `rising` overtakes `other` for the first time, straight between points on log scales.

    None: it never does; the first x: it starts above.
    """
    apart = [math.log(a / b) for a, b in zip(rising, other, strict=True)]
    if apart and apart[0] >= 0:
        return x[0]
    for i in range(1, len(x)):
        if apart[i] >= 0:
            share = -apart[i - 1] / (apart[i] - apart[i - 1])
            return math.exp(math.log(x[i - 1]) + share * math.log(x[i] / x[i - 1]))
    return None


# In an arm's process


def variant_of(cfg: ModelConfig, way: str) -> ModelConfig:
    """The same heads with another kind of cache."""
    if way in FORMS:
        return cfg
    h = cfg.num_attention_heads
    g = {"MHA": h, "GQA": max(1, h // SHARE), "MQA": 1}[way]
    return replace(
        cfg, attention="gqa", num_key_value_heads=g, head_dim=cfg.qk_nope_head_dim, q_lora_rank=0
    )


def prepared(
    cfg: ModelConfig, way: str, s: int, t: int, *, sequences: int, device: str, dtype: torch.dtype
) -> Callable[[], torch.Tensor]:
    """Random queries and a full cache → the call that is timed."""
    b, h, generator = sequences, cfg.num_attention_heads, torch.Generator(device).manual_seed(1)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device, dtype=dtype)

    if way not in FORMS:
        cfg = variant_of(cfg, way)
        n, g = cfg.head_dim, cfg.num_key_value_heads
        q, k, v = random(b, s, h, n), random(b, t, g, n), random(b, t, g, n)
        return lambda: attend_grouped(q, k, v, n**-0.5)
    with torch.device(device):
        layer = MLA(replace(cfg, hidden_size=8, q_lora_rank=0)).to(dtype)  # only kv_b is used
    q_nope, q_rope = random(b, s, h, cfg.qk_nope_head_dim), random(b, s, h, cfg.qk_rope_head_dim)
    c, k_rope = random(b, t, cfg.kv_lora_rank), random(b, t, cfg.qk_rope_head_dim)
    attend = attend_absorbed if way == "MLA absorbed" else attend_expanded
    return lambda: attend(q_nope, q_rope, c, k_rope, layer.kv_b_proj, layer.scale)


@torch.no_grad()
def work(order: dict[str, Any]) -> dict[str, Any]:
    """Every point in every way, in milliseconds; None where the memory does not hold it."""
    cfg = config.load(order["preset"], order["changes"]).model
    return {"ms": [times(cfg, point, order) for point in order["points"]]}


def times(cfg: ModelConfig, point: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """One point, one way after the other."""
    device, found = order["device"], {}
    make = {"sequences": point["sequences"], "device": device}
    make["dtype"] = getattr(torch, order["dtype"])
    for way in point["ways"]:
        try:
            call = prepared(cfg, way, point["s"], point["t"], **make)
            step = waiting(call) if device == "cuda" else call
            found[way] = 1e3 * timed(step, order["seconds"] / len(point["ways"]))
        except torch.OutOfMemoryError:
            found[way] = None
        call = step = None
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def waiting(call: Callable[[], object]) -> Callable[[], None]:
    """The call with all its kernels: a GPU answers before it is done."""

    def step() -> None:
        call()
        torch.cuda.synchronize()

    return step


if __name__ == "__main__":
    raise SystemExit(answer(work))
