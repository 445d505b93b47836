"""Read a Hugging Face folder into a run: our own exports, transformers' saves, DeepSeek's releases.

FP8 blocks become float32, one tensor an expert becomes one stack, a further layer becomes the MTP
module. A pickle is never opened.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids import`."""
    parser.add_argument("source", metavar="DIR", help="a folder with config.json and *.safetensors")
    parser.add_argument("--out", metavar="RUN", required=True, help="a new or empty run folder")


def run(args: argparse.Namespace) -> int:
    """Check, read everything, then write the run folder."""
    from minids.config import DataConfig, RunConfig
    from minids.hub.config import read_config
    from minids.train import folder

    source, out = Path(args.source), Path(args.out)
    folder.check_new(out)
    read_config(source)  # a foreign config is refused before torch is loaded

    from minids.hub.read import read
    from minids.hub.tokens import copy_tokenizer
    from minids.hub.write import check_disk
    from minids.train import checkpoint

    found = read(source)
    for text in found.notes:
        show.warn(text)
    check_disk(out, sum(tensor.nbytes for tensor in found.state.values()), "--out")
    context = min(DataConfig().context, found.cfg.max_position_embeddings)
    cfg = RunConfig(name=out.name, model=found.cfg, data=DataConfig(context=context))
    folder.create(out, cfg, {"imported_from": str(source)})
    copied = copy_tokenizer(source, out / "tokenizer")
    sha = checkpoint.weights_sha256(found.state)
    checkpoint.save(
        out / "checkpoints",
        0,
        model=found.state,
        optim={},
        state={"step": 0, "imported_from": str(source)},
        about={"imported_from": str(source), "weights_sha256": sha},
    )
    usable = "ranks.tiktoken" in copied
    if args.json:
        show.emit_json({"run": str(out), "tokenizer": copied, "weights_sha256": sha})
        return 0
    print(f"{out}: {found.cfg.architecture}, {len(found.state):,} tensors")
    print(f"try: minids {'sample' if usable else 'inspect'} {out}")
    if not usable:
        print("the folder brings no tokenizer that minids reads: sample, chat and eval need one")
    print(f"weights_sha256={sha}")
    return 0
