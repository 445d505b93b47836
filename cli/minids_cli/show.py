"""Tables, numbers and JSON: how results look. rich is imported when something is drawn."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def emit_json(record: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(record, ensure_ascii=False), flush=True)


def warn(text: str) -> None:
    """One line on stderr that stops nothing."""
    print(f"minids: warning: {text}", file=sys.stderr, flush=True)


def console():
    """The terminal; plain text without one or with NO_COLOR."""
    from rich.console import Console

    return Console(
        highlight=False,
        soft_wrap=not sys.stdout.isatty(),
        width=None if sys.stdout.isatty() else 100,
    )


def is_live() -> bool:
    """Whether a screen can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, note: str = ""
) -> None:
    """A table; columns whose name starts with > are numbers and stand right."""
    from rich import box
    from rich.table import Table

    drawn = Table(
        title=title or None, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold"
    )
    for name in columns:
        drawn.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        drawn.add_row(*(str(cell) for cell in row))
    out = console()
    out.print(drawn)
    if note:
        out.print(note, style="dim")


def count(n: float) -> str:
    """12,345,678 → 12.3M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"


def n_bytes(n: float) -> str:
    """Bytes in units of 1,000."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(n) >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} B"


def duration(seconds: float) -> str:
    """75 → 1:15."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def workers(machine: Any) -> str:
    """2 workers × 1 thread, as a run uses its machine."""
    threads = f"{machine.threads} thread" + "s" * (machine.threads > 1)
    return f"{machine.workers} workers × {threads}" if machine.workers > 1 else threads


def printable(text: str) -> str:
    """Model text without control characters: it is data, not instructions to a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)
