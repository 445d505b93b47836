"""Figures of lesson 12: what a rule of drafts draws, and what more drafts are worth."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minids.plot import COLOUR, panel, spread_labels

LAWS = COLOUR["text"], COLOUR["mla"], COLOUR["mha"]  # wanted, by the rule, by a wrong one
DEPTHS = COLOUR["mha"], COLOUR["gqa"], COLOUR["mla"]  # next token, one beyond, two beyond
CHANCES = COLOUR["mha"], COLOUR["train"], COLOUR["gqa"], COLOUR["mla"]


def laws(*, shares: dict[str, Sequence[float]], message: str, source: str) -> Figure:
    """shares[name][token]: how often each token comes, one group of bars per token."""
    figure, ax = panel(message, x="token", y="share, %", source=source)
    width = 0.8 / len(shares)
    for place, ((name, share), colour) in enumerate(zip(shares.items(), LAWS, strict=False)):
        at = [token + (place - (len(shares) - 1) / 2) * width for token in range(len(share))]
        ax.bar(at, [100 * s for s in share], width=0.92 * width, color=colour, label=name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=12)
    return figure


def tokens_by_drafts(
    *,
    drafts: Sequence[int],
    lines: dict[float, Sequence[float]],
    message: str,
    source: str,
    y: str = "tokens per pass of the main model",
) -> Figure:
    """lines[p]: tokens per pass over the number of drafts, each accepted with probability p."""
    figure, ax = panel(message, x="drafts per pass", y=y, source=source)
    ends = []
    for (p, tokens), colour in zip(lines.items(), CHANCES, strict=False):
        ax.plot(drafts, tokens, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((tokens[-1], f"{p:.0%} stay", colour))
    ax.set_ylim(bottom=1)
    ax.set_xlim(0, drafts[-1])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    spread_labels(ax, drafts[-1], ends)
    return figure
