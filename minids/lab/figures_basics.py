"""Figures of lessons 00 to 02: roofline, pieces of a sentence, compression, a ladder of models."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

from minids.count.roofline import Rates
from minids.plot import COLOUR, label_line, panel, spread_labels

FORMATS = {"float32": COLOUR["gqa"], "bfloat16": COLOUR["mla"]}
TEXTS = COLOUR["gqa"], COLOUR["train"], COLOUR["mla"], COLOUR["held out"]
TILES = "#CFE8F7", "#FBE3B3"  # neighbours differ


def roofline(
    *,
    roof: dict[str, Rates],
    points: dict[str, Sequence[tuple[float, float]]],
    names: dict[float, str],
    message: str,
    source: str,
) -> Figure:
    """points[name]: (FLOP per byte, FLOP/s) as measured, below the roof of their machine.

    names: what stands at some of the intensities of the last series.
    """
    x, y = "intensity, FLOP per byte moved", "GFLOP/s"
    figure, ax = panel(message, x=x, y=y, source=source)
    every = [intensity for series in points.values() for intensity, _ in series]
    low, high = min(every) / 1.6, max(every) * 1.6
    for name, series in points.items():
        rates, colour = roof[name], FORMATS[name]
        bend = min(max(rates.ridge, low), high)
        reach = [min(rates.flops_per_s, at * rates.bytes_per_s) / 1e9 for at in (low, bend, high)]
        ax.plot([low, bend, high], reach, color=colour, linewidth=2)
        ax.plot(*zip(*[(i, r / 1e9) for i, r in series], strict=True), "o", color=colour, ms=8)
        label_line(ax, high, reach[-1], f"{name} {reach[-1]:,.0f}", colour)
    series = list(points.values())[-1]
    for at, text in names.items():
        near, rate = min(series, key=lambda point: abs(point[0] - at))
        ax.annotate(
            text, (near, rate / 1e9), xytext=(9, -13), textcoords="offset points",
            fontsize=11, color=COLOUR["text"],
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlim(low, high)
    return figure


def pieces(*, rows: dict[str, Sequence[str]], message: str, source: str) -> Figure:
    """rows[name]: one text in pieces; each piece a tile as wide as its letters."""
    figure, ax = panel(message, x="", y="", source=source)
    letters = max(sum(map(len, row)) for row in rows.values())
    size = min(11.0, 660 / letters)
    for place, (name, row) in enumerate(rows.items()):
        at = 0
        for number, piece in enumerate(row):
            tile = {"height": 0.7, "color": TILES[number % 2], "edgecolor": "white"}
            ax.barh(place, len(piece), left=at, linewidth=1.5, **tile)
            shown = piece.replace(" ", "␣")
            ax.text(at + len(piece) / 2, place, shown, ha="center", va="center",
                    fontsize=size, family="monospace", color=COLOUR["text"])  # fmt: skip
            at += len(piece)
        ax.text(-0.01 * letters, place, name, ha="right", va="center", fontsize=12)
        ax.text(at + 0.01 * letters, place, f"{len(row)}", va="center", fontsize=12)
    ax.set_xlim(0, letters)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_axis_off()
    return figure


def by_vocabulary(
    *, size: Sequence[int], lines: dict[str, Sequence[float]], message: str, source: str
) -> Figure:
    """lines[name]: bytes per token over the size of the vocabulary, which is on a log scale."""
    x, y = "tokens in the vocabulary", "bytes per token"
    figure, ax = panel(message, x=x, y=y, source=source)
    ends = []
    for (name, values), colour in zip(lines.items(), TEXTS, strict=False):
        ax.plot(size, values, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((values[-1], f"{name} {values[-1]:.2f}", colour))
    ax.set_xscale("log")
    ax.set_xticks(size, [f"{n:,}" for n in size])
    ax.minorticks_off()
    ax.set_xlim(size[0], size[-1])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MultipleLocator(1))
    spread_labels(ax, size[-1], ends)
    return figure


def ladder(
    *, bits: dict[str, float], floor: float, message: str, source: str, x: str = "bits per byte"
) -> Figure:
    """One bar a model, worst on top, and what no model can go below."""
    figure, ax = panel(message, x=x, y="", source=source)
    bars = ax.barh(list(bits), list(bits.values()), color=COLOUR["train"], height=0.62)
    ax.bar_label(bars, fmt="{:.2f}", padding=4, fontsize=12)
    ax.axvline(floor, color=COLOUR["floor"], linewidth=2, linestyle="--")
    ax.annotate(
        f"floor {floor:.2f}", (floor, -0.5), xytext=(4, 6), textcoords="offset points",
        va="bottom", fontsize=12, color=COLOUR["floor"], fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    ax.tick_params(axis="y", labelsize=12)
    ax.set_xlim(0, max(bits.values()) * 1.12)
    ax.invert_yaxis()
    return figure
