"""One of several processes that torchrun started: `torchrun --nproc-per-node 8 -m minids train …`.

All ranks are given the same words; they meet, rank 0 shows and writes, and of a failure one speaks.
"""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from minids import config
from minids.dist.place import Place, fitted, launched, place_of
from minids.errors import UserError


def settled(args: argparse.Namespace) -> Place:
    """This process's place; a run that the launcher started anew goes on where it was."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # stack traces about sockets; we say it
    os.environ.setdefault("TORCH_DISABLE_ADDR2LINE", "1")  # five seconds for each of them
    place = place_of()
    if place.restarts and args.resume is None:
        if args.out is None:
            what = "is not given, so the launcher's new start does not know which run it goes on"
            raise UserError("--out", what, "--out DIR or --resume DIR")
        if (Path(args.out) / "config.toml").is_file():
            args.resume, args.out = args.out, None
            args.config, args.tiny, args.set, args.data, args.seed = None, False, [], None, None
    return place


def spread(args: argparse.Namespace, cfg: config.RunConfig) -> config.RunConfig:
    """The config laid over the ranks there are. Raises UserError if that cannot be.

    The launcher decides how many there are; a --set that says something else is a mistake.
    """
    if not launched():
        return cfg
    place = place_of()
    found = fitted(cfg, place.world)
    if cfg.parallel.data != found.parallel.data and any(
        words.startswith("parallel.data=") for words in args.set
    ):
        what = f"{cfg.parallel.data} × {cfg.parallel.pipeline} stages on {place.world} processes"
        raise UserError("parallel.data", what, f"{found.parallel.data}")
    return found


def train(args: argparse.Namespace, cfg: config.RunConfig, out: Path, place: Place, hooks):
    """Meet, train → what rank 0 finished with."""
    with quiet_start():
        from minids.dist import fsdp, mesh
        from minids.train.comm import Group
        from minids.train.many import train_on
        from minids.train.probe import pick_device
        from minids.train.sharded import Team

        words = f"{args.resume is not None} {args.inject} {args.allow_change}"
        grid = mesh.join(cfg, place, pick_device(cfg.train.device), words=words)
    team = Team(
        Group(place.rank, place.world),
        partial(fsdp.shard, mesh=grid),
        mesh.from_first,
        place.local_rank,
        place.local_world,
    )
    return train_on(
        team,
        cfg,
        out=out,
        resume=args.resume is not None,
        restarted=place.restarts > 0,
        inject=args.inject,
        allow_change=args.allow_change,
        hooks=hooks,
    )


@contextmanager
def quiet_start():
    """gloo greets every rank on stdout, which belongs to the run: send that to nowhere."""
    import sys

    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        with suppress(OSError):
            os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def speaks() -> bool:
    """Whether this process is the one that reports a failure."""
    from minids.dist.place import first_to_speak

    return first_to_speak()
