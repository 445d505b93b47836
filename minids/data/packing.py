"""Pieces and rows: how documents of every length fill rows of `context` tokens.

A document that fits is one piece and never cut. A longer one is cut into windows of `context`, at
borders that move every epoch, so that no token is always the first of its window. Rows are
filled exactly where any choice among the waiting pieces allows it, a subset-sum problem that is
small enough to solve. What stays open is padded when it is a sliver and else filled by cropping:
the rest of a window waits for another row. The rest of a whole document is dropped, so one is
cropped only for a gap of more than a quarter: else short documents would lose their ends, always.

    waiting  [120] 200 90 75 61 …       row of 256: the oldest, 120, and 75 + 61 = 136, no gap
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SLIVER = 16  # gaps up to 1/16 of a row are padded: a crop that short teaches nothing
WIDEST = 4  # up to 1/4 where only whole documents could fill them


class Piece(NamedTuple):
    """Tokens `start … start + length` of a document, to stand in a row."""

    document: int
    start: int
    length: int  # positions it fills
    tokens: np.ndarray  # those tokens and, where the document goes on, the next one

    @property
    def label(self) -> str:
        """Its name in logs: document, and where it starts unless at the beginning."""
        return f"{self.document}:{self.start}" if self.start else f"{self.document}"

    @property
    def is_whole(self) -> bool:
        """A document from its beginning to its end."""
        return self.start == 0 and len(self.tokens) == self.length


def cut(document: int, tokens: np.ndarray, start: int, length: int) -> Piece:
    """One piece of a document given as a whole."""
    return Piece(document, start, length, tokens[start : start + length + 1])


def windows(lengths: np.ndarray, phase: np.ndarray, context: int) -> tuple[np.ndarray, ...]:
    """Every token of every document in exactly one window → (document, start, length) of each.

    lengths, phase [n]: a document longer than `context` has borders at phase, phase + context, …
    with phase in 0 … context - 1; a shorter one is a single window.
    """
    first = np.where(lengths > context, phase % context, 0)  # a shorter window before the others
    n_windows = (first > 0) + -(-(lengths - first) // context)
    document = np.repeat(np.arange(len(lengths)), n_windows)
    number = np.arange(len(document)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    late = np.where(first > 0, context - first, 0)[document]
    start = np.maximum(0, number * context - late)
    stop = np.minimum(lengths[document], (number + 1) * context - late)
    return document, start, stop - start


def take_row(waiting: list[Piece], context: int) -> list[Piece]:
    """Remove from `waiting` (oldest first, not empty) the pieces of the next row.

    The oldest is always among them, so nothing waits for ever.
    """
    room = context - waiting[0].length
    chosen = [0] + [1 + i for i in best_fit([p.length for p in waiting[1:]], room)]
    row = [waiting[i] for i in chosen]
    for i in reversed(chosen):
        del waiting[i]
    gap = context - sum(piece.length for piece in row)
    only_whole = all(piece.is_whole for piece in waiting)
    if waiting and gap > context // (WIDEST if only_whole else SLIVER):
        row.append(crop(waiting, gap))
    return row


def crop(waiting: list[Piece], gap: int) -> Piece:
    """The beginning of a waiting piece; every one of them is longer than the gap.

    Windows go first, then the shortest document, of which least is dropped.
    """
    i = min(range(len(waiting)), key=lambda i: (waiting[i].is_whole, waiting[i].length))
    document, start, length, tokens = piece = waiting.pop(i)
    if not piece.is_whole:
        waiting.insert(i, Piece(document, start + gap, length - gap, tokens[gap:]))
    return Piece(document, start, gap, tokens[: gap + 1])


def best_fit(lengths: Sequence[int], room: int) -> list[int]:
    """The indices whose lengths fill `room` as far as any choice can. (subset sum)

    Bit s of `reach[i]` says that some of the first i lengths add up to s. Whole numbers of Python
    are bit sets of any size: one shift tries a length with all sums at once.
    """
    reach = [1]
    for length in lengths:
        if reach[-1] >> room & 1:
            break
        reach.append((reach[-1] | reach[-1] << length) & ((1 << room + 1) - 1))
    total = reach[-1].bit_length() - 1
    chosen = []
    for i in reversed(range(len(reach) - 1)):
        if not reach[i] >> total & 1:  # without length i this sum is out of reach
            chosen.append(i)
            total -= lengths[i]
    return chosen[::-1]
