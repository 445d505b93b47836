"""Popular claims about DeepSeek against primary sources and arithmetic.

The table, or with a name one claim with all its inputs and their sources. Verdicts: holds ·
misleading (true of something else, or of less) · unknowable (nobody has published it).
"""

from __future__ import annotations

import argparse
import difflib
import textwrap
from pathlib import Path

from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids claims`."""
    parser.add_argument("name", metavar="CLAIM", nargs="?", help="one claim, with its inputs")
    parser.add_argument(
        "--figures", metavar="FOLDER", help="also write the table there as a picture, PNG"
    )


def run(args: argparse.Namespace) -> int:
    """Compute all rows, show what was asked for."""
    from minids.count.claims import all_claims

    rows = {row.name: row for row in all_claims()}
    if args.name and args.name not in rows:
        near = difflib.get_close_matches(args.name, rows, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError("claim", f"{args.name!r} is unknown", ", ".join(rows), hint=hint)
    chosen = [rows[args.name]] if args.name else list(rows.values())
    if args.figures:
        from minids.lab.figures_claims import verdicts
        from minids.plot import save

        source = "minids claims; inputs with sources: minids claims NAME"
        save(verdicts(chosen, source=source), Path(args.figures) / "claims.png")
    if args.json:
        for row in chosen:
            show.emit_json(row._asdict() | {"inputs": [fact._asdict() for fact in row.inputs]})
        return 0
    if args.name:
        print(story(chosen[0]))
        return 0
    columns = ["claim", "who", "primary sources", "arithmetic", "verdict"]
    cells = [
        (f"{r.claim}\n({r.name})", r.who, r.primary, r.arithmetic, f"{r.verdict}: {r.because}\n")
        for r in chosen
    ]
    show.table("", columns, cells, note="minids claims NAME shows the inputs and their sources")
    return 0


def story(row) -> str:
    """One claim at length."""
    parts = {
        "claim": row.claim,
        "who says it": row.who,
        "primary sources": row.primary,
        "arithmetic": row.arithmetic,
        "verdict": f"{row.verdict}: {row.because}",
    }
    lines = [
        textwrap.fill(text, 96, initial_indent=f"{name:<16} ", subsequent_indent=" " * 17)
        for name, text in parts.items()
    ]
    facts = [f"  {f.value:>18,g}  {f.what}  [{f.mark}] {f.source}" for f in row.inputs]
    return "\n".join([*lines, "inputs", *facts])
