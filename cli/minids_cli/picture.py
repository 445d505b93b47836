"""A screen as an SVG file: how the pictures of the README are made, from the real thing.

With MINIDS_SVG=FILE the live screen of `minids train` leaves its last picture there.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from rich.console import Console
from rich.segment import Segment, SegmentLines

from minids_cli import show
from minids_cli.drawing import Row

VARIABLE = "MINIDS_SVG"
FONT_FACE = re.compile(r"\s*@font-face \{[^}]*\}")  # rich's names a server; a picture asks nobody
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def wanted() -> Path | None:
    """The file asked for, if any."""
    name = os.environ.get(VARIABLE, "")
    return Path(name) if name else None


def svg(rows: list[Row], width: int, title: str) -> str:
    """Rows of styled pieces, as they stand on the screen → one SVG without outside references."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    full = [Segment.adjust_line_length(row, width) for row in rows]
    console.print(SegmentLines(full, new_lines=True), end="")
    drawn = console.export_svg(title=title, unique_id="minids")
    drawn = FONT_FACE.sub("", drawn).replace("Fira Code, monospace", FONTS)
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def save(path: Path, rows: list[Row], width: int, title: str) -> None:
    """Write it; a picture that cannot be written ends no run."""
    try:
        path.write_text(svg(rows, width, title), encoding="utf-8")
    except OSError as error:
        show.warn(f"{VARIABLE}: {path}: {error.strerror or error}")
