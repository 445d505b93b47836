"""Flags of everything that samples, named as in transformers' generate."""

from __future__ import annotations

import argparse
from typing import Any

from minids.config import coerce
from minids.generate.settings import Sampling


def add(parser: argparse.ArgumentParser, *, temperature: str = "0.8") -> None:
    """--temperature, --top-p, --top-k, --seed, --max-new-tokens."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temperature",
        metavar="T",
        default=temperature,
        help="0 takes the likeliest (0 … 2, default %(default)s)",
    )
    group.add_argument(
        "--top-p",
        metavar="P",
        default="1.0",
        help="smallest set with this mass (0 … 1, default %(default)s)",
    )
    group.add_argument(
        "--top-k",
        metavar="K",
        default="0",
        help="likeliest tokens kept; 0 keeps all (default %(default)s)",
    )
    group.add_argument(
        "--seed", metavar="N", default="1", help="of the draws (default %(default)s)"
    )
    group.add_argument(
        "--max-new-tokens", metavar="N", default="200", help="at most (default %(default)s)"
    )


def read(args: argparse.Namespace) -> tuple[Sampling, int]:
    """The checked rule and the number of tokens."""
    kinds: dict[str, Any] = {"temperature": float, "top_p": float, "top_k": int, "seed": int}
    values = {name: coerce(flag(name), getattr(args, name), kind) for name, kind in kinds.items()}
    tokens = coerce(flag("max_new_tokens"), args.max_new_tokens, int)
    return Sampling(**values), tokens


def flag(name: str) -> str:
    """max_new_tokens → --max-new-tokens."""
    return "--" + name.replace("_", "-")
