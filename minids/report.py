"""The report of a run: what it reached, against what, how, and what it does not show.

`write_report` reads the run folder, evaluates the newest checkpoint and writes report.md and its
figures. Every number says over how many documents or questions it was taken. Where the data is not
at hand any more, the report says so and shows the way only.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from minids import evaluate, history, plot
from minids.config import RunConfig
from minids.data.load import Data, open_data
from minids.errors import UserError
from minids.evaluate import Interval, Kept, Score
from minids.history import History
from minids.nn import balance
from minids.runs import Run, all_cores, open_run

DOCUMENTS = 200  # held-out documents scored: ± 1 % on tales; `minids eval` takes all
QUESTIONS = 40  # per kind of fact
SAMPLES = 5
BINS = 120  # points of a curve, columns of a heat map


class Findings(NamedTuple):
    """What the evaluation of the newest checkpoint gave."""

    score: Score | None
    facts: list[Kept]
    missing: str  # why there is no score


def write_report(folder: Path) -> Path:
    """Evaluate the run in `folder`, write its report.md and figures → the path of the report."""
    run, past = open_run(folder), history.read_history(folder)
    with all_cores():
        data, findings = examine(run)
    source = f"{run.cfg.name} · {history.machine_words(folder)} · seed {run.cfg.train.seed}"
    parts = [
        *headline(run, findings),
        *loss_part(run, past, data, findings, source),
        *facts_part(folder, findings, source),
        *experts_part(folder, run.cfg, past, source),
        *samples_part(folder),
        *training_part(folder, past, source),
        "## What was run",
        "",
        *table(("", ""), conditions(run, past, data)),
        "",
        *limits_part(run.cfg, findings),
        *next_part(folder),
    ]
    path = folder / "report.md"
    try:
        path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}", f"{error.strerror}", "a writable folder", code=1) from error
    return path


def examine(run: Run) -> tuple[Data | None, Findings]:
    """Score held-out documents and ask for facts; data that is gone is a finding too.

    In the precision the run was trained in (tales, bfloat16 against float32: 0.001 % of the bits).
    """
    try:
        data = open_data(run.cfg, run.folder)
    except UserError as error:
        return None, Findings(None, [], error.line())
    run.model.compute_dtype = run.dtype
    score = evaluate.bits_per_byte(run.model, data.held_out[:DOCUMENTS], run.cfg.data.context)
    facts = evaluate.held_out_facts(data, QUESTIONS)
    return data, Findings(score, evaluate.cloze(run.model, facts, run.tokenizer), "")


def headline(run: Run, findings: Findings) -> list[str]:
    """The title, with the one number of the run."""
    score = findings.score
    what = f"step {run.step:,}"
    if score and score.above_floor:
        what += f", {score.above_floor.value:+.1%} above the exact floor"
    elif score:
        what += f", {score.bpb.value:.3f} bits per byte"
    warnings = [f"> {warning}" for warning in run.warnings]
    return [f"# {run.folder.name}: {what}", "", *warnings]


def loss_part(
    run: Run, past: History, data: Data | None, findings: Findings, source: str
) -> list[str]:
    """Held-out bits per byte against the floor, and the way there."""
    score = findings.score
    lines = ["## Loss against the floor", ""]
    if data and past.step:
        documents = data.held_out[:DOCUMENTS]
        n_tokens = sum(len(d.tokens) - 1 for d in documents)
        factor = n_tokens / sum(d.n_bytes for d in documents) / math.log(2)
        step, loss = history.smooth(past.step, past.loss, BINS)
        figure = plot.loss_against_floor(
            step=step,
            train=[factor * value for value in loss],
            held_out=past.held_out,
            floor=score.floor_bpb if score else None,
            unit="bits per byte",
            message=loss_message(past, score),
            source=source,
        )
        lines += [picture(run.folder, "loss.png", figure, "Loss against the exact floor"), ""]
    if not score:
        return [*lines, f"Not evaluated: {findings.missing}", ""]
    rows = [("bits per byte", f"{score.bpb.value:.4f}", plain(score.bpb))]
    if score.floor_bpb is not None and score.above_floor:
        rows += [
            ("exact floor (entropy of these documents)", f"{score.floor_bpb:.4f}", "exact"),
            ("above the floor", f"{score.above_floor.value:.2%}", percent(score.above_floor)),
        ]
    rows += [("nats per token", f"{score.loss:.4f}", "")]
    lines += table(("held out", "value", "95 % interval"), rows)
    lines += [
        "",
        f"{len(score.bits):,} documents, {sum(score.n_bytes):,} bytes, {score.n_tokens:,} tokens, "
        f"each document scored from its own start, in {str(run.dtype).removeprefix('torch.')}; "
        f"context {score.context} tokens"
        + (
            f"; {score.n_windows - len(score.bits)} further windows, overlapping by half."
            if score.n_windows > len(score.bits)
            else "."
        ),
        "The interval is over documents of this one model; another seed would move more.",
        "",
    ]
    return lines


def loss_message(past: History, score: Score | None) -> str:
    """The sentence on top of the loss figure."""
    if score and score.above_floor:
        share = score.above_floor.value
        return f"After {past.step[-1]:,} steps the model needs {share:.1%} more bits than the floor"
    if score:
        return f"After {past.step[-1]:,} steps: {score.bpb.value:.3f} bits per held-out byte"
    return f"{past.step[-1]:,} steps of training"


def facts_part(folder: Path, findings: Findings, source: str) -> list[str]:
    """The cloze test, where the data has facts."""
    facts = findings.facts
    if not facts:
        return []
    shares = [kept.share for kept in facts]
    figure = plot.cloze(
        kind=[kept.kind for kept in facts],
        share=[share.value for share in shares],
        low=[share.low for share in shares],
        high=[share.high for share in shares],
        chance=[kept.chance for kept in facts],
        message=facts_message(facts),
        source=source,
    )
    rows = [
        (k.kind, f"{k.hits} of {k.n}", f"{k.share.value:.0%}", percent(k.share), f"{k.chance:.0%}")
        for k in facts
    ]
    return [
        "## Does the story keep its facts?",
        "",
        picture(folder, "cloze.png", figure, "Facts kept, by kind, against chance"),
        "",
        *table(("fact", "right", "share", "95 % interval", "chance"), rows),
        "",
        "A held-out story is cut where a fact decides the next word. Right: the true word is "
        "likelier than every other candidate. Questions of one kind come from different stories.",
        "",
    ]


def facts_message(facts: Sequence[Kept]) -> str:
    """The sentence on top: a kind counts as kept where chance lies below its interval."""
    kept = [fact.kind for fact in facts if fact.share.low > fact.chance]
    lost = [fact.kind for fact in facts if fact.kind not in kept]
    if not kept:
        return "No kind of fact is kept better than by chance"
    if not lost:
        return "Every kind of fact is kept better than by chance"
    return f"Kept better than by chance: {', '.join(kept)}; not shown: {', '.join(lost)}"


def experts_part(folder: Path, cfg: RunConfig, past: History, source: str) -> list[str]:
    """How the load of the experts went."""
    step, shares = history.load_shares(past, BINS)
    if not shares:
        return []
    names = history.expert_layers(cfg)
    last = [[row[-1] for row in layer] for layer in shares]
    low, high = min(map(min, last)), max(map(max, last))
    message = f"At the end every expert carries {low:.2f} to {high:.2f} of its fair share"
    if low == 0:
        message = "At the end some experts receive no token"
    late = torch.tensor(shares)[:, :, -max(1, len(step) // 10) :].sum(-1)  # [L e]
    dead = [f"{names[layer]}, expert {e}" for layer, e in (late == 0).nonzero().tolist()]
    even = zip(names, balance.max_violation(late), balance.evenness(late), strict=True)
    figure = plot.expert_load_over_time(
        step=step, load=shares, layers=names, message=message, source=source
    )
    return [
        "## Expert load over time",
        "",
        picture(folder, "experts.png", figure, "Load of every expert over time"),
        "",
        f"{message} (mean of the last stretch of the figure)."
        + (f" Without a token in the last tenth: {'; '.join(dead)}." if dead else ""),
        "",
        "| last tenth | MaxVio (busiest / fair share − 1) | evenness (entropy / ln e) |",
        "|---|---|---|",
        *(f"| {name} | {vio:.2f} | {entropy:.3f} |" for name, vio, entropy in even),
        "",
    ]


def samples_part(folder: Path) -> list[str]:
    """The same request to the model as it was at different steps."""
    found = history.spread(history.read_samples(folder), SAMPLES)
    if not found:
        return []
    lines = ["## Samples by step", ""]
    for step, text in found:
        lines += [f"Step {step:,}:", "", *(f"    {line}" for line in text.splitlines()), ""]
    return lines


def training_part(folder: Path, past: History, source: str) -> list[str]:
    """Learning rate, gradient norm, skipped steps."""
    if not past.step:
        return []
    n = len(past.skipped)
    skipped = "no step was skipped" if not n else f"{n} step{'s' * (n > 1)} skipped"
    figure = plot.schedule_and_gradient(
        step=past.step,
        rate=past.lr,
        gradient=past.grad_norm,
        skipped=past.skipped,
        message=f"Learning rate and gradient norm: {skipped}",
        source=source,
    )
    return [
        "## Training",
        "",
        picture(folder, "training.png", figure, "Learning rate and gradient norm"),
        "",
    ]


def conditions(run: Run, past: History, data: Data | None) -> list[tuple[str, str]]:
    """What was run, on what, and how it differs from its preset: rows of a table."""
    machine = history.read_json(run.folder / "run.json").get("machine", {})
    workers, threads = machine.get("workers", "?"), machine.get("threads", "?")
    manifest = run.manifest
    n_parameters = sum(weight.numel() for weight in run.model.parameters())
    rows = [
        ("config", f"{run.cfg.name}; {history.differences(run.cfg)}"),
        ("data", f"{data.name}, fingerprint {data.fingerprint[:16]}" if data else "not at hand"),
        ("parameters", f"{n_parameters:,}, MTP modules included"),
        ("steps, tokens", f"{run.step:,} steps, {past.tokens:,} tokens"),
        ("time", f"{past.seconds / 60:.1f} minutes of training, evaluations and saves not counted"),
        ("machine", f"{machine.get('device', '?')}, {platform.platform(terse=True)}"),
        ("precision", f"{machine.get('precision', '?')} in matrix products"),
        ("processes", f"{workers} of {threads} thread(s); {machine.get('reason', '?')}"),
        ("versions", f"torch {manifest.get('torch', '?')}, Python {manifest.get('python', '?')}"),
        ("weights_sha256", f"`{manifest.get('weights_sha256', '?')}`"),
    ]
    faults = manifest.get("inject")
    return [*rows, ("faults on purpose", f"`{faults}`")] if faults else rows


def limits_part(cfg: RunConfig, findings: Findings) -> list[str]:
    """What a reader must not take from this report."""
    lines = [
        "One run, one seed: differences to another run are only meaningful beyond what seeds do.",
        "Nothing here is compared: whether MLA, experts or MTP pay at this size takes runs without "
        "them.",
    ]
    if findings.score and findings.score.floor_bpb is not None:
        lines.append(
            "The text is generated by a grammar, and that is why its floor is known. Coming near "
            "it says that this grammar was learned; it says nothing about real language."
        )
    elif findings.score:
        lines.append(
            "No floor is known for this text: bits per byte compare with other models on the same "
            "documents only."
        )
    if findings.facts:
        lines.append(
            "The cloze test asks one word among given ones; a freely told story can still go wrong."
        )
    if cfg.model.n_routed_experts:
        lines.append("Balanced load does not show that experts have become different.")
    return ["## What this run does not show", "", *(f"- {line}" for line in lines), ""]


def next_part(folder: Path) -> list[str]:
    """Commands to go on with."""
    return [
        "## Try next",
        "",
        f'    minids sample {folder} --prompt "Once there was"',
        f"    minids chat {folder}",
        f"    minids eval {folder}",
        f"    minids inspect {folder}",
        "    minids train --tiny --set model.n_routed_experts=0",
    ]


def picture(folder: Path, name: str, figure, words: str) -> str:
    """Save a figure beside the report → the line that shows it."""
    path = plot.save(figure, folder / "figures" / name)
    return f"![{words}]({path.relative_to(folder).as_posix()})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cell.replace('|', '·') for cell in row)} |" for row in rows),
    ]


def percent(interval: Interval) -> str:
    """0.031 … 0.043 → 3.1 … 4.3 %."""
    if not interval.is_known:
        return "one document: unknown"
    return f"{100 * interval.low:.1f} … {100 * interval.high:.1f} %"


def plain(interval: Interval) -> str:
    """The same for numbers that are not shares."""
    if not interval.is_known:
        return "one document: unknown"
    return f"{interval.low:.4f} … {interval.high:.4f}"
