"""How the lab answers: one panel per answer, alike in a terminal and in a notebook.

Each kind has a sign, a word and a colour (Okabe-Ito), so that no meaning hangs on colour alone.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from minids.lab.check import Verdict

HTML = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.3;margin:0;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)
WIDTH = 84  # characters: fits a notebook beside its file list on a screen of 1,200 pixels
GOOD, BAD, CALM, NEWS = "#009E73", "#D55E00", "#7F7F7F", "#0072B2"
SIGNS = {
    "right": ("✓", "right", GOOD),
    "blank": ("○", "not attempted yet", CALM),
    "mistake": ("✗", "", BAD),
    "different": ("✗", "not the same as the library", BAD),
    "error": ("✗", "an error in your code", BAD),
    "time": ("✗", "too slow", BAD),
    "signature": ("✗", "other parameters", BAD),
    "callable": ("✗", "not a function", BAD),
}


def of_verdict(verdict: Verdict, title: str) -> RenderableType:
    """Title: sign, id and result; inside: what, on which case, expected and got."""
    sign, word, colour = SIGNS[verdict.kind]
    body: list[Any] = []
    if verdict.kind == "right":
        body.append(f"{title}: {verdict.says}")
    elif verdict.kind == "blank":
        hint = f'hint("{verdict.id}") helps a step at a time'
        body.append(f"{title}: {verdict.says.removeprefix('not attempted yet: ')} · {hint}"
                    if verdict.says != word else f"{title} · {hint}")  # fmt: skip
    else:
        says = [] if verdict.kind == "error" and verdict.trace else [verdict.says, ""]
        body += [*says, *details(verdict)]
        while body and body[-1] == "":
            body.pop()
        if verdict.kind == "different":  # no known mistake: nothing above says what to think about
            body += ["", f'hint("{verdict.id}") helps a step at a time']
    for note in verdict.notes:
        body += ["", note]
    head = f"{sign} {verdict.id}  {verdict.mistake or word}"
    return framed(head, body, colour)


def details(verdict: Verdict) -> list[Any]:
    """The case as a small table."""
    rows = {"case": verdict.case, "expected": verdict.expected, "got": verdict.got}
    rows |= {"error": verdict.error, "where": "\n".join(verdict.trace)}
    if verdict.error:
        rows |= {"expected": "", "got": ""}
    rows = {name: text for name, text in rows.items() if text}
    return [grid(rows)] if rows else []


def grid(rows: dict[str, str]) -> RenderableType:
    """Names left, texts right."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(Text(name, style=CALM), Text(text))
    return table


def framed(head: str, body: list[Any] | str, colour: str = NEWS) -> RenderableType:
    """A panel; texts are taken as they are, square brackets are no markup."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts = [body] if isinstance(body, str) else body
    inside = Group(*(Text(part) if isinstance(part, str) else part for part in parts))
    title = Text(f" {head} ", style=f"bold {colour}")
    return Panel(inside, title=title, title_align="left", border_style=colour, padding=(0, 1))


def line(sign: str, text: str, colour: str = NEWS) -> RenderableType:
    """One line without a frame."""
    from rich.text import Text

    return Text.assemble((f"{sign} ", f"bold {colour}"), text)


def show(*parts: RenderableType, width: int = WIDTH) -> None:
    """Put it where the reader looks, and with it what went wrong with the progress file."""
    from minids.lab import progress

    notices = [line("!", text, BAD) for text in progress.warnings]
    progress.warnings.clear()
    if in_notebook():
        as_output([*parts, *notices], width)
    else:
        on_terminal([*parts, *notices], width)


def on_terminal(parts: list[RenderableType], width: int) -> None:
    """In the terminal's colours; plain where there is none."""
    from rich.console import Console

    console = Console(highlight=False, force_jupyter=False)
    console.width = min(console.width, width) if sys.stdout.isatty() else width
    for part in parts:
        console.print(part)


def as_output(parts: list[RenderableType], width: int) -> None:
    """As a cell's output: HTML, and plain text for whoever shows no HTML."""
    from IPython.display import display
    from rich.console import Console

    console = Console(
        highlight=False, force_jupyter=False, record=True, width=width, file=io.StringIO(),
        color_system="truecolor", legacy_windows=False,
    )  # fmt: skip
    for part in parts:
        console.print(part)
    html = console.export_html(inline_styles=True, code_format=HTML, clear=False)
    display({"text/html": html, "text/plain": console.export_text().rstrip()}, raw=True)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel; unlike rich's own test, also after a cell has ended."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")
