"""One of several processes that torchrun started: `torchrun --nproc-per-node 8 -m minids train …`.

All ranks are given the same words; they meet, rank 0 shows and writes, and of a failure one speaks.
"""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

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


def planned(cfg: config.RunConfig) -> dict[str, Any]:
    """How the run lies on its ranks, for a plan; empty for one. Raises UserError if it cannot."""
    from minids.count import hardware
    from minids.count import plan as planning
    from minids.dist.place import check_layout, schedule_of

    parallel = cfg.parallel
    world = parallel.data * parallel.pipeline
    if world == 1:
        return {}
    check_layout(cfg, world)
    schedule = schedule_of(cfg) if parallel.pipeline > 1 else None
    micro_batches = schedule.micro_batches if schedule else 1
    layout = planning.layout_of(cfg, world, micro_batches=micro_batches, schedule=parallel.schedule)
    at = planning.Assumptions(dtype="float32" if cfg.train.precision == "float32" else "bfloat16")
    size = planning.rank_memory(cfg, layout, hardware.find("h100"), at, s=cfg.data.context)
    return {
        "ranks": world,
        "data_ranks": parallel.data,
        "expert_ranks": parallel.expert,
        "pipeline_ranks": parallel.pipeline,
        "schedule": schedule.name if schedule else None,
        "micro_batches": micro_batches,
        "rows_of_a_rank": cfg.train.batch_size // parallel.data,
        "rank_bytes": round(size.total - size.reserve),
        "start": f"torchrun --nproc-per-node N -m minids train …  ({world} processes in all)",
    }


def train(args: argparse.Namespace, cfg: config.RunConfig, out: Path, place: Place, hooks):
    """Meet, train → what rank 0 finished with."""
    with quiet_start():
        from minids.dist import mesh
        from minids.dist.spread import collector
        from minids.train.comm import Group
        from minids.train.many import train_on
        from minids.train.probe import pick_device
        from minids.train.sharded import Team

        device = pick_device(cfg.train.device)
        words = f"{args.resume is not None} {args.inject} {args.allow_change}"
        grid = mesh.join(cfg, place, device, words=words)
    data = grid.data
    team = Team(
        Group(place.rank, place.world),
        Group(data.get_local_rank(), data.size(), data.get_group()),
        partial(laid, cfg=cfg, grid=grid, device=device),
        mesh.from_first,
        collector(grid),
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


def laid(model, *, cfg: config.RunConfig, grid, device: str):
    """A model spread as the config says, in the words of the training code."""
    import torch

    from minids.dist.spread import lay
    from minids.train.sharded import Spread
    from minids.train.step import row_of

    pipeline = lay(model, cfg, grid, device)
    if pipeline is None:
        return Spread(model)

    def passes(_model, micro_batches, n_targets):
        empty = torch.zeros(2 + 2 * cfg.model.num_nextn_predict_layers, dtype=torch.float64)
        rows, loads = [empty.to(device)], []
        for batch in micro_batches:
            losses, load = pipeline.run(batch, n_targets)
            rows += [row_of(loss) for loss in losses]
            loads.append(load)
        return torch.stack(rows).sum(0), torch.stack(loads).sum(0)

    last = any(stage.last for stage in pipeline.stages)
    return Spread(pipeline.part, passes, last, tuple(pipeline.part.copies))


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
