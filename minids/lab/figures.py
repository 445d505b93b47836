"""Figures of the lessons, one function each, beside those of `minids.plot`: data in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from minids.plot import COLOUR, label_line, panel, panels, spread_labels


def singular_values(
    *, before: Sequence[float], after: Sequence[float], message: str, source: str
) -> Figure:
    """Of one matrix, largest first, on a log scale: as it is, and made orthogonal."""
    figure, ax = panel(message, x="singular value, by size", y="size", source=source)
    rank = range(1, len(before) + 1)
    ax.plot(rank, before, "o-", color=COLOUR["mha"], markersize=4)
    ax.plot(rank, after, "o-", color=COLOUR["mla"], markersize=4)
    ax.set_yscale("log")
    ax.set_xlim(1, len(before) * 1.28)
    label_line(ax, len(before), before[-1], "gradient", COLOUR["mha"])
    label_line(ax, len(before), after[-1], "after Muon", "#B87700")
    return figure


def bands(
    *,
    step: Sequence[int],
    runs: dict[str, Sequence[Sequence[float]]],
    colours: Sequence[str],
    y: str,
    message: str,
    source: str,
) -> Figure:
    """runs[name][seed][time]: the mean of each as a line, smallest to largest as a band."""
    figure, ax = panel(message, x="optimizer step", y=y, source=source)
    ends = []
    for (name, seeds), colour in zip(runs.items(), colours, strict=True):
        columns = list(zip(*seeds, strict=True))
        mean = [sum(column) / len(column) for column in columns]
        low, high = [min(column) for column in columns], [max(column) for column in columns]
        ax.fill_between(step, low, high, color=colour, alpha=0.3, linewidth=0)
        ax.plot(step, mean, color=colour, linewidth=2)
        ends.append((mean[-1], name, colour))
    ax.set_xlim(0, step[-1])
    spread_labels(ax, step[-1], ends)
    return figure


def loss_by_rate(
    *, rate: Sequence[float], runs: dict[str, Sequence[float]], message: str, source: str
) -> Figure:
    """runs[name][rate]: the last loss over the peak learning rate, one line per optimizer."""
    x, y = "peak learning rate", "last loss on new text, nats per token"
    figure, ax = panel(message, x=x, y=y, source=source)
    for (name, losses), colour in zip(runs.items(), OPTIMIZERS, strict=False):
        ax.plot(rate, losses, "o-", color=colour, linewidth=2)
        best = min(range(len(rate)), key=losses.__getitem__)
        ax.plot(rate[best], losses[best], "o", color=colour, markersize=11)
        ax.annotate(
            f"{losses[best]:.2f}", (rate[best], losses[best]), xytext=(0, -10), ha="center",
            textcoords="offset points", va="top", fontsize=12, color=colour, fontweight="bold",
        )  # fmt: skip
        label_line(ax, rate[-1], losses[-1], name, colour)
    ax.set_xscale("log")
    ax.set_xticks(rate, [f"{r:g}" for r in rate])
    ax.minorticks_off()
    ax.margins(y=0.2)
    return figure


OPTIMIZERS = COLOUR["gqa"], COLOUR["mla"], COLOUR["mha"]  # AdamW, Muon, plain descent


def schedules(
    *, runs: dict[str, tuple[Sequence[float], Sequence[float]]], message: str, source: str
) -> Figure:
    """runs[name] = (share of the run, share of the peak rate)."""
    figure, ax = panel(message, x="share of the run", y="share of the peak rate", source=source)
    colours = COLOUR["mla"], COLOUR["gqa"], COLOUR["floor"], COLOUR["rate"]
    for row, ((name, (progress, rate)), colour) in enumerate(
        zip(runs.items(), colours, strict=False)
    ):
        ax.plot(progress, rate, color=colour, linewidth=2)
        ax.text(0.08, 0.35 - 0.1 * row, name, fontsize=12, color=colour, fontweight="bold")
    ax.set_ylim(0, 1.08)
    ax.set_xlim(0, 1)
    return figure


def sick_and_twin(
    *,
    loss: Sequence[Sequence[float]],
    held_out: Sequence[Sequence[tuple[int, float]]],
    norm: Sequence[Sequence[float]],
    update: Sequence[Sequence[float]],
    rate: Sequence[Sequence[float]],
    load: Sequence[Sequence[float]],
    floor: float,
    message: str,
    source: str,
) -> Figure:
    """Six panels of a run beside its healthy twin; each argument holds first the ill one's.

    load: each expert's visits as a multiple of the fair share. The loss stands above its floor.
    """
    figure, axes = panels(message, source, rows=2, columns=3, width=7.8, height=4.3)
    names = [
        "training loss", "held-out loss", "gradient norm", "step size / weight size",
        "learning rate / peak", "load per expert, 1 = fair",
    ]  # fmt: skip
    held = [tuple(zip(*points, strict=True)) for points in held_out]
    columns: list = [loss, None, norm, update, rate]
    for ax, name, pair in zip(axes, names, [*columns, load], strict=True):
        ax.set_title(name, fontsize=10, loc="left")
        ax.tick_params(labelsize=8)
        if name.startswith("load"):
            continue
        for which in (1, 0):
            x, y = held[which] if pair is None else (range(len(pair[which])), pair[which])
            style = {"color": TWIN[which], "linewidth": 2 - 0.5 * which}
            ax.plot(x, y, "o-" if pair is None else "-", markersize=3, **style)
    for ax in axes[:2]:
        ax.axhline(floor, color=COLOUR["floor"], linewidth=1.5, linestyle="--")
        ax.set_ylim(bottom=0)
    axes[1].text(
        0.02, floor, "floor", transform=axes[1].get_yaxis_transform(), va="top",
        fontsize=10, color=COLOUR["floor"], fontweight="bold",
    )  # fmt: skip
    for ax in (axes[2], axes[3]):
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[4].set_ylim(0, 1.08)
    width, places = 0.4, range(len(load[0]))
    for which, side in ((0, -0.5), (1, 0.5)):
        at = [place + side * width for place in places]
        axes[5].bar(at, load[which], width=width, color=TWIN[which])
    axes[5].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for which, name in ((0, "this run"), (1, "healthy twin")):
        axes[4].text(
            0.5, 0.36 - 0.13 * which, name, transform=axes[4].transAxes, ha="center",
            fontsize=11, color=TWIN[which], fontweight="bold",
        )  # fmt: skip
    for ax in axes[3:5]:
        ax.set_xlabel("optimizer step", fontsize=10)
    axes[5].set_xlabel("expert", fontsize=10)
    return figure


TWIN = COLOUR["held out"], COLOUR["mha"]  # the ill run, the healthy one


def tokens_per_pass(
    *,
    measured: dict[str, float],
    reported: tuple[float, float],
    message: str,
    source: str,
) -> Figure:
    """measured[name]: share of single drafts that stay; the line is what a pass then gives."""
    x, y = "drafts accepted, %", "tokens per pass of the main model"
    figure, ax = panel(message, x=x, y=y, source=source)
    ax.plot([0, 100], [1, 2], color=COLOUR["text"], linewidth=1)
    ax.axvspan(100 * reported[0], 100 * reported[1], color=COLOUR["gqa"], alpha=0.25, linewidth=0)
    ax.text(100 * reported[0] - 1, 1.05, "DeepSeek-V3", ha="right", color=COLOUR["text"])
    for (name, rate), colour in zip(measured.items(), (COLOUR["mla"], COLOUR["mha"]), strict=False):
        ax.plot([100 * rate], [1 + rate], "o", color=colour, markersize=9)
        ax.annotate(name, (100 * rate, 1 + rate), xytext=(8, -14), textcoords="offset points")
    ax.set_xlim(0, 100)
    ax.set_ylim(1, 2)
    return figure
