"""Flags that several commands share, and how they become a RunConfig."""

from __future__ import annotations

import argparse
from pathlib import Path

from minids import config
from minids.errors import UserError

SEEDS = (0, (1 << 63) - 1)


def config_flags(parser: argparse.ArgumentParser) -> None:
    """--tiny, --config, --set, --data, --seed."""
    group = parser.add_argument_group("configuration")
    group.add_argument("--tiny", action="store_true", help="the same as --config tiny")
    group.add_argument("--config", metavar="C", help="a preset or a TOML file (default: tiny)")
    group.add_argument(
        "--set",
        metavar="K=V",
        action="append",
        default=[],
        help="change a field, e.g. train.lr=1e-3; `minids config show` lists all with their ranges",
    )
    group.add_argument(
        "--data",
        metavar="D",
        help="tales, stdlib, hf:NAME, or a text, JSONL or parquet file or folder",
    )
    group.add_argument(
        "--seed", metavar="N", help="of weights, data order and samples (default: 1)"
    )


def resolve(args: argparse.Namespace) -> config.RunConfig:
    """The config that the flags of `config_flags` ask for."""
    if args.tiny and args.config not in (None, "tiny"):
        raise UserError("--tiny", f"given together with --config {args.config}", "one of them")
    return config.load(args.config or "tiny", overrides(args))


def overrides(args: argparse.Namespace) -> list[str]:
    """--data and --seed in the words of --set; later words win."""
    found = []
    if args.data is not None:
        found += data_overrides(args.data)
    if args.seed is not None:
        found.append(f"train.seed={args.seed}")
    return [*found, *args.set]


def data_overrides(text: str) -> list[str]:
    """A corpus by name or a path."""
    if text in ("tales", "stdlib") or text.startswith("hf:"):
        return [f"data.name={text}"]
    if not Path(text).exists():
        raise UserError(
            "--data", f"{text!r} does not exist", "tales, stdlib, hf:NAME, a file or folder"
        )
    return ["data.name=text", f"data.path={text}"]


def run_folder(text: str) -> Path:
    """A run by path, or by its name under runs/. Raises UserError."""
    for path in (Path(text), Path("runs") / text):
        if (path / "config.toml").is_file():
            return path
    known = sorted(p.parent.name for p in Path("runs").glob("*/config.toml"))
    raise UserError(
        "run",
        f"{text!r} is no run folder",
        ", ".join(known) if known else "a folder made by minids train",
        hint="" if known else "minids train --tiny makes one",
    )
