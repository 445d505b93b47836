"""Figures of lesson 19: noise of a gradient, how far a batch moves, where a clip ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from minids.plot import COLOUR, label_line, panel

LINES = COLOUR["mla"], COLOUR["gqa"], COLOUR["held out"], COLOUR["floor"], COLOUR["rate"]


def curves(
    *,
    x: Sequence[float],
    lines: dict[str, Sequence[float]],
    across: str,
    up: str,
    message: str,
    source: str,
    log: str = "",
    bands: dict[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """lines[name] over x, names at the right ends; log: "x", "y" or both; bands[name] low, high."""
    figure, ax = panel(message, x=across, y=up, source=source)
    if "x" in log:
        ax.set_xscale("log")
        ax.set_xticks(list(x), [f"{value:g}" for value in x])
        ax.xaxis.set_minor_formatter(NullFormatter())
    if "y" in log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(x[0], x[-1])
    for (name, values), colour in zip(lines.items(), LINES, strict=False):
        if bands and name in bands:
            ax.fill_between(x, *bands[name], color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, values, "-", color=colour, linewidth=2.5)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    name_ends(ax, x[-1], lines, math.log if "y" in log else float)
    return figure


def name_ends(
    ax: Axes, x: float, lines: dict[str, Sequence[float]], height: Callable[[float], float]
) -> None:
    """Names at the right ends, moved apart where they would cover each other, on any scale."""
    low, high = (height(end) for end in ax.get_ylim())
    points = ax.bbox.height / ax.figure.dpi * 72  # height of the axes
    ends = [(lines[name][-1], name, colour) for name, colour in zip(lines, LINES, strict=False)]
    floor = -math.inf
    for value, name, colour in sorted(ends):
        natural = (height(value) - low) / (high - low) * points
        floor = max(natural, floor)
        label_line(ax, x, value, name, colour, above=round(floor - natural))
        floor += 16
