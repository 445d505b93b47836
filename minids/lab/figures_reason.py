"""Figures of lessons 16 to 23: what tuning and reward buy, and what a rule pays for."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from minids.plot import COLOUR, label_line, panel, panels, spread_labels

LINES = COLOUR["mla"], COLOUR["gqa"], COLOUR["rate"], COLOUR["floor"], COLOUR["held out"]
PIECES = COLOUR["gqa"], COLOUR["mla"], COLOUR["floor"], COLOUR["rate"], COLOUR["train"]


def shares(
    *,
    x: Sequence[float],
    lines: dict[str, Sequence[float]],
    across: str,
    message: str,
    source: str,
    up: str = "held-out problems, %",
) -> Figure:
    """lines[name]: a share in per cent over examples, steps or tokens; names at the right ends."""
    figure, ax = panel(message, x=across, y=up, source=source)
    ax.set_ylim(0, 104)
    ax.set_xlim(x[0], x[-1])
    ends = []
    for (name, values), colour in zip(lines.items(), LINES, strict=False):
        ax.plot(x, values, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((values[-1], f"{name} {values[-1]:.0f}", colour))
    spread_labels(ax, x[-1], ends)
    return figure


def arms(
    *,
    found: dict[str, tuple[float, float, float]],
    unit: str,
    message: str,
    source: str,
    chosen: str = "",
) -> Figure:
    """found[name] = (value, low, high): a bar, its number and its interval; one stands out."""
    figure, ax = panel(message, x=unit, y="", source=source)
    colours = [COLOUR["mla"] if name == chosen else COLOUR["mha"] for name in found]
    values, low, high = (list(column) for column in zip(*found.values(), strict=True))
    ax.barh(list(found), values, color=colours)
    ends = (
        [max(0.0, v - a) for v, a in zip(values, low, strict=True)],
        [max(0.0, b - v) for v, b in zip(values, high, strict=True)],
    )
    ax.errorbar(
        values, list(found), xerr=ends, fmt="none", ecolor=COLOUR["text"], capsize=4, linewidth=1.5
    )
    top = max(high)
    for place, (value, end) in enumerate(zip(values, high, strict=True)):
        ax.annotate(f"{value:,.0f}", (end, place), xytext=(6, 0), textcoords="offset points",
                    va="center", fontsize=12)  # fmt: skip
    ax.set_xlim(0, 1.12 * top if top else 1)
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    return figure


def who_sees_whom(
    *, segment: Sequence[int], seen: Sequence[Sequence[bool]], message: str, source: str
) -> Figure:
    """seen[s][t] of one packed row, coloured by the example of the query; 0 in segment is padding.

    Two panels: what the row looks like to the model, and what plain causal attention would show.
    """
    figure, axes = panels(message, source, columns=2, width=8.0, height=4.4)
    n = len(segment)
    own = [[segment[s] if seen[s][t] else 0 for t in range(n)] for s in range(n)]
    plain = [[segment[s] if t <= s else 0 for t in range(n)] for s in range(n)]
    most = max(segment)
    colours = ListedColormap(["#F2F2F2", *(PIECES[i % len(PIECES)] for i in range(most))])
    for ax, table, name in zip(axes, (own, plain), ("each for itself", "only causal"), strict=True):
        ax.imshow(table, cmap=colours, vmin=-0.5, vmax=most + 0.5, interpolation="nearest")
        ax.set_title(name, fontsize=12, loc="left")
        ax.set_xlabel("looked at", fontsize=11)
        ax.set_ylabel("looks", fontsize=11)
    return figure


def seconds_to_judge(
    *, x: Sequence[float], lines: dict[str, Sequence[float]], message: str, source: str
) -> Figure:
    """lines[name]: seconds for one answer over the exponent in it, on a log scale."""
    figure, ax = panel(message, x="last exponent of the answer", y="seconds", source=source)
    for (name, values), colour in zip(lines.items(), (LINES[4], LINES[0]), strict=False):
        ax.plot(x, values, "o-", color=colour, linewidth=2, markersize=6)
        label_line(ax, x[-1], values[-1], name, colour)
    ax.set_yscale("log")
    ax.set_xticks(list(x), [f"{value:g}" for value in x])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return figure
