"""Complete a prompt with a trained model."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from minids.config import coerce
from minids.errors import UserError
from minids_cli import sampling, show

if TYPE_CHECKING:
    from minids.generate.speculative import Tally


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
    parser.add_argument(
        "--speculative",
        action="store_true",
        help="let the MTP modules draft; same distribution, fewer passes",
    )
    sampling.add(parser)


def run(args: argparse.Namespace) -> int:
    """Check, load, complete, print."""
    from minids.generate.settings import check_counts
    from minids.runs import find_run, open_run

    rule, tokens = sampling.read(args)
    samples = coerce("--num-samples", args.num_samples, int)
    check_counts(tokens, samples)
    if args.speculative and args.no_cache:
        raise UserError("--speculative", "needs the cache", "without --no-cache")
    folder = find_run(args.run_folder)
    from minids.generate.engine import Engine
    from minids.generate.speculative import Speculative

    trained = open_run(folder)
    if args.speculative:
        engine = Speculative(trained.model, trained.tokenizer)
    else:
        engine = Engine(trained.model, trained.tokenizer, use_cache=not args.no_cache)
    prompt = [trained.tokenizer.bos, *trained.tokenizer.encode(args.prompt)]
    completions = engine.complete([prompt], rule, tokens, samples)
    drafts = drafted(engine.tally) if isinstance(engine, Speculative) else {}
    for done in completions:
        if args.json:
            show.emit_json(
                {
                    "prompt": args.prompt,
                    "completion": done.text,
                    "token_ids": done.tokens,
                    "logprobs": done.logprobs,
                    "stop": done.stop,
                    **drafts,
                }
            )
        else:
            print(show.printable(args.prompt + done.text))
            if samples > 1:
                print()
    if drafts and not args.json:
        print(describe(drafts), file=sys.stderr)
    return 0


def drafted(tally: Tally) -> dict[str, Any]:
    """What the drafts of all completions were worth, as `--json` carries it."""
    return {
        "acceptance": tally.acceptance,
        "drafted": tally.drafted,
        "accepted": tally.accepted,
        "passes": tally.passes,
    }


def describe(drafts: dict[str, Any]) -> str:
    """One line for a person."""
    if drafts["acceptance"] is None:
        return "nothing was drafted"
    share = f"{drafts['acceptance']:.1%}"
    return f"{drafts['accepted']:,} of {drafts['drafted']:,} drafts accepted ({share})"
