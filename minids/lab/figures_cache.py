"""Figures of lessons 07 to 09: what a cache costs, in bytes and in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from minids.plot import COLOUR, label_line, panel

WAYS = {
    "MHA": COLOUR["mha"],
    "GQA": COLOUR["gqa"],
    "MQA": COLOUR["rate"],
    "MLA": COLOUR["mla"],
    "MLA absorbed": COLOUR["mla"],
    "MLA expanded": COLOUR["held out"],
    "no cache": COLOUR["held out"],
    "cache": COLOUR["floor"],
}


def over(
    *,
    x: Sequence[float],
    lines: dict[str, Sequence[float]],
    across: str,
    up: str,
    message: str,
    source: str,
    limit: tuple[str, float] | None = None,
) -> Figure:
    """lines[name]: something over tokens, both on log scales; its colour is that of its first word.

    A line may end early. limit: a name and a height, as a dashed line.
    """
    figure, ax = panel(message, x=across, y=up, source=source)
    ends: list[tuple[float, str, str, float]] = []
    for name, values in lines.items():
        colour = WAYS.get(name) or WAYS.get(name.split(",")[0], COLOUR["text"])
        ax.plot(x[: len(values)], values, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((values[-1], name, colour, x[len(values) - 1]))
    if limit:
        ax.axhline(limit[1], color=COLOUR["text"], linestyle=":", linewidth=1.5)
        ax.annotate(
            limit[0], (0.3, limit[1]), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", fontsize=11, color=COLOUR["text"],
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlim(x[0] / 1.1, x[-1])
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    apart, floor = (high / low) ** 0.07, 0.0  # a line of text, as a factor
    for value, name, colour, at in sorted(ends):
        place = max(value, floor) if at == x[-1] else value
        label_line(ax, at, place, name, colour)
        floor = place * apart if at == x[-1] else floor
    ax.set_xticks(x, [f"{value:,g}" for value in x])
    ax.tick_params(axis="x", labelsize=11 if len(x) < 8 else 9)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def bars(
    *, amount: dict[str, float], unit: str, chosen: str, message: str, source: str, digits: int = 0
) -> Figure:
    """One bar per name from zero, with its number; the chosen one stands out."""
    figure, ax = panel(message, x=unit, y="", source=source)
    colours = [COLOUR["mla"] if name == chosen else COLOUR["mha"] for name in amount]
    drawn = ax.barh(list(amount), list(amount.values()), color=colours)
    texts = [f"{value:,.{digits}f}" for value in amount.values()]
    ax.bar_label(drawn, texts, padding=4, fontsize=12)
    ax.set_xlim(0, 1.18 * max(amount.values()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    return figure


def spectrum(*, share: dict[str, Sequence[float]], at: int, message: str, source: str) -> Figure:
    """share[name][rank - 1]: variance left by the best `rank` directions, %; a mark at one rank."""
    figure, ax = panel(message, x="directions kept", y="variance that survives, %", source=source)
    colours = COLOUR["mla"], COLOUR["mha"], COLOUR["gqa"]
    for (name, values), colour in zip(share.items(), colours, strict=False):
        ranks = range(1, len(values) + 1)
        ax.plot(ranks, values, color=colour, linewidth=2)
        ax.plot(at, values[at - 1], "o", color=colour, markersize=9)
        label_line(ax, at, values[at - 1], f"{name}: {values[at - 1]:.0f} %", colour, above=-14)
    ax.axvline(at, color=COLOUR["text"], linestyle=":", linewidth=1.5)
    ax.set_xscale("log", base=2)
    ax.set_xlim(1, max(len(values) for values in share.values()))
    ax.set_ylim(0, 104)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return figure


def loss_by_size(*, found: dict[str, tuple[float, float]], message: str, source: str) -> Figure:
    """found[name] = (numbers kept per token and layer, loss); the size on a log scale."""
    x, y = "numbers kept per token and layer", "loss on new text, nats per token"
    figure, ax = panel(message, x=x, y=y, source=source)
    for name, (size, loss) in found.items():
        colour = WAYS.get(name, COLOUR["text"])
        ax.plot(size, loss, "o", color=colour, markersize=11)
        ax.annotate(
            f"{name} {loss:.3f}", (size, loss), xytext=(0, 11), textcoords="offset points",
            ha="center", fontsize=12, color=colour, fontweight="bold",
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.margins(x=0.18, y=0.3)
    sizes = sorted(size for size, _ in found.values())
    ax.set_xticks(sizes, [f"{size:,g}" for size in sizes])
    ax.xaxis.set_minor_formatter(NullFormatter())
    return figure
