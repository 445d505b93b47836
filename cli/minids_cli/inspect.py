"""Count a model before it exists: parameters, work and bytes of every module, from its config.

The model is a preset, a TOML file, a run folder, or a Hugging Face folder. No weight is read or
allocated, so 671B parameters take as long as three million.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minids import config
from minids.config import ModelConfig, coerce
from minids.errors import UserError
from minids_cli import show

if TYPE_CHECKING:
    from minids.count.tree import Node

DEPTH = 3


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids inspect`."""
    parser.add_argument("model", metavar="PRESET|RUN|DIR", help="preset, TOML file, run, HF folder")
    parser.add_argument(
        "--depth",
        metavar="N",
        default=str(DEPTH),
        help="levels of the tree, 0 … 9 (default %(default)s)",
    )
    parser.add_argument(
        "--context",
        metavar="N",
        default="",
        help="tokens that attention looks back over (default: 4096, or what the model reads)",
    )
    parser.add_argument(
        "--dtype",
        metavar="D",
        default="bfloat16",
        help="of weights and cache: float32, bfloat16, fp8 (default %(default)s)",
    )
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], help="change a field of a preset first"
    )


def run(args: argparse.Namespace) -> int:
    """Find the config, count, draw."""
    from minids.count import tree

    cfg = find(args.model, args.set)
    depth = within("--depth", args.depth, 0, 9)
    longest = cfg.max_position_embeddings
    context = within("--context", args.context or min(4096, longest), 1, longest)
    found = tree.summary(cfg, context, args.dtype)
    if args.json:
        show.emit_json({"model": args.model} | found)
        return 0
    rows = list(lines(tree.tree(cfg, context), depth, args.dtype))
    beside = tree.mtp_tree(cfg, context)
    for part in beside.children if beside else ():
        rows += lines(part, min(depth, 2), args.dtype, level=1)
    columns = ["module", "shape", ">parameters", ">active", ">FLOPs", ">bytes"]
    show.table("", columns, rows, note=legend(cfg))
    show.console().print(totals(found))
    return 0


def find(name: str, changes: list[str]) -> ModelConfig:
    """The model behind a name or path. Raises UserError, code 2, or 4 for a foreign folder."""
    path = Path(name)
    if name in config.presets() or name.endswith(".toml"):
        return config.load(name, changes).model
    for folder in (path, Path("runs") / name):
        if (folder / "config.toml").is_file():
            return config.load(str(folder / "config.toml"), changes).model
    if path.exists() or "/" in name:
        from minids.hub.config import from_hf, read_config, read_json

        if changes:
            raise UserError("--set", f"{name} is no config of ours", "changes of a preset or a run")
        return from_hf(read_json(path)) if path.suffix == ".json" else read_config(path)
    return config.load(name, changes).model  # says which presets there are, and the nearest


def within(flag: str, value: str | int, low: int, high: int) -> int:
    """A whole number in its range."""
    number = coerce(flag, value, int)
    if not low <= number <= high:
        raise UserError(flag, f"{number} is out of range", f"{low} … {high:,}")
    return number


def lines(node: Node, depth: int, dtype: str, level: int = 0):
    """A node and what is inside it, as rows of the table."""
    from minids.count.memory import size_of

    name = "  " * level + node.name + (f"  ×{node.times}" if node.times > 1 else "")
    shape = node.axes.replace(" ", " × ") if node.shape else node.axes
    yield (
        name,
        shape or " × ".join(map(str, node.shape)),
        f"{node.params:,}" if node.params else "·",
        f"{node.active:,}" if node.active else "·",
        show.count(node.flops) if node.flops else "·",
        show.n_bytes(node.params * size_of(dtype)) if node.params else "·",
    )
    if level < depth:
        for child in node.children:
            yield from lines(child, depth, dtype, level + 1)


def legend(cfg: ModelConfig) -> str:
    """What the letters mean, and how to read a line with copies."""
    from minids.count.tree import letters

    found = " · ".join(f"{letter} {size:,}" for letter, size in letters(cfg).items())
    return f"{found}\nnumbers in and under a line with ×N are those of one of its N copies"


def totals(found: dict) -> str:
    """The sums, in words."""
    beside = f" · {found['mtp_params']:,} in MTP modules beside them" if found["mtp_params"] else ""
    share = found["active_params"] / found["params"]
    cache = f"{found['kv_elements_per_token']:,} numbers per token"
    window = found["kv_window_bytes"]
    constant = f", {show.n_bytes(window)} a sequence" if window else ""
    in_fp8 = found["kv_bytes_per_token_fp8"]
    return "\n".join(
        [
            f"parameters  {found['params']:,}{beside}",
            f"active      {found['active_params']:,} per token, {share:.1%}, without the embedding",
            f"FLOPs       {show.count(found['flops_per_token'])} per token forward, "
            f"{show.count(found['training_flops_per_token'])} in training, "
            f"{show.count(found['decode_flops_per_token'])} decoded, "
            f"at {found['context']:,} tokens",
            f"bytes       {show.n_bytes(found['weight_bytes'])} of weights in {found['dtype']}, "
            f"{show.n_bytes(found['training_bytes'])} to train in float32 with Muon",
            f"KV cache    {cache}, {found['kv_bytes_per_token']:,} bytes in {found['dtype']}, "
            f"{in_fp8:,} in fp8{constant}",
        ]
    )
