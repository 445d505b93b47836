"""Figures of lesson 18: what k tries give, estimated three ways, and thinking under a budget."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from minids.plot import COLOUR, panel, spread_labels


def estimates(
    *,
    k: Sequence[int],
    draws: Sequence[Sequence[float]],
    lines: dict[str, Sequence[float]],
    message: str,
    source: str,
) -> Figure:
    """draws[k]: single draws of k tries, dots; lines[name]: estimates over k. All in per cent."""
    figure, ax = panel(message, x="k, tries of a problem", y="problems right, %", source=source)
    for at, values in zip(k, draws, strict=True):
        ax.plot([at] * len(values), values, "o", color=COLOUR["mha"], markersize=5, alpha=0.6)
    colours = COLOUR["mla"], COLOUR["gqa"], COLOUR["held out"]
    ax.set_ylim(0, 104)
    ax.set_xlim(k[0] - 0.2, k[-1] + 0.2)
    ends = []
    for (name, values), colour in zip(lines.items(), colours, strict=False):
        ax.plot(k, values, "-", color=colour, linewidth=2.5)
        ends.append((values[-1], f"{name} {values[-1]:.0f}", colour))
    spread_labels(ax, k[-1], ends)
    return figure


def budgets(
    *,
    tokens: Sequence[float],
    right: Sequence[tuple[float, float, float]],
    names: Sequence[str],
    waits: Sequence[tuple[float, float, float, str]],
    message: str,
    source: str,
) -> Figure:
    """right[i] = (share, low, high) in per cent over tokens; waits = (tokens, share, low, high)."""
    figure, ax = panel(message, x="tokens of a completion", y="problems right, %", source=source)
    share, low, high = zip(*right, strict=True)
    ax.fill_between(tokens, low, high, color=COLOUR["gqa"], alpha=0.15, linewidth=0)
    ax.plot(tokens, share, "o-", color=COLOUR["gqa"], linewidth=2, markersize=7)
    for x, y, name in zip(tokens, share, names, strict=True):
        ax.annotate(name, (x, y), xytext=(-6, 8), textcoords="offset points", fontsize=11,
                    ha="right", color=COLOUR["gqa"])  # fmt: skip
    for x, y, _, name in waits:
        ax.plot([x], [y], "s", color=COLOUR["held out"], markersize=9)
        ax.annotate(name, (x, y), xytext=(0, 12), textcoords="offset points", fontsize=12,
                    ha="center", color=COLOUR["held out"], fontweight="bold")  # fmt: skip
    ax.set_ylim(-2, 108)
    return figure
