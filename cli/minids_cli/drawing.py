"""Shapes on a grid of characters: large digits, a curve in braille, bars, boxes.

Values in, rows out; a row is a list of styled pieces. Made by hand instead of from tables and
panels, because the trainer pays for each picture: 3 ms against 15 ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style

Row = list[Segment]
Point = tuple[float, float]  # (share of the run 0 … 1, value)

# Colours that stand on black and on white; the same thing has the same colour everywhere.
PLAIN, BOLD = Style(), Style(bold=True)
GREY = Style(color="#808080")
ORANGE = Style(color="#E07B00")
BLUE = Style(color="#2F8FD8")
GREEN = Style(color="#10A070")
RED = Style(color="#E0402A", bold=True)

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of one braille cell, by row
EIGHTHS = " ▁▂▃▄▅▆▇█"
DIGITS = {
    "0": ("█▀█", "█ █", "▀▀▀"), "1": ("▀█ ", " █ ", "▀▀▀"), "2": ("▀▀█", "█▀▀", "▀▀▀"),
    "3": ("▀▀█", " ▀█", "▀▀▀"), "4": ("█ █", "▀▀█", "  ▀"), "5": ("█▀▀", "▀▀█", "▀▀▀"),
    "6": ("█▀▀", "█▀█", "▀▀▀"), "7": ("▀▀█", "  █", "  ▀"), "8": ("█▀█", "█▀█", "▀▀▀"),
    "9": ("█▀█", "▀▀█", "▀▀▀"), ".": (" ", " ", "▀"), "%": ("▀ █", " █ ", "▀ ▀"),
    "-": ("   ", "▀▀▀", "   "), " ": (" ", " ", " "),
}  # fmt: skip
TICKS = [m * 10.0**e for e in range(-3, 4) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)]


def large(text: str) -> list[str]:
    """Digits three rows high."""
    cells = [DIGITS.get(c, DIGITS[" "]) for c in text]
    return [" ".join(cell[i] for cell in cells) for i in range(3)]


def box(title: str, rows: Sequence[Row], width: int, height: int) -> list[Row]:
    """A frame of exactly this size around rows; what does not fit is cut."""
    head = f" {title[: width - 6]} " if title else ""
    dash = "─" * max(0, width - 3 - len(head))
    framed = [[Segment("╭─", GREY), Segment(head, BOLD), Segment(dash + "╮", GREY)]]
    for i in range(height - 2):
        inner = rows[i] if i < len(rows) else []
        inner = Segment.adjust_line_length([Segment(" "), *inner], width - 2)
        framed.append([Segment("│", GREY), *inner, Segment("│", GREY)])
    return [*framed, [Segment("╰" + "─" * (width - 2) + "╯", GREY)]]


def beside(left: Sequence[Row], right: Sequence[Row]) -> list[Row]:
    """Two blocks of equal height, side by side."""
    return [[*a, *b] for a, b in zip(left, right, strict=True)]


def progress(share: float, width: int) -> Row:
    """A bar in half-character steps."""
    halves = round(2 * width * min(1.0, max(0.0, share)))
    done = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return [Segment(done, ORANGE), Segment("─" * (width - len(done)), GREY)]


def bars(shares: Sequence[float], height: int, width: int) -> list[Row]:
    """One bar per share of the mean, the mean at half height; too busy and idle ones in red."""
    per_bar = math.ceil(len(shares) / width)  # more bars than columns: the busiest stands for some
    kept = [max(shares[i : i + per_bar]) for i in range(0, len(shares), per_bar)]
    thick = max(1, min(4, width // len(kept) - 1))
    gap = " " if width // len(kept) > 1 else ""
    rows: list[Row] = []
    for level in reversed(range(height)):
        row = []
        for share in kept:
            eighths = round(4 * height * share) - 8 * level
            mark = EIGHTHS[min(8, max(0, eighths))]
            if level == 0 and eighths <= 0:
                mark = "×"
            odd = share > 2 or mark == "×"
            row.append(Segment(mark * thick + gap, RED if odd else BLUE))
        rows.append(row)
    return rows


def curve(
    points: Sequence[Point],
    marks: Iterable[Point],
    floor: float | None,
    width: int,
    height: int,
    right: float,
) -> list[Row]:
    """Values over the run, in dots of a quarter cell; the floor as a line.

    A log scale, and with a floor the log of what lies above nine tenths of it: the last per cents
    are the interesting ones. `right` is the share of the run at the right edge, `marks` are drawn
    on top.
    """
    room = width - 6  # ticks take 6
    lines = columns(points, right, 2 * room)
    known = [v for v in lines if v is not None]
    if not known:
        return []
    low = min([*known, floor or math.inf]) * 0.98
    high = max(known) * 1.02
    zero = min(0.9 * floor, 0.95 * low) if floor else 0.0

    def row_of(value: float) -> int:  # in quarter cells, from the top
        share = math.log((high - zero) / (value - zero)) / math.log((high - zero) / (low - zero))
        return min(4 * height - 1, max(0, int(4 * height * share)))

    grid = [[0] * room for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(lines):
        if value is None:
            continue
        y = row_of(value)
        start = y if before is None else before
        for between in range(min(start, y), max(start, y) + 1):
            grid[between // 4][x // 2] |= DOTS[between % 4][x % 2]
        before = y
    floor_row = row_of(floor) // 4 if floor else -1
    ticks: dict[int, str] = {}
    for tick in sorted((t for t in TICKS if low < t < high), reverse=True):
        at, above = row_of(tick) // 4, max(ticks, default=-9)
        if at - above > 1 and abs(at - floor_row) > 1:
            ticks[at] = f"{tick:g}"
    found = {(row_of(v) // 4, min(room - 1, int(x / right * room))) for x, v in marks if x <= right}
    return [
        curve_row(number, cells, floor, floor_row, ticks.get(number, ""), found)
        for number, cells in enumerate(grid)
    ]


def curve_row(
    number: int,
    cells: Sequence[int],
    floor: float | None,
    floor_row: int,
    tick: str,
    marks: set[tuple[int, int]],
) -> Row:
    """One row of characters of the curve: tick, dots, marks, floor."""
    on_floor = number == floor_row
    label = f"{floor:.3f}" if on_floor and floor else tick
    row = [Segment(f"{label:>5} ", GREEN if on_floor else GREY)]
    for x, dots in enumerate(cells):
        if (number, x) in marks:
            row.append(Segment("◆", BLUE))
        elif dots:
            row.append(Segment(chr(BRAILLE + dots), ORANGE))
        else:
            row.append(Segment("─" if on_floor else " ", GREEN))
    return list(Segment.simplify(row))


def columns(points: Sequence[Point], right: float, count: int) -> list[float | None]:
    """The mean of the points in each column; columns between two known ones lie on a line."""
    total, seen = [0.0] * count, [0] * count
    for x, value in points:
        at = min(count - 1, int(x / right * count))
        total[at] += value
        seen[at] += 1
    found = [t / n if n else None for t, n in zip(total, seen, strict=True)]
    last: int | None = None
    for at, value in enumerate(found):
        if value is None:
            continue
        if last is not None and at - last > 1:
            start = found[last] or 0.0
            for between in range(last + 1, at):
                found[between] = start + (value - start) * (between - last) / (at - last)
        last = at
    return found


def thin(points: list[Point], limit: int) -> list[Point]:
    """At most `limit` points: neighbours are joined into their mean."""
    while len(points) > limit:
        pairs = zip(points[::2], points[1::2], strict=False)
        points = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairs]
    return points
