"""Figures of a model at work: data in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from minids.plot import COLOUR, panel


def waiting(
    seconds: dict[int, Sequence[float]], *, single: float, message: str, source: str
) -> Figure:
    """How long each client waited, by how many asked at once, in answers of a single one."""
    figure, ax = panel(message, x="clients that ask at once", y="answers long", source=source)
    for n, waited in seconds.items():
        ax.plot([n] * len(waited), [w / single for w in waited], "o", ms=8, color=COLOUR["gqa"])
    most = max(seconds)
    ax.plot([1, most], [1, most], "--", color=COLOUR["floor"], linewidth=2)
    ax.annotate(
        "one after the other",
        (most, most),
        xytext=(-8, 0),
        textcoords="offset points",
        ha="right",
        color=COLOUR["floor"],
        fontsize=12,
    )
    ax.set_xticks(list(seconds))
    ax.set_ylim(bottom=0)
    return figure
