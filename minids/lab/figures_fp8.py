"""Figures of lessons 13 and 14: what a byte can say, and what is lost by saying it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from minids.plot import COLOUR, label_line, panel, panels

COLOURS = {
    "E4M3": COLOUR["mla"],
    "E5M2": COLOUR["gqa"],
    "INT8": COLOUR["held out"],
    "bfloat16": COLOUR["text"],
    "float32": COLOUR["mha"],
    "per tensor": COLOUR["gqa"],
    "V3": COLOUR["mla"],
    "promoted": COLOUR["mla"],
    "never promoted": COLOUR["held out"],
    "unpromoted": COLOUR["held out"],
    "weights in FP8": COLOUR["rate"],
}
SPARE = COLOUR["floor"], COLOUR["rate"], COLOUR["train"], COLOUR["mha"]


def colour_of(name: str, place: int = 0) -> str:
    """A name's own colour, by its beginning; else one of a few."""
    found = [c for known, c in COLOURS.items() if name.startswith(known)]
    return found[-1] if found else SPARE[place % len(SPARE)]


def rounding(
    *, x: Sequence[float], lines: dict[str, Sequence[float]], message: str, source: str
) -> Figure:
    """lines[name]: the largest error near each magnitude, in % of the number; range and precision.

    100 % means that a number is lost.
    """
    figure, ax = panel(message, x="magnitude", y="error, % of the number", source=source)
    for place, (name, values) in enumerate(lines.items()):
        ax.plot(x, values, color=colour_of(name, place), linewidth=2.5, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(0.3, 150)
    ax.legend(frameon=False, fontsize=13, labelcolor="linecolor", loc="lower left")
    percent(ax)
    return figure


def sizes(
    *, parts: dict[str, Sequence[float]], low: float, high: float, message: str, source: str
) -> Figure:
    """parts[name]: log10 of magnitudes, as distributions; low … high is what a format can say."""
    figure, axes = panels(message, source, rows=len(parts), height=1.2 + 1.15 * len(parts))
    everything = [value for values in parts.values() for value in values]
    ends = min(everything), max([*everything, math.log10(high)]) + 0.3
    colours = COLOUR["mha"], COLOUR["gqa"], COLOUR["held out"], COLOUR["mla"]
    for ax, (name, values), colour in zip(axes, parts.items(), colours, strict=False):
        ax.hist(values, bins=90, range=ends, color=colour)
        ax.axvspan(math.log10(low), math.log10(high), color=COLOUR["floor"], alpha=0.15, lw=0,
                   zorder=0)  # fmt: skip
        ax.text(0.005, 0.9, name, transform=ax.transAxes, va="top", fontsize=12, color=colour,
                fontweight="bold")  # fmt: skip
        ax.set_xlim(ends)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))
        ax.tick_params(labelbottom=ax is axes[-1])
    axes[0].text(
        math.log10(high) - 0.1, axes[0].get_ylim()[1] * 0.9, "E4M3",
        ha="right", va="top", fontsize=12, color=COLOUR["floor"], fontweight="bold",
    )  # fmt: skip
    axes[-1].set_xlabel("magnitude", fontsize=12)
    return figure


def growing(
    *,
    x: Sequence[float],
    lines: dict[str, Sequence[float]],
    across: str,
    message: str,
    source: str,
    up: str = "error, %",
) -> Figure:
    """lines[name]: an error in %, over something that grows; both on log scales."""
    figure, ax = panel(message, x=across, y=up, source=source)
    ends = []
    for place, (name, values) in enumerate(lines.items()):
        colour = colour_of(name, place)
        ax.plot(x, values, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((values[-1], name, colour))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(x[0], x[-1])
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    apart, floor = (high / low) ** 0.07, 0.0  # a line of text, as a factor
    for value, name, colour in sorted(ends):
        floor = max(value, floor)
        label_line(ax, x[-1], floor, name, colour)
        floor *= apart
    percent(ax)
    return figure


def percent(ax) -> None:
    """Plain numbers on a logarithmic axis."""
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())


def shares(
    *, amount: dict[str, float], x: str, chosen: str, message: str, source: str, digits: int = 1
) -> Figure:
    """Bars with their numbers, one chosen."""
    figure, ax = panel(message, x=x, y="", source=source)
    colours = [COLOUR["mla"] if name == chosen else COLOUR["mha"] for name in amount]
    bars = ax.barh(list(amount), list(amount.values()), color=colours, height=0.62)
    ax.bar_label(bars, [f"{v:.{digits}f}" for v in amount.values()], padding=4, fontsize=12)
    ax.tick_params(axis="y", labelsize=12)
    ax.set_xlim(0, 1.15 * max(amount.values()) or 1)
    ax.invert_yaxis()
    return figure


def from_bfloat16(
    *, apart: dict[str, Sequence[float]], claim: float, message: str, source: str
) -> Figure:
    """apart[way][seed]: relative distance of a loss from bfloat16's; the claim as a band."""
    x = "held-out loss, relative to the bfloat16 run of the same seed, %"
    figure, ax = panel(message, x=x, y="", source=source)
    ax.axvspan(-100 * claim, 100 * claim, color=COLOUR["floor"], alpha=0.2, linewidth=0)
    ax.axvline(0, color=COLOUR["floor"], linewidth=1.5, linestyle="--")
    for row, (name, seeds) in enumerate(apart.items()):
        values = sorted(100 * value for value in seeds)
        colour = colour_of(name, row)
        ax.plot([values[0], values[-1]], [row, row], color=colour, linewidth=2, alpha=0.6)
        ax.plot(values, [row] * len(values), "o", color=colour, markersize=10)
        middle = values[len(values) // 2]
        ax.annotate(f"{middle:+.2f}", (middle, row), xytext=(0, 11), textcoords="offset points",
                    ha="center", fontsize=12, color=colour, fontweight="bold")  # fmt: skip
    ax.set_yticks(range(len(apart)), list(apart), fontsize=12)
    ax.set_ylim(len(apart) - 0.5, -0.6)
    ax.text(0, 0.01, f"±{100 * claim:g} %", transform=ax.get_xaxis_transform(), ha="center",
            va="bottom", fontsize=11, color=COLOUR["floor"])  # fmt: skip
    reach = max([100 * claim, *(abs(100 * v) for seeds in apart.values() for v in seeds)])
    ax.set_xlim(-1.15 * reach, 1.15 * reach)
    return figure
