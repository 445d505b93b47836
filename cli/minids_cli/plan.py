"""Plan a run before it costs anything: memory of a rank, time, traffic, dollars, energy.

minids plan --config node --gpus 8 --gpu h100           training, as the config spreads it
minids plan --config tiny --gpu cpu                     on this machine, probed for a second
minids plan --config deepseek-v3 --serve --gpus 144 --gpu h800    decoding, batch against latency
"""

from __future__ import annotations

import argparse
from typing import Any

from minids import config
from minids.config import RunConfig, coerce
from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids plan`."""
    flag = parser.add_argument
    flag("--config", metavar="C", default="node", help="preset or TOML file (default: node)")
    flag("--set", metavar="K=V", action="append", default=[], help="change a field, repeatable")
    flag("--gpus", metavar="N", help="devices (default: parallel.data · parallel.pipeline)")
    flag("--gpu", metavar="KIND", default="h100", help="h100, h800, … cpu (h100)")
    flag("--price", metavar="D", help="dollars per device hour (default: of the table)")
    flag("--tokens", metavar="T", help="train on so many, as 15e12 (default: train.max_steps)")
    flag("--use", metavar="F", default="0.45", help="of the peak while computing (0.45)")
    flag("--overlap", metavar="F", default="1", help="share of communication hidden, 0 … 1 (1)")
    flag("--dtype", metavar="D", default="", help="of matrix products (bfloat16; serving fp8)")
    flag("--dispatch", metavar="D", default="bfloat16", help="tokens to experts (bfloat16, fp8)")
    flag("--zero", metavar="N", default="3", help="3 shards weights, 1 moments alone (3)")
    flag("--schedule", metavar="S", default="1f1b", help="of the pipeline (1f1b)")
    flag("--micro-batches", metavar="M", default="0", help="of each pipeline (0: a good number)")
    flag("--recompute", action="store_true", help="keep only inputs of blocks")
    flag("--serve", action="store_true", help="plan decoding instead of training")
    flag("--context", metavar="N", default="4989", help="serving: tokens in the cache (4989)")


def run(args: argparse.Namespace) -> int:
    """Check, count, show."""
    from minids.count import hardware

    cfg = config.load(args.config, args.set)
    if args.gpu == "cpu":
        return on_this_machine(args, cfg)
    machine = hardware.find(args.gpu)
    price = (
        machine.dollars_per_hour if args.price is None else within("--price", args.price, 0, 1e5)
    )
    parallel = cfg.parallel
    gpus = int(within("--gpus", args.gpus or parallel.data * parallel.pipeline, 1, 1e6))
    if args.serve:
        return serve(args, cfg, machine, price, gpus)
    return train(args, cfg, machine, price, gpus)


def within(flag: str, text: Any, low: float, high: float) -> float:
    """A number in its range."""
    number = coerce(flag, text, float)
    if not low <= number <= high:
        raise UserError(flag, f"{text} is out of range", f"{low:g} … {high:g}")
    return number


def train(args: argparse.Namespace, cfg: RunConfig, machine, price: float, gpus: int) -> int:
    """A training run."""
    from minids.count import memory
    from minids.count import plan as planning

    at = planning.Assumptions(
        within("--use", args.use, 0.001, 1), within("--overlap", args.overlap, 0, 1),
        args.dtype or "bfloat16", args.dispatch,
    )  # fmt: skip
    memory.size_of(at.dispatch)
    machine.flops(at.dtype)
    layout = planning.layout_of(
        cfg,
        gpus,
        micro_batches=int(within("--micro-batches", args.micro_batches, 0, 1e6)),
        zero=3 if within("--zero", args.zero, 1, 3) > 2 else 1,
        schedule=args.schedule,
        recompute=args.recompute,
    )
    tokens = within("--tokens", args.tokens, 1, 1e18) if args.tokens else 0
    found = planning.plan(cfg, layout, machine, price, at, tokens=tokens)
    if args.json:
        record = found._asdict() | {"layout": layout._asdict(), "assumptions": at._asdict()}
        show.emit_json(record | {"memory": found.memory._asdict() | {"total": found.memory.total}})
        return 0
    draw(cfg, found, machine, at)
    return 0


def draw(cfg: RunConfig, found, machine, at) -> None:
    """Memory as a table, the rest in lines."""
    rows = [(name, show.n_bytes(size)) for name, size in found.memory._asdict().items()]
    rows += [("all", show.n_bytes(found.memory.total))]
    room = show.n_bytes(machine.memory_bytes)
    verdict = "fits" if found.fits else "DOES NOT FIT"
    show.table(f"Fullest rank: {verdict} into {room} of {machine.name}", ["", ">bytes"], rows)
    lay = found.layout
    days = found.hours / 24
    wall = f"{found.hours:,.1f} hours" if days < 4 else f"{days:,.1f} days"
    lines = [
        f"layout      {lay.gpus:,} = {lay.data} data × {lay.pipeline} stages; experts over "
        f"{lay.expert}; {lay.micro_batches} micro-batches of {lay.rows} × {cfg.data.context}",
        f"step        {found.step_s:.3g} s: arithmetic {found.compute_s:.3g} s at {at.use:.0%} of "
        f"the peak, bubble {found.bubble:.1%} ({lay.schedule}), talk {found.talk_s:.3g} s, "
        f"{at.overlap:.0%} of it hidden",
        f"a rank sends {show.n_bytes(found.all_to_all_bytes)} to experts, "
        f"{show.n_bytes(found.reduce_bytes)} gathering and reducing, "
        f"{show.n_bytes(found.pipeline_bytes)} between stages, each step",
        f"rate        {show.count(found.tokens_per_s)} tokens/s, {found.mfu:.1%} MFU",
        f"run         {found.steps:,} steps, {show.count(found.steps * found.tokens_per_step)} "
        f"tokens: {wall}, {show.count(found.gpu_hours)} device hours",
        f"cost        ${found.dollars:,.0f} of rent, {found.energy_kwh / 1000:,.1f} MWh in the "
        "devices alone",
    ]
    print("\n".join(lines))


def serve(args: argparse.Namespace, cfg: RunConfig, machine, price: float, gpus: int) -> int:
    """Decoding: batch against latency."""
    from minids.count import serving

    dtype = args.dtype or "fp8"
    if dtype not in ("fp8", "bfloat16"):
        raise UserError("--dtype", f"{dtype!r} is unknown", "fp8, bfloat16")
    context = int(within("--context", args.context, 1, cfg.model.max_position_embeddings))
    at = serving.settled(serving.Assumptions(context=context, dtype=dtype))
    rungs = serving.ladder(cfg.model, machine, price, at, gpus)
    first = serving.first_token_s(cfg.model, machine, at, gpus)
    if args.json:
        record = {"assumptions": at._asdict(), "first_token_s": first, "devices": gpus}
        show.emit_json(record | {"rungs": [rung._asdict() for rung in rungs]})
        return 0
    columns = [">answers", ">ms/token", ">tok/s reader", ">tok/s all", ">cache", ">memory", ">$/M"]
    rows = [
        (f"{r.batch:,}", f"{1e3 * r.step_s:.1f}", f"{r.tokens_per_s:,.1f}",
         f"{r.all_tokens_per_s:,.0f}", show.n_bytes(r.cache_bytes),
         show.n_bytes(r.memory_bytes) + ("" if r.fits else " too much"), f"{r.dollars:,.3f}")
        for r in rungs
    ]  # fmt: skip
    note = (
        f"{gpus} {machine.name}, {dtype}, {context:,} tokens in each cache; {at.decode_use:.0%} of "
        f"the roofline, as DeepSeek reached; delays of links are not counted, so few answers look "
        f"faster than they are\nfirst token of such a prompt alone: {first:.3g} s"
    )
    show.table("Decoding", columns, rows, note=note)
    return 0


def on_this_machine(args: argparse.Namespace, cfg: RunConfig) -> int:
    """One process here: probe, then predict."""
    if args.serve:
        raise UserError("--serve", "given with --gpu cpu", "a kind of the hardware table")
    if cfg.model.attention == "csa":
        raise UserError("model.attention", "csa (DeepSeek-V4) is counted, not built", "mla, gqa")
    from minids.bench.plan import probe
    from minids.count import step
    from minids.train.probe import choose

    machine = choose(cfg.train)
    speed = probe(machine.precision)
    rows, s = cfg.train.batch_size // machine.workers, cfg.data.context
    again = args.recompute or cfg.train.activation_checkpointing == "full"
    said = step.predict(
        cfg.model, rows, s, machine.precision, speed, cfg.train.optimizer, recompute=again
    )
    seconds = said.gradient_s * cfg.train.grad_accum + said.update_s
    minutes = cfg.train.max_minutes or seconds * cfg.train.max_steps / 60
    tokens = cfg.train.batch_size * cfg.train.grad_accum * s
    record = {
        "workers": machine.workers,
        "threads": machine.threads,
        "precision": machine.precision,
        "flops_per_s": speed.flops_per_s,
        "step_s": seconds,
        "update_s": said.update_s,
        "tokens_per_s": tokens / seconds,
        "minutes": minutes,
        "worker_bytes": said.peak_bytes,
        "kept_bytes": said.kept_bytes,
        "mfu": said.flops / (said.seconds * speed.flops_per_s),
    }
    if args.json:
        show.emit_json(record)
        return 0
    print(
        f"{machine.workers} × {machine.threads} thread, {machine.precision}: probed "
        f"{show.count(speed.flops_per_s)}FLOP/s of one\n"
        f"step    {seconds:.3g} s, of which the optimizer {said.update_s:.3g} s; "
        f"{show.count(tokens / seconds)} tokens/s\n"
        f"run     {minutes:.3g} minutes\n"
        f"memory  {show.n_bytes(said.peak_bytes)} a worker, {show.n_bytes(said.kept_bytes)} of it "
        "kept for the backward pass; beside it about 0.3 GB of libraries"
    )
    return 0
