"""The claims in one picture: what is said, what arithmetic gives, and the verdict by colour."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from minids.count.claims import Claim
from minids.plot import COLOUR, panels

VERDICT = {"holds": COLOUR["floor"], "misleading": COLOUR["held out"], "unknowable": COLOUR["mha"]}
LETTERS = 78  # of a line of arithmetic


def verdicts(claims: Sequence[Claim], *, source: str) -> Figure:
    """A row for each claim, as they are given."""
    counted = Counter(claim.verdict for claim in claims)
    words = f"{counted['misleading']} mislead, {counted['unknowable']} nobody can know"
    message = f"{len(claims)} popular claims recomputed: {counted['holds']} hold, {words}"
    figure, [ax] = panels(message, source, width=14, height=1.2 + 0.62 * len(claims))
    for row, claim in enumerate(claims):
        colour = VERDICT[claim.verdict]
        ax.barh(row, 1.3, left=0, height=0.72, color=colour)
        ax.text(0.65, row, claim.verdict, ha="center", va="center", color="white", fontsize=11,
                fontweight="bold")  # fmt: skip
        ax.text(1.45, row, plain(claim.claim, 44), va="center", fontsize=11)
        said = textwrap.shorten(claim.arithmetic, 2 * LETTERS - 9, placeholder=" …")
        ax.text(6.0, row, plain(said, LETTERS), va="center", fontsize=9.5,
                color=COLOUR["text"])  # fmt: skip
    ax.set_xlim(0, 13.2)
    ax.set_ylim(len(claims) - 0.4, -0.6)
    ax.set_axis_off()
    return figure


def plain(text: str, letters: int) -> str:
    """Lines of so many letters; a dollar is a dollar, no mathematics."""
    return textwrap.fill(text, letters).replace("$", r"\$")
