"""Figures of reasoning: what each stage bought, what tokens buy, distilled against rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from minids.plot import COLOUR, panel, panels


def waterfall(
    *,
    stage: Sequence[str],
    share: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    start: Sequence[int],
    message: str,
    source: str,
) -> Figure:
    """A bar per stage from where it started to where it came, with its 95 % interval.

    `start` is the number of the stage it began from, −1 for nothing.
    """
    figure, ax = panel(message, x="", y="held-out problems right, %", source=source)
    for i, value in enumerate(share):
        base = share[start[i]] if start[i] >= 0 else 0.0
        colour = COLOUR["accuracy"] if value >= base else COLOUR["held out"]
        ax.bar(i, 100 * (value - base), bottom=100 * base, color=colour, width=0.62, alpha=0.85)
        ax.plot([i, i], [100 * low[i], 100 * high[i]], color=COLOUR["text"], linewidth=2.5)
        ax.plot([i - 0.31, i + 0.31], [100 * value] * 2, color=COLOUR["text"], linewidth=2)
        ax.text(i, 100 * high[i] + 2, f"{100 * value:.1f}", ha="center", fontsize=12)
        if start[i] >= 0:
            at, level = start[i], 100 * base
            ax.plot([at + 0.31, i + 0.31], [level, level], ":", color=COLOUR["mha"], linewidth=1)
    ax.set_xticks(range(len(stage)), stage, fontsize=11)
    ax.set_ylim(0, 112)
    ax.set_yticks(range(0, 101, 20))
    return figure


def frontier(curves: Mapping[str, Sequence[Any]], *, message: str, source: str) -> Figure:
    """Accuracy against tokens spent on a problem, a line per way, bands of 95 %.

    Points have .tokens and .share (an Interval).
    """
    figure, ax = panel(message, x="tokens spent on a problem", y="problems right, %", source=source)
    palette = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F")
    for (name, points), colour in zip(curves.items(), palette, strict=False):
        x = [p.tokens for p in points]
        y = [100 * p.share.value for p in points]
        ends = [100 * p.share.low for p in points], [100 * p.share.high for p in points]
        ax.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, y, "o-", color=colour, linewidth=2, markersize=6, label=name)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(0, 104)
    ax.legend(fontsize=11, frameon=False, loc="best")
    return figure


def growth(
    runs: Mapping[str, Sequence[tuple[int, float, float]]], *, message: str, source: str
) -> Figure:
    """Right answers and mean length over samplings, a line per rewarded stage.

    A point is (step, share right, tokens).
    """
    figure, (right, length) = panels(message, source, columns=2, width=10.0)
    palette = (COLOUR["accuracy"], COLOUR["held out"], COLOUR["floor"])
    for (name, points), colour in zip(runs.items(), palette, strict=False):
        step = [p[0] for p in points]
        right.plot(step, [100 * p[1] for p in points], color=colour, linewidth=2, label=name)
        length.plot(step, [p[2] for p in points], color=colour, linewidth=2)
    for ax, words in ((right, "sampled completions right, %"), (length, "tokens of a completion")):
        ax.set_xlabel("samplings", fontsize=12)
        ax.set_ylabel(words, fontsize=12)
        ax.set_ylim(bottom=0)
    right.set_ylim(0, 104)
    right.legend(fontsize=11, frameon=False, loc="lower right")
    return figure


def versus(arms: Sequence[Any], found: Any, *, source: str) -> Figure:
    """A line per seed from its start to what RL made of it, and to what distillation did."""
    figure, ax = panel(found.says, x="", y="held-out problems right, %", source=source)
    order = ("start", "rl", "distilled")
    colours = (COLOUR["mha"], COLOUR["gqa"], COLOUR["mla"])
    for seed in sorted({a.seed for a in arms}):
        mine = {a.arm: 100 * a.hits / a.n for a in arms if a.seed == seed}
        ax.plot(range(3), [mine[arm] for arm in order], "-", color="#BBBBBB", linewidth=1.5)
        for i, arm in enumerate(order):
            ax.plot(i, mine[arm], "o", color=colours[i], markersize=10)
            if seed == 1:
                ax.annotate(
                    f"{mine[arm]:.0f}", (i, mine[arm]), xytext=(10, 0), fontsize=12, va="center",
                    textcoords="offset points",
                )  # fmt: skip
    ax.set_xticks(range(3), ["pre-trained", "rewarded", "distilled"], fontsize=13)
    ax.set_xlim(-0.4, 2.5)
    ax.set_ylim(0, 105)
    return figure
