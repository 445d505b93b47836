"""List presets, show every field with its range and meaning, compare two configurations."""

from __future__ import annotations

import argparse
import dataclasses

from minids import config
from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids config`."""
    parser.add_argument("action", choices=["list", "show", "diff"])
    parser.add_argument("names", nargs="*", metavar="C", help="presets or TOML files")
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="change a field first"
    )


def run(args: argparse.Namespace) -> int:
    """Answer without torch."""
    wanted = {"list": 0, "show": 1, "diff": 2}[args.action]
    if len(args.names) != wanted and not (args.action == "show" and not args.names):
        raise UserError(f"config {args.action}", f"got {len(args.names)} names", f"{wanted}")
    return {"list": show_list, "show": show_one, "diff": show_diff}[args.action](args)


def show_list(args: argparse.Namespace) -> int:
    """All presets."""
    runs = {"tiny", "laptop", "gpu", "node", "cluster", "shakespeare-char"}
    rows = []
    for name in config.presets():
        cfg = config.load(name)
        rows.append((name, "trains" if name in runs else "counts", cfg.model.architecture))
    if args.json:
        show.emit_json(
            [dict(zip(("name", "use", "architecture"), row, strict=True)) for row in rows]
        )
        return 0
    show.table("Presets", ["name", "use", "architecture"], rows)
    return 0


def show_one(args: argparse.Namespace) -> int:
    """Every field: value, range, meaning."""
    cfg = config.load(args.names[0] if args.names else "tiny", args.set)
    if args.json:
        show.emit_json(config.to_dict(cfg))
        return 0
    for section, kind in config.SECTIONS.items():
        values = getattr(cfg, section)
        rows = [
            (
                f.name,
                getattr(values, f.name),
                config.span(f.metadata),
                f.metadata.get("meaning", ""),
            )
            for f in dataclasses.fields(kind)
        ]
        show.table(f"[{section}]", ["field", "value", "allowed", "meaning"], rows)
    return 0


def show_diff(args: argparse.Namespace) -> int:
    """Fields in which two configurations differ."""
    first, second = (config.to_dict(config.load(name, args.set)) for name in args.names)
    rows = [
        (f"{section}.{name}", value, second[section][name])
        for section in config.SECTIONS
        for name, value in first[section].items()
        if value != second[section][name]
    ]
    if args.json:
        show.emit_json({field: [a, b] for field, a, b in rows})
        return 0
    show.table("", ["field", *args.names], rows)
    return 0
