"""Figures of lessons 10 and 11: what experts cost, what they allow, how evenly they work."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from minids.plot import COLOUR, label_line, panel, panels, spread_labels

WAYS = COLOUR["text"], COLOUR["mha"], COLOUR["gqa"], COLOUR["mla"]
DESIGNS = COLOUR["mha"], COLOUR["gqa"], COLOUR["mla"]
ARMS = COLOUR["mha"], COLOUR["gqa"], COLOUR["mla"]  # nothing, a loss, a bias


def over_tokens(
    *,
    tokens: Sequence[int],
    lines: dict[str, Sequence[float]],
    y: str,
    message: str,
    source: str,
    log: bool = True,
) -> Figure:
    """lines[name]: something over the number of tokens at once, which is on a log scale."""
    figure, ax = panel(message, x="tokens at once", y=y, source=source)
    ends = []
    for (name, values), colour in zip(lines.items(), WAYS, strict=False):
        ax.plot(tokens, values, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((values[-1], name, colour))
    ax.set_xscale("log", base=2)
    ax.set_xlim(tokens[0], tokens[-1])
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        for value, name, colour in apart(ends):
            label_line(ax, tokens[-1], value, name, colour)
    else:
        ax.set_ylim(0, 1.08 * max(max(values) for values in lines.values()))
        spread_labels(ax, tokens[-1], ends)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return figure


def apart(ends: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Ends of lines on a log scale, at least a third apart, so that names do not touch."""
    found: list[tuple[float, str, str]] = []
    for value, name, colour in sorted(ends):
        low = found[-1][0] * 1.35 if found else 0.0
        found.append((max(value, low), name, colour))
    return found


def combinations(
    *, parts: Sequence[int], digits: Sequence[float], chosen: int, message: str, source: str
) -> Figure:
    """digits[i]: log10 of the sets of experts a token can choose, each expert cut into parts[i]."""
    x, y = "parts that each expert is cut into", "sets to choose from, as a power of ten"
    figure, ax = panel(message, x=x, y=y, source=source)
    colours = [COLOUR["mla"] if part == chosen else COLOUR["mha"] for part in parts]
    bars = ax.bar([str(part) for part in parts], digits, color=colours)
    ax.bar_label(bars, [f"10^{d:.1f}" for d in digits], padding=3, fontsize=12)
    ax.set_ylim(0, 1.15 * max(digits))
    return figure


def shares(
    *,
    share: dict[str, float],
    chosen: str,
    message: str,
    x: str,
    source: str,
    high: float | None = None,
) -> Figure:
    """One bar per name, zero-based, with its number; the chosen one stands out."""
    figure, ax = panel(message, x=x, y="", source=source)
    colours = [COLOUR["mla"] if name == chosen else COLOUR["mha"] for name in share]
    bars = ax.barh(list(share), list(share.values()), color=colours)
    ax.bar_label(bars, [f"{value:,.2f}" for value in share.values()], padding=4, fontsize=12)
    ax.set_xlim(0, high or 1.15 * max(share.values()))
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    return figure


def sorted_loads(*, load: dict[str, Sequence[float]], message: str, source: str) -> Figure:
    """load[name][expert] as a multiple of the fair share: one panel each, busiest first."""
    figure, axes = panels(message, source, columns=len(load), height=3.8)
    top = 1.1 * max(max(values) for values in load.values())
    for ax, (name, values), colour in zip(axes, load.items(), ARMS, strict=False):
        ax.bar(range(1, len(values) + 1), sorted(values, reverse=True), color=colour)
        ax.axhline(1, color=COLOUR["floor"], linestyle="--", linewidth=2)
        ax.set_title(name, fontsize=12, loc="left")
        ax.set_ylim(0, top)
        ax.set_xlabel("expert, busiest first", fontsize=11)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("load, 1 = fair share", fontsize=12)
    return figure


def balance_and_quality(
    *, runs: dict[str, Sequence[tuple[float, float]]], message: str, source: str
) -> Figure:
    """runs[name][seed] = (MaxVio, loss): a point per run, the mean of each name as a large one."""
    x, y = "MaxVio: busiest expert over the fair share, minus 1", "loss on new text, nats per token"
    figure, ax = panel(message, x=x, y=y, source=source)
    places = zip(runs.items(), ARMS, (14, -26, 14), strict=False)  # names above, below, above
    for (name, points), colour, above in places:
        vio, loss = ([point[axis] for point in points] for axis in (0, 1))
        ax.plot(vio, loss, "o", color=colour, markersize=6, alpha=0.6)
        middle = sum(vio) / len(vio), sum(loss) / len(loss)
        ax.plot(*middle, "D", color=colour, markersize=11)
        ax.annotate(
            name, middle, xytext=(10, above), textcoords="offset points", ha="left",
            fontsize=13, color=colour, fontweight="bold",
        )  # fmt: skip
    ax.margins(x=0.15, y=0.35)
    ax.set_xlim(left=0)
    return figure
