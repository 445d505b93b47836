"""The report of a run: what was trained, how far above the floor it is, what it does not show.

`report.md` with its figures lies in the run folder and is made from files there alone, so it can be
written again at any time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from minids import config, plot
from minids.errors import UserError

SMOOTH = 20  # steps averaged in the training curve
COLUMNS = 120  # time columns of the expert heat map


class Record(NamedTuple):
    """What a run folder says of itself."""

    folder: Path
    cfg: config.RunConfig
    lines: list[dict[str, Any]]  # of metrics.jsonl
    result: dict[str, Any]  # of the last finish; {} for a run still going
    started: dict[str, Any]  # of run.json
    samples: list[tuple[int, str]]


def write_report(folder: Path) -> Path:
    """Write report.md and its figures → its path. Raises UserError if there was no step yet."""
    record = read(folder)
    figures = draw(record)
    for name, figure in figures.items():
        plot.save(figure, folder / "figures" / f"{name}.png")
    path = folder / "report.md"
    path.write_text("\n".join(text(record, list(figures))) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> Record:
    """A run folder's own words."""
    lines = []
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:  # a run that is writing right now
            break
    if not lines:
        raise UserError("RUN", f"{folder} has no step to report", "a run with at least one step")
    return Record(
        folder,
        config.load(str(folder / "config.toml")),
        lines,
        json_of(folder / "result.json"),
        json_of(folder / "run.json"),
        samples_of(folder / "samples.txt"),
    )


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def samples_of(path: Path) -> list[tuple[int, str]]:
    """(step, text) of every sample."""
    if not path.is_file():
        return []
    blocks = path.read_text(encoding="utf-8").split("--- step ")[1:]
    split = [block.partition("\n") for block in blocks]
    return [(int(step), body.strip()) for step, _, body in split]


def draw(record: Record) -> dict[str, plot.Figure]:
    """The figures by name."""
    lines = [x for x in record.lines if math.isfinite(x["loss"])]
    source = source_of(record)
    steps = [x["step"] for x in lines]
    factor = bpb_factor(record)
    smooth = smoothed([x["loss"] * factor for x in lines])
    held_out = [(x["step"], x["bpb"]) for x in record.lines if "bpb" in x]
    metrics = record.result.get("metrics", {})
    if "bpb" in metrics and (not held_out or held_out[-1][0] != record.result["step"]):
        held_out.append((record.result["step"], metrics["bpb"]))
    floor = metrics.get("floor_bpb")
    figures = {
        "loss": plot.loss_against_floor(
            step=steps,
            train=smooth,
            held_out=held_out if factor != 1.0 else [],
            floor=floor,
            unit="bits per byte" if factor != 1.0 else "nats per token",
            message=headline(record),
            source=source,
        ),
        "schedule": plot.schedule_and_gradient(
            step=[x["step"] for x in record.lines],
            rate=[x["lr"] for x in record.lines],
            gradient=[x["grad_norm"] for x in record.lines],
            skipped=[x["step"] for x in record.lines if x["skipped"]],
            message="How large the steps were, and the gradients behind them",
            source=source,
        ),
    }
    if record.lines[0]["expert_load"]:
        figures["experts"] = plot.expert_load_over_time(
            step=steps,
            load=load_columns(lines),
            layers=list(range(1, len(lines[0]["expert_load"]) + 1)),
            message=balance_sentence(lines),
            source=source,
        )
    return figures


def bpb_factor(record: Record) -> float:
    """Nats per token → bits per byte, from a held-out evaluation; 1 if there was none."""
    for values in (record.result.get("metrics", {}), *reversed(record.lines)):
        if values.get("val_loss") and values.get("bpb"):
            return values["bpb"] / values["val_loss"]
    return 1.0


def smoothed(values: list[float]) -> list[float]:
    """Running mean of the last SMOOTH values."""
    out, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - SMOOTH] if i >= SMOOTH else 0.0)
        out.append(total / min(i + 1, SMOOTH))
    return out


def load_columns(lines: list[dict[str, Any]]) -> list[list[list[float]]]:
    """Load of each layer's experts over time as shares of the mean: [layer][expert][column]."""
    width = max(1, -(-len(lines) // COLUMNS))
    parts = [lines[i : i + width] for i in range(0, len(lines), width)]
    found = []
    for layer, first in enumerate(lines[0]["expert_load"]):
        sums = [
            [sum(x["expert_load"][layer][e] for x in part) for part in parts]
            for e in range(len(first))
        ]
        means = [sum(column) / len(first) or 1.0 for column in zip(*sums, strict=True)]
        found.append([[v / m for v, m in zip(row, means, strict=True)] for row in sums])
    return found


def balance_sentence(lines: list[dict[str, Any]]) -> str:
    """The busiest expert of the last tenth, as a sentence."""
    last = lines[-max(1, len(lines) // 10) :]
    worst = 0.0
    for layer, first in enumerate(last[0]["expert_load"]):
        sums = [sum(x["expert_load"][layer][e] for x in last) for e in range(len(first))]
        worst = max(worst, max(sums) * len(sums) / max(1, sum(sums)))
    return f"At the end the busiest expert works {worst:.2f} times its fair share"


def headline(record: Record) -> str:
    """What the loss figure says."""
    metrics = record.result.get("metrics", {})
    if "above_floor" in metrics:
        return f"Held-out text costs {metrics['above_floor']:.1%} more than the best model possible"
    if "bpb" in metrics:
        return f"Held-out text costs {metrics['bpb']:.3f} bits per byte"
    return "The training loss"


def source_of(record: Record) -> str:
    """Preset, machine and seed, for the corner of a figure."""
    machine = record.started.get("machine", {})
    return f"{record.cfg.name} · {machine_of(machine)} · seed {record.cfg.train.seed}"


def machine_of(machine: dict[str, Any]) -> str:
    """How the run used its machine."""
    threads = f"{machine.get('workers')} × {machine.get('threads')} threads"
    return f"{machine.get('device')} {machine.get('precision')}, {threads}"


def text(record: Record, figures: list[str]) -> list[str]:
    """The report, line by line."""
    result, cfg, last = record.result, record.cfg, record.lines[-1]
    metrics, machine = result.get("metrics", {}), record.started.get("machine", {})
    lines = [f"# {cfg.name}: {headline(record)}", ""]
    rows = [
        ("steps", f"{last['step']:,}"),
        ("tokens", f"{last['tokens']:,}"),
        ("training time", f"{last['elapsed_s']:.0f} s (evaluation, samples and saves excluded)"),
        ("tokens per second", f"{last['tokens'] / max(last['elapsed_s'], 1e-9):,.0f}"),
        ("machine", f"{machine_of(machine)}: {machine.get('reason')}"),
        ("skipped steps", str(sum(x["skipped"] for x in record.lines))),
    ]  # fmt: skip
    if "bpb" in metrics:
        rows.append(("held-out bits per byte", f"{metrics['bpb']:.4f}"))
    if "floor_bpb" in metrics:
        rows.append(("exact floor", f"{metrics['floor_bpb']:.4f}"))
        rows.append(("above the floor", f"{metrics['above_floor']:.1%}"))
    if "weights_sha256" in result:
        rows.append(("weights_sha256", f"`{result['weights_sha256']}`"))
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += [line for name in figures for line in (f"![{name}](figures/{name}.png)", "")]
    if record.samples:
        lines += ["## What it wrote, as it learned", ""]
        for step, body in spread(record.samples):
            lines += [f"**step {step}**", "", f"> {' '.join(body.split())}", ""]
    lines += ["## What this does not show", "", *(f"- {x}" for x in caveats(record)), ""]
    lines += [
        "## Next",
        "",
        f'    minids sample {record.folder} --prompt "Once there was"',
        f"    minids eval {record.folder}",
        f"    minids inspect {record.folder}",
        f"    minids train --config {cfg.name} --seed 2",
    ]
    return lines


def spread(samples: list[tuple[int, str]], n: int = 6) -> list[tuple[int, str]]:
    """At most n samples, evenly over the run, the last one among them."""
    if len(samples) <= n:
        return samples
    return [samples[round(i * (len(samples) - 1) / (n - 1))] for i in range(n)]


def caveats(record: Record) -> list[str]:
    """Honest limits of this run."""
    found = [
        "One seed: another one ends a little higher or lower; differences below 1 % are noise."
    ]
    if record.cfg.data.name == "tales":
        found += [
            "The stories come from a grammar of a thousand words. That the model learned it says "
            "little about real language, where nobody knows the floor.",
            f"Held-out bits are of {record.cfg.train.eval_documents} stories of the same grammar "
            "that were never trained on, not of another kind of text.",
        ]
    if record.cfg.model.n_routed_experts:
        found.append(
            "At this size experts, latent attention and multi-token prediction cost more than they "
            "bring; they are here because they are what DeepSeek-V3 is made of."
        )
    return found
