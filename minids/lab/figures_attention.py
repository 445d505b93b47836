"""Figures of lessons 03 and 04: the bill of attention, who sees whom, angles, both layouts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from minids.plot import COLOUR, label_line, panel, panels, spread_labels

WAYS = COLOUR["held out"], COLOUR["mha"], COLOUR["gqa"]  # loops, einsum, fused
PAIR = COLOUR["gqa"], COLOUR["held out"]  # the honest one, the other


def three_ways(
    *,
    ms: dict[str, Sequence[tuple[int, float]]],
    megabytes: dict[str, Sequence[tuple[int, float]]],
    message: str,
    source: str,
) -> Figure:
    """Time and peak memory of each way, as (tokens, value), both on logarithmic scales."""
    figure, axes = panels(message, source, columns=2, width=9.0, height=4.6)
    for ax, unit, series in zip(axes, ("milliseconds", "megabytes"), (ms, megabytes), strict=True):
        for (name, points), colour in zip(series.items(), WAYS, strict=True):
            length, value = zip(*points, strict=True)
            ax.plot(length, value, "o-", color=colour, linewidth=2, markersize=4)
            label_line(ax, length[-1], value[-1], name, colour)
        every = sorted({length for points in series.values() for length, _ in points})
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(every[0] / 1.2, every[-1] * 3.4)
        ax.set_xticks(every[::2], [f"{length:,}" for length in every[::2]])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("tokens", fontsize=12)
        ax.set_ylabel(unit, fontsize=12)
    return figure


def who_sees_whom(
    *, sees: dict[str, Sequence[Sequence[float]]], message: str, source: str
) -> Figure:
    """sees[name][output][input]: how much an output depends on an input; one square per name."""
    figure, axes = panels(message, source, columns=len(sees), width=9.0, height=4.0)
    for ax, (name, square) in zip(axes, sees.items(), strict=True):
        top = max(max(row) for row in square)
        ax.imshow(square, cmap="Blues", vmin=0, vmax=top)
        last = len(square) - 0.5
        ax.plot([-0.5, last], [-0.5, last], color=COLOUR["held out"], linewidth=1.5)
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_xlabel("token that is read", fontsize=11)
    axes[0].set_ylabel("token that reads", fontsize=11)
    return figure


def below_the_floor(
    *,
    step: Sequence[int],
    runs: dict[str, Sequence[float]],
    floor: float,
    message: str,
    source: str,
) -> Figure:
    """Losses over steps, and the exact floor that no honest model can go below on average."""
    figure, ax = panel(message, x="optimizer step", y="loss, nats per token", source=source)
    ends = []
    for (name, losses), colour in zip(runs.items(), PAIR, strict=True):
        ax.plot(step, losses, color=colour, linewidth=2)
        ends.append((losses[-1], name, colour))
    ax.axhline(floor, color=COLOUR["floor"], linewidth=2, linestyle="--")
    ends.append((floor, f"floor {floor:.2f}", COLOUR["floor"]))
    ax.set_xlim(step[0], step[-1])
    ax.set_ylim(bottom=0)
    spread_labels(ax, step[-1], ends)
    return figure


def kinship(
    *, curves: dict[str, tuple[Sequence[float], Sequence[float]]], message: str, source: str
) -> Figure:
    """curves[name] = (distance in tokens, mean score of a vector with itself), log distance."""
    x, y = "distance, tokens", "score of a vector with itself"
    figure, ax = panel(message, x=x, y=y, source=source)
    ends, last = [], 1.0
    colours = COLOUR["gqa"], COLOUR["mla"], COLOUR["held out"], COLOUR["floor"]
    for (name, (distance, score)), colour in zip(curves.items(), colours, strict=False):
        ax.plot(distance, score, color=colour, linewidth=2)
        ends.append((score[-1], name, colour))
        last = distance[-1]
    ax.axhline(0, color=COLOUR["text"], linewidth=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(1, last)
    ax.set_ylim(-0.45, 1.05)
    spread_labels(ax, last, ends)
    return figure


def turns(
    *,
    pairs: dict[str, Sequence[float]],
    kept: int,
    divided: int,
    message: str,
    source: str,
) -> Figure:
    """pairs[name][pair]: tokens for one full turn; left of `kept` untouched, from `divided` on
    divided, in between blended."""
    figure, ax = panel(message, x="pair of channels", y="tokens for one full turn", source=source)
    rank = range(len(next(iter(pairs.values()))))
    ax.axvspan(kept, divided, color=COLOUR["mla"], alpha=0.15, linewidth=0)
    ends = []
    for (name, tokens), colour in zip(pairs.items(), (COLOUR["mha"], COLOUR["mla"]), strict=True):
        ax.plot(rank, tokens, "o-", color=colour, markersize=4)
        ends.append((tokens[-1], name, colour))
    for at, text, side in ((kept, "kept", "right"), (divided, "divided", "left")):
        shift = -0.5 if side == "right" else 0.5
        ax.text(at + shift, 4, text, ha=side, fontsize=12, color=COLOUR["text"])
    ax.text((kept + divided) / 2, 4, "blended", ha="center", fontsize=12, color=COLOUR["text"])
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(0, rank[-1])
    for value, name, colour in ends:
        label_line(ax, rank[-1], value, name, colour)
    return figure
