"""What a run folder remembers: its curves, its samples, how it was set up."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from minids.config import PRESETS, RunConfig, load, to_dict

T = TypeVar("T")


class History(NamedTuple):
    """One entry per step that was logged; empty lists where nothing was."""

    step: list[int]
    loss: list[float]  # nats per token; not finite where a step went wrong
    grad_norm: list[float]
    lr: list[float]
    load: list[list[list[int]]]  # step, expert layer, expert: tokens received
    skipped: list[int]  # steps whose update was not made
    held_out: list[tuple[int, float]]  # step, bits per byte
    tokens: int
    seconds: float  # of training alone


def read_history(folder: Path) -> History:
    """The curves of a run; a line that is not whole is passed over (the run may be going on)."""
    records = read_lines(folder / "metrics.jsonl")
    held_out = [(r["step"], r["bpb"]) for r in records if "bpb" in r]
    result = read_json(folder / "result.json")
    if "bpb" in result.get("metrics", {}):  # the last evaluation comes after the last step
        held_out = [p for p in held_out if p[0] < result["step"]]
        held_out.append((result["step"], result["metrics"]["bpb"]))
    last = records[-1] if records else {}
    return History(
        [r["step"] for r in records],
        [float(r["loss"]) for r in records],
        [float(r["grad_norm"]) for r in records],
        [float(r["lr"]) for r in records],
        [r.get("expert_load", []) for r in records],
        [r["step"] for r in records if r.get("skipped")],
        held_out,
        last.get("tokens", 0),
        last.get("elapsed_s", 0.0),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of a JSONL file."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"step", "loss", "grad_norm", "lr"} <= record.keys():
            found.append(record)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def smooth(
    step: Sequence[int], values: Sequence[float], points: int
) -> tuple[list[int], list[float]]:
    """Means over at most `points` stretches of equal length → last steps, means.

    Values that are not finite are left out.
    """
    kept = [(s, v) for s, v in zip(step, values, strict=True) if math.isfinite(v)]
    parts = [
        kept[i : i + stretch(kept, points)] for i in range(0, len(kept), stretch(kept, points))
    ]
    return [p[-1][0] for p in parts], [sum(v for _, v in p) / len(p) for p in parts]


def load_shares(history: History, points: int) -> tuple[list[int], list[list[list[float]]]]:
    """Load over time as multiples of the fair share: steps, then [layer][expert][stretch]."""
    kept = [(s, load) for s, load in zip(history.step, history.load, strict=True) if load]
    if not kept:
        return [], []
    size = stretch(kept, points)
    stretches = [kept[i : i + size] for i in range(0, len(kept), size)]
    parts = [[load for _, load in part] for part in stretches]
    layers = range(len(kept[0][1]))
    experts = range(len(kept[0][1][0]))
    shares = []
    for layer in layers:
        visits = [[sum(load[layer][e] for load in part) for e in experts] for part in parts]
        shares.append([[len(experts) * v[e] / max(1, sum(v)) for v in visits] for e in experts])
    return [part[-1][0] for part in stretches], shares


def stretch(items: Sequence, points: int) -> int:
    """Items per stretch so that at most `points` stretches cover them."""
    return max(1, math.ceil(len(items) / points))


def read_samples(folder: Path) -> list[tuple[int, str]]:
    """Step and text of every sample, oldest first, without control characters."""
    path = folder / "samples.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    text = "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
    parts = re.split(r"^--- step (\d+)\n", text, flags=re.MULTILINE)[1:]
    return [(int(s), t.strip("\n")) for s, t in zip(parts[::2], parts[1::2], strict=True)]


def spread(items: Sequence[T], n: int) -> list[T]:
    """At most n of the items, first and last included, evenly apart."""
    if len(items) <= n:
        return list(items)
    return [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)]


def expert_layers(cfg: RunConfig) -> list[str]:
    """Names in the order of the metrics: expert layers of the main model, then MTP modules."""
    model = cfg.model
    main = [f"layer {i}" for i in range(model.num_hidden_layers) if model.is_moe_layer(i)]
    depth = range(model.num_nextn_predict_layers)
    n = model.num_hidden_layers
    return main + [f"MTP module {u + 1}" for u in depth if model.is_moe_layer(n + u)]


def differences(cfg: RunConfig) -> str:
    """Fields that differ from the preset of the same name."""
    if not (PRESETS / f"{cfg.name}.toml").is_file():
        return "a file of its own, see config.toml"
    preset, mine = to_dict(load(cfg.name)), to_dict(cfg)
    found = [
        f"{section}.{name} {preset[section][name]} → {value}"
        for section in ("model", "data", "train")
        for name, value in mine[section].items()
        if preset[section][name] != value
    ]
    return ", ".join(found) if found else "exactly the preset"


def machine_words(folder: Path) -> str:
    """Device and precision, for the source line of a figure."""
    machine = read_json(folder / "run.json").get("machine", {})
    device, workers = machine.get("device", "?"), machine.get("workers", 1)
    return (
        f"{device}, {machine.get('precision', '?')}, {workers * machine.get('threads', 1)} core(s)"
    )
