"""List corpora, look at one, or turn a large one into tokens once."""

from __future__ import annotations

import argparse
from pathlib import Path

from minids.errors import UserError
from minids_cli import options, show

CORPORA = (
    ("tales", "generated stories with an exact entropy; the default"),
    ("stdlib", "documentation and sources of the running Python"),
    ("PATH", "a text, JSONL or parquet file, or a folder of them"),
    ("hf:NAME", "streamed from the Hugging Face hub (needs the data extra and a network)"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids data`."""
    parser.add_argument("action", choices=["list", "show", "prepare"])
    options.config_flags(parser)
    parser.add_argument("--to", metavar="DIR", help="where `prepare` writes tokens and tokenizer")


def run(args: argparse.Namespace) -> int:
    """Show or prepare."""
    if args.action == "list":
        if args.json:
            show.emit_json([{"name": name, "what": what} for name, what in CORPORA])
        else:
            show.table("Corpora", ["--data", "what"], CORPORA)
        return 0
    cfg = options.resolve(args)
    if args.action == "prepare" and not args.to:
        raise UserError("--to", "prepare needs a folder", "a new or empty folder")
    from minids.data.load import open_data

    if args.action == "prepare":
        from minids.train.folder import check_new

        check_new(Path(args.to))
    data = open_data(cfg)
    if args.action == "prepare":
        Path(args.to).mkdir(parents=True, exist_ok=True)
        data.save(Path(args.to))
    facts = data.describe()
    if args.json:
        show.emit_json(facts)
        return 0
    example = facts.pop("example")
    show.table(
        "",
        ["", ">value"],
        [(k.replace("_", " "), tidy(v)) for k, v in facts.items() if v is not None],
    )
    print(show.printable(example[:1200]))
    if args.action == "prepare":
        print(f"\nprepared in {args.to}; train on it with: minids train --data {args.to}")
    return 0


def tidy(value: object) -> str:
    """A number as people write it."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
