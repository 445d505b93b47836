"""Write a run as a Hugging Face folder: transformers loads it, vLLM can serve it.

    config.json  generation_config.json  model-*.safetensors with index  tokenizer files

MTP modules go into mtp.safetensors, under the names of the release.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from minids.errors import UserError
from minids_cli import show

DTYPES = ("float32", "bfloat16")


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids export`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")
    parser.add_argument("--to", metavar="DIR", required=True, help="a new or empty folder")
    parser.add_argument(
        "--dtype",
        metavar="D",
        default=DTYPES[0],
        help="of the weights: float32, bfloat16 (default %(default)s, as trained)",
    )


def run(args: argparse.Namespace) -> int:
    """Check the config and the target, then load and write."""
    from minids.config import load
    from minids.hub import families
    from minids.runs import find_run

    if args.dtype not in DTYPES:
        raise UserError("--dtype", f"{args.dtype!r} is unknown", ", ".join(DTYPES))
    folder, to = find_run(args.run_folder), Path(args.to)
    cfg = load(str(folder / "config.toml")).model
    families.of(cfg)  # what no class of transformers computes is refused before torch is loaded

    from minids.hub.write import check_target, export
    from minids.runs import newest_weights
    from minids.train.checkpoint import weights_sha256

    check_target(to)
    state, manifest, warnings = newest_weights(folder / "checkpoints")
    for text in warnings:
        show.warn(text)
    done = export(cfg, state, to, tokenizer=folder / "tokenizer", dtype=args.dtype)
    sha = weights_sha256(state)
    if args.json:
        show.emit_json(
            {
                "folder": str(to),
                "model_class": done.model_class,
                "files": done.files,
                "bytes": done.n_bytes,
                "step": manifest["step"],
                "weights_sha256": sha,
            }
        )
        return 0
    print(f"{to}: {done.model_class}, {show.n_bytes(done.n_bytes)}, step {manifest['step']}")
    print(f"  {'  '.join(done.files)}")
    print(f'try: AutoModelForCausalLM.from_pretrained("{to}")')
    print(f"weights_sha256={sha}")
    return 0
