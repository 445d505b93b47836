"""Complete a prompt with a trained model."""

from __future__ import annotations

import argparse

from minids.config import coerce
from minids_cli import sampling, show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids sample`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")
    parser.add_argument(
        "--prompt", metavar="TEXT", default="", help="how it begins (default: nothing)"
    )
    parser.add_argument(
        "--num-samples", metavar="N", default="1", help="completions (default %(default)s)"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="recompute everything for each token"
    )
    sampling.add(parser)


def run(args: argparse.Namespace) -> int:
    """Check, load, complete, print."""
    from minids.generate.settings import check_counts
    from minids.runs import find_run, open_run

    rule, tokens = sampling.read(args)
    samples = coerce("--num-samples", args.num_samples, int)
    check_counts(tokens, samples)
    folder = find_run(args.run_folder)
    from minids.generate.engine import Engine

    trained = open_run(folder)
    engine = Engine(trained.model, trained.tokenizer, use_cache=not args.no_cache)
    prompt = [trained.tokenizer.bos, *trained.tokenizer.encode(args.prompt)]
    for done in engine.complete([prompt], rule, tokens, samples):
        if args.json:
            show.emit_json(
                {
                    "prompt": args.prompt,
                    "completion": done.text,
                    "token_ids": done.tokens,
                    "logprobs": done.logprobs,
                    "stop": done.stop,
                }
            )
        else:
            print(show.printable(args.prompt + done.text))
            if samples > 1:
                print()
    return 0
