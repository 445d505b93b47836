"""The story of a road: what each stage bought, with intervals, and what it was paid with.

Every share is over one fixed held-out set, one completion of each problem, 95 % by Wilson; the cost
is that of the processor's own seconds, by rates that the report names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minids import plot, plot_reason
from minids.count.cores import CORE, Bill, Rate, bill
from minids.evaluate import Interval, wilson

HEAD = ("stage", "from", "right", "95 %", "bought", "longer", "tokens", "CPU min", "Wh", "$")
SHOWN = 3  # problems whose answers are shown stage by stage


class Row(NamedTuple):
    """One stage of the table."""

    stage: str
    start: str  # the stage it began from; "" from nothing
    right: Interval
    bought: float  # over where it started, share
    longer: Interval  # problems one level above training
    tokens: float
    seconds: float
    cpu_seconds: float
    bill: Bill
    parameters: int


def rows_of(stages: Sequence[Any], results: Sequence[Any], rate: Rate = CORE) -> list[Row]:
    """Stages as the recipe has them and what was measured → rows; a device's time is the wall's."""
    value = {r.stage: r.hits / max(1, r.n) for r in results}
    found = []
    for stage, r in zip(stages, results, strict=False):
        busy = r.cpu_seconds if rate.unit == "core" else r.seconds
        bought = value[r.stage] - value.get(stage.start, 0.0)
        longer = wilson(r.longer_hits, r.longer_n)
        found.append(
            Row(
                r.stage, stage.start, wilson(r.hits, r.n), bought, longer, r.tokens, r.seconds,
                r.cpu_seconds, bill(busy, rate), r.parameters,
            )
        )  # fmt: skip
    return found


def cells(row: Row) -> list[str]:
    """A row as text, in the order of HEAD."""
    return [
        row.stage,
        row.start or "nothing",
        f"{row.right.value:.1%}",
        f"{row.right.low:.1%} … {row.right.high:.1%}",
        f"{100 * row.bought:+.1f}",
        f"{row.longer.value:.1%}",
        f"{row.tokens:.1f}",
        f"{row.cpu_seconds / 60:.1f}",
        f"{row.bill.watt_hours:.2f}",
        f"{row.bill.dollars:.4f}",
    ]


def write(
    folder: Path,
    title: str,
    stages: Sequence[Any],
    results: Sequence[Any],
    *,
    source: str,
    rate: Rate = CORE,
) -> tuple[Path, list[Row]]:
    """report.md and its figures in `folder` → its path, and the rows of its table."""
    rows = rows_of(stages, results, rate)
    names = [r.stage for r in rows]
    figures = folder / "figures"
    waterfall = plot_reason.waterfall(
        stage=[name.replace("-", "\n", 1) for name in names],
        share=[r.right.value for r in rows],
        low=[r.right.low for r in rows],
        high=[r.right.high for r in rows],
        start=[names.index(r.start) if r.start in names else -1 for r in rows],
        message=said(stages, rows),
        source=source,
    )
    plot.save(waterfall, figures / "waterfall.png")
    lines = [
        f"# {title}",
        "",
        f"![What each stage bought](figures/waterfall.png)\n\nOne completion of each of "
        f"{results[0].n} problems that no stage trained on, at temperature 0.6; 95 % intervals by "
        f"Wilson over problems of this one seed. *bought*: points over the stage it began from; "
        f"*longer*: {results[0].longer_n} problems one level above training; *tokens*: mean length "
        f"of a completion.",
        "",
        *table(rows),
        "",
        *cost_part(rows, rate),
        *growth_part(folder, stages, source),
        *samples_part(results),
        "## What this does not show",
        "",
        "- One seed: another run would move more than these intervals, which are over problems.",
        "- The base's text holds worked solutions, one document in ten. Reward chooses that habit "
        "and makes it reliable; it does not invent it.",
        "- One narrow task with a verifier that cannot be argued with: longer problems show "
        "how far what was learned reaches.",
    ]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path, rows


def table(rows: Sequence[Row]) -> list[str]:
    """All stages and the sum of what they cost, in Markdown."""
    total = [
        f"{sum(r.cpu_seconds for r in rows) / 60:.1f}",
        f"{sum(r.bill.watt_hours for r in rows):.2f}",
        f"{sum(r.bill.dollars for r in rows):.4f}",
    ]
    return [
        f"| {' | '.join(HEAD)} |",
        "|" + "---|" * len(HEAD),
        *(f"| {' | '.join(cells(r))} |" for r in rows),
        f"| all |{' |' * (len(HEAD) - 4)} {' | '.join(total)} |",
    ]


def said(stages: Sequence[Any], rows: Sequence[Row]) -> str:
    """The sentence on top: what reward alone did, if it was tried, and where the road ended."""
    first, last = rows[0], rows[-1]
    paid = [r for s, r in zip(stages, rows, strict=False) if s.kind == "rl"]
    if not paid:
        return f"{first.stage}: {first.right.value:.1%} of held-out problems"
    zero = paid[0]
    begin = next(r.right.value for r in rows if r.stage == zero.start)
    text = f"Reward alone: {begin:.0%} → {zero.right.value:.1%}"
    return text if last is zero else f"{text}; the road ends at {last.right.value:.1%}"


def cost_part(rows: Sequence[Row], rate: Rate) -> list[str]:
    """Time, energy, money, and the assumption behind them."""
    seconds, busy = sum(r.seconds for r in rows), sum(r.cpu_seconds for r in rows)
    return [
        "## What it cost",
        "",
        f"{busy / 60:.1f} CPU-minutes within {seconds / 60:.1f} minutes by the clock (a busy "
        "machine stretches the clock, not the CPU-minutes), "
        f"{sum(r.bill.watt_hours for r in rows):.1f} Wh, "
        f"${sum(r.bill.dollars for r in rows):.3f}. Assumed: {rate.assumed}. Measuring is "
        "included.",
        "",
    ]


def growth_part(folder: Path, stages: Sequence[Any], source: str) -> list[str]:
    """Right answers and lengths while they were rewarded."""
    runs = {s.name: records(folder / s.name / "metrics.jsonl") for s in stages if s.kind == "rl"}
    runs = {name: found for name, found in runs.items() if found}
    if not runs:
        return []
    first = next(iter(runs.values()))
    ends = first[0]["length"], first[-1]["length"]
    verb = "grow" if ends[1] > 1.1 * ends[0] else "go"
    figure = plot_reason.growth(
        {
            name: [(r["step"], r["accuracy"], r["length"]) for r in found]
            for name, found in runs.items()
        },
        message=f"Rewarded, completions {verb} from {ends[0]:.0f} to {ends[1]:.0f} tokens; "
        "nobody asked for a length",
        source=source,
    )
    plot.save(figure, folder / "figures" / "growth.png")
    return [
        "## While it was rewarded",
        "",
        "![Right answers and lengths over samplings](figures/growth.png)",
        "",
        "Of the completions sampled for learning (temperature 1), on training problems.",
        "",
    ]


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def samples_part(results: Sequence[Any]) -> list[str]:
    """The same problems, answered before and after every stage."""
    lines = ["## Before and after", ""]
    for i, (prompt, _, _) in enumerate(results[0].samples[:SHOWN]):
        lines += [f"`{prompt}`", ""]
        for r in results:
            _, text, verdict = r.samples[i]
            shown = "".join(c if c.isprintable() else " " for c in text).replace("`", "′")
            lines.append(f"- {r.stage}: `{shown or ' '}` ({verdict})")
        lines.append("")
    return lines
