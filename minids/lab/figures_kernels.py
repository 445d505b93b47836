"""Figures of lesson 15: what a kernel reached under the roof of its machine."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from minids.count.roofline import Rates
from minids.plot import COLOUR, label_line, panel

WAYS = {
    "ours": COLOUR["mla"],
    "bfloat16": COLOUR["mha"],
    "torch": COLOUR["gqa"],
    "FP8": COLOUR["floor"],
}


def colour_of(name: str) -> str:
    """By its first word."""
    return WAYS.get(name.split(",")[0].split()[0], COLOUR["text"])


def under_the_roof(
    *,
    roofs: dict[str, Rates],
    points: dict[str, Sequence[tuple[float, float]]],
    message: str,
    source: str,
) -> Figure:
    """roofs: what a machine can do in each format; points[name]: (operations per byte, per second).

    A roof has a slope, where bytes decide, and a flat part, where multiplying does.
    """
    figure, ax = panel(message, x="operations per byte moved", y="TFLOP/s", source=source)
    low, high = 10.0, 1e4
    for name, rates in roofs.items():
        x = [low, rates.ridge, high]
        y = [min(rates.flops_per_s, at * rates.bytes_per_s) / 1e12 for at in x]
        ax.plot(x, y, color=colour_of(name), linewidth=2, linestyle="--")
        label_line(ax, high, y[-1], f"{name} {y[-1]:,.0f}", colour_of(name))
    for name, series in points.items():
        x, y = zip(*[(at, rate / 1e12) for at, rate in series], strict=True)
        ax.plot(x, y, "o", color=colour_of(name), markersize=8, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlim(low, high)
    if points:
        ax.legend(frameon=False, fontsize=11, loc="lower right", ncols=len(points))
    return figure
