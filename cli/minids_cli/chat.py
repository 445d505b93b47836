"""Type the beginning of a story, the model goes on: it was not taught to answer."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from minids_cli import sampling, show

HELP = "type the beginning of a story; /reset forgets what was said, /quit or ctrl-d ends"


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids chat`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")
    sampling.add(parser)


def run(args: argparse.Namespace) -> int:
    """Read a line, stream its continuation, remember both."""
    from minids.runs import find_run, open_run

    rule, tokens = sampling.read(args)
    folder = find_run(args.run_folder)
    from minids.generate.engine import Engine

    trained = open_run(folder)
    engine = Engine(trained.model, trained.tokenizer)
    print(f"{trained.cfg.name}, step {trained.step}: {HELP}")
    said = ""
    while (line := ask()) is not None:
        if line.strip() == "/quit":
            break
        if line.strip() == "/reset":
            said = ""
            continue
        said += line
        prompt = [trained.tokenizer.bos, *trained.tokenizer.encode(said)]
        room = trained.model.cfg.max_position_embeddings - tokens
        if len(prompt) > room:
            prompt = prompt[:1] + prompt[len(prompt) - max(1, room - 1) :]
            print("(the beginning no longer fits and was dropped)")
        for piece in engine.stream(prompt, rule, tokens):
            said += piece
            print(show.printable(piece), end="", flush=True)
        print()
        rule = dataclasses.replace(rule, seed=rule.seed + 1)
    return 0


def ask() -> str | None:
    """A line from the person, None at the end."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None
