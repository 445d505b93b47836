"""How good a run is: bits per byte against the exact floor, and whether stories keep facts.

minids eval tiny-001                              a model of stories
minids eval rl-001 --at 1 4 16 --task addition:3  what tokens buy: tries, votes, longer thinking
"""

from __future__ import annotations

import argparse

from minids.config import coerce
from minids_cli import eval_at, show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids eval`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")
    parser.add_argument(
        "--documents", metavar="N", default="500", help="held-out documents (default %(default)s)"
    )
    parser.add_argument(
        "--questions", metavar="N", default="100", help="facts of each kind (default %(default)s)"
    )
    eval_at.add(parser)


def run(args: argparse.Namespace) -> int:
    """Score, then a table."""
    if args.at:
        return eval_at.run(args)
    eval_at.check_unused(args)
    from minids.errors import UserError
    from minids.runs import find_run, open_run

    counts = {}
    for name in ("documents", "questions"):
        counts[name] = coerce(f"--{name}", getattr(args, name), int)
        if counts[name] < 1:
            raise UserError(f"--{name}", f"{counts[name]} is too few", "1 and more")
    folder = find_run(args.run_folder)
    from minids.data.load import open_data
    from minids.evaluate import bits_per_byte, cloze, held_out_facts

    trained = open_run(folder)
    data = open_data(trained.cfg, folder)
    documents = data.held_out[: counts["documents"]]
    score = bits_per_byte(trained.model, documents, trained.cfg.data.context)
    kept = cloze(trained.model, held_out_facts(data, counts["questions"]), trained.tokenizer)
    above = score.above_floor
    found = {
        "run": str(folder),
        "step": trained.step,
        "documents": len(documents),
        "nats_per_token": score.loss,
        "bits_per_byte": as_json(score.bpb),
        "floor_bits_per_byte": score.floor_bpb,
        "above_floor": as_json(above) if above else None,
        "facts": [
            {
                "kind": k.kind,
                "right": k.hits,
                "n": k.n,
                "share": as_json(k.share),
                "chance": k.chance,
            }
            for k in kept
        ],
    }
    if args.json:
        show.emit_json(found)
        return 0
    for text in trained.warnings:
        print(f"warning: {text}")
    b = score.bpb
    span = f"{b.low:.4f} … {b.high:.4f}" if b.is_known else "one document: unknown"
    rows = [("bits per byte", f"{b.value:.4f}", span)]
    if score.floor_bpb and above:
        rows.append(("exact floor", f"{score.floor_bpb:.4f}", ""))
        span = f"{above.low:.1%} … {above.high:.1%}" if above.is_known else ""
        rows.append(("above it", f"{above.value:.1%}", span))
    title = f"{folder}, step {trained.step}, {len(documents)} held-out documents"
    show.table(title, ["", ">value", "95 % interval"], rows)
    if kept:
        show.table(
            "Does the story keep its facts?",
            ["kind", ">right", ">of", ">share", "95 % interval", ">chance"],
            [(k.kind, k.hits, k.n, *shares(k)) for k in kept],
        )
    return 0


def as_json(interval) -> dict[str, float | None]:
    """JSON knows no NaN."""
    known = interval.is_known
    return {n: v if known or n == "value" else None for n, v in interval._asdict().items()}


def shares(kept) -> tuple[str, str, str]:
    """Share right, its interval, and chance, as text."""
    low, high = f"{kept.share.low:.0%}", f"{kept.share.high:.0%}"
    return f"{kept.share.value:.0%}", f"{low} … {high}", f"{kept.chance:.0%}"
