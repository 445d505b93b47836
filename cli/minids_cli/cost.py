"""What training and serving cost: published bills recomputed, open systems side by side.

Without a name: DeepSeek-V3's and R1's bills, a day of serving, and all open presets. With presets
or TOML files: only those, trained and served alike. Assumptions are flags, so change one at a time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minids.config import coerce
from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids cost`."""
    parser.add_argument("presets", metavar="PRESET", nargs="*", help="presets (default: all open)")
    flag = parser.add_argument
    flag("--gpu", metavar="KIND", default="h800", help="of the hardware table (default: h800)")
    flag("--price", metavar="D", help="dollars per GPU hour (default: of the table)")
    flag("--gpus", metavar="N", default="2048", help="in training (default: %(default)s)")
    flag("--mfu", metavar="F", default="0.39", help="utilisation in training, 0.001 … 1 (0.39)")
    flag("--speed", metavar="T", default="21", help="tokens/s a reader waits for (21)")
    flag("--context", metavar="N", default="4989", help="tokens in an answer's cache (4989)")
    flag("--dtype", metavar="D", default="fp8", help="of served weights: fp8, bfloat16 (fp8)")
    flag("--hardware", action="store_true", help="only show the hardware table, with sources")
    flag("--figures", metavar="FOLDER", help="also write the figures there, as PNG")


def run(args: argparse.Namespace) -> int:
    """Check, compute, show."""
    from minids.count import cost, hardware

    if args.hardware:
        return show_hardware(args)
    machine = hardware.find(args.gpu)
    price = price_of(args.price, machine)
    gpus = bounded("--gpus", args.gpus, 1, 1e7)
    mfu = bounded("--mfu", args.mfu, 0.001, 1)
    at = cost.Assumptions(
        context=int(bounded("--context", args.context, 1, 1 << 20)),
        speed=bounded("--speed", args.speed, 0.001, 1e5),
        dtype=served_dtype(args.dtype),
    )
    at = cost.settled(at)
    names = args.presets or cost.OPEN
    systems = cost.compare(names, machine, price, mfu=mfu, devices=gpus, at=at)
    bills = {} if args.presets else cost.published_bills()
    if args.figures:
        write_figures(Path(args.figures), systems, machine.name)
    if args.json:
        found = {"systems": [record(system) for system in systems], "closed": cost.closed()}
        assumed = {"machine": machine.name, "price": price, "mfu": mfu, "gpus": gpus}
        show.emit_json(assumed | {"serving": at._asdict()} | bills | found)
        return 0
    if bills:
        draw_bills(bills)
    draw_systems(systems, machine, price, mfu, gpus, at)
    return 0


def bounded(flag: str, text: str, low: float, high: float) -> float:
    """A number in its range."""
    number = coerce(flag, text, float)
    if not low <= number <= high:
        raise UserError(flag, f"{text} is out of range", f"{low:g} … {high:g}")
    return number


def price_of(text: str | None, machine: Any) -> float:
    """The price given, or the table's."""
    if text is not None:
        return bounded("--price", text, 0, 1e5)
    if not machine.dollars_per_hour:
        raise UserError("--price", f"none is known of {machine.name}", "dollars per GPU hour")
    return machine.dollars_per_hour


def served_dtype(name: str) -> str:
    """A dtype weights are served in."""
    if name not in ("fp8", "bfloat16"):
        raise UserError("--dtype", f"{name!r} is unknown", "fp8, bfloat16")
    return name


def record(system: Any) -> dict[str, Any]:
    """A system as plain values; infinite prices (it does not fit or is too slow) as null."""
    serving = system.serving._asdict()
    for name in ("input_dollars", "output_dollars"):
        serving[name] = serving[name] if serving[name] < 1e30 else None
    training = system.training._asdict() if system.training else None
    return system._asdict() | {"training": training, "serving": serving}


def draw_bills(bills: dict[str, Any]) -> None:
    """The published bills, line by line."""
    rows = [(what, f"{hours:,.0f}", f"{dollars:,.0f}") for what, hours, dollars in bills["stages"]]
    show.table("What DeepSeek reported, recomputed", ["stage", ">H800 hours", ">$ at $2"], rows)
    print("\n".join(f"  {line}" for line in bills["notes"]) + "\n")


def draw_systems(systems, machine, price, mfu, gpus, at) -> None:
    """Systems side by side, first trained, then served; and what is assumed."""
    columns = [
        "system", ">parameters", ">active", ">tokens", ">FLOPs", ">$M", ">days", ">hours published",
    ]  # fmt: skip
    rows = []
    for system in systems:
        bill, hours = system.training, system.published_hours
        row = [system.name, show.count(system.params), show.count(system.active)]
        if bill:
            tokens, days = show.count(system.tokens), f"{bill.days:,.1f}"
            row += [tokens, f"{bill.flops:.2e}", f"{bill.dollars / 1e6:,.2f}", days]
        else:
            row += ["–"] * 4
        rows.append([*row, show.count(hours) if hours else "–"])
    note = (
        f"{machine.name} at ${price:g} an hour, bfloat16, {mfu:.0%} of the peak, {gpus:,.0f} of "
        "them; – not published\nGPT-4, Claude, Gemini: undisclosed (minids claims, for rumours)\n"
    )
    show.table("Trained alike", columns, rows, note=note)
    columns = ["system", ">cache/token", ">GPUs", ">answers", ">tok/s/node", ">$/M in", ">$/M out"]
    rows = []
    for system in systems:
        s = system.serving
        cells = [f"{s.kv_bytes_per_token:,.0f} B", s.devices, f"{s.batch:,}"]
        if s.batch:
            prices = [f"{s.input_dollars:,.3f}", f"{s.output_dollars:,.3f}"]
            rows.append([system.name, *cells, f"{s.node_tokens_per_s:,.0f}", *prices])
        else:
            rows.append([system.name, *cells, "–", f"{s.input_dollars:,.3f}", f"no: {s.limit}"])
    decode, prefill = at.decode_use, at.prefill_use
    note = (
        f"{at.dtype}, {at.context:,} tokens in the cache, {at.speed:g} tokens/s for a reader, "
        f"{at.busy:.0%} of paid hours busy\nshares of the roofline as DeepSeek reached them in "
        f"February 2025: {decode:.0%} decoding, {prefill:.0%} of the peak in prefill"
    )
    show.table("Served alike", columns, rows, note=note)


def write_figures(folder: Path, systems: list[Any], gpu: str) -> None:
    """The three figures as PNG."""
    from minids.lab.figures_cost import all_figures
    from minids.plot import save

    for name, figure in all_figures(systems, gpu).items():
        save(figure, folder / f"{name}.png")


def show_hardware(args: argparse.Namespace) -> int:
    """The table of machines and where its numbers come from."""
    from minids.count.hardware import TABLE

    if args.json:
        show.emit_json([machine._asdict() for machine in TABLE])
        return 0
    columns = [
        "",
        ">bf16",
        ">fp8",
        ">fp32",
        ">memory",
        ">memory/s",
        ">link/s",
        ">net/s",
        ">W",
        ">$/h",
    ]
    rows = [
        (
            m.name, *(show.count(x) if x else "–" for x in (m.bfloat16, m.fp8, m.float32)),
            *(show.n_bytes(x) if x else "–" for x in
              (m.memory_bytes, m.memory_rate, m.link_rate, m.network_rate)),
            f"{m.watts:g}", f"{m.dollars_per_hour:.2f}" if m.dollars_per_hour else "–",
        )
        for m in TABLE
    ]  # fmt: skip
    show.table("Dense FLOP/s, bytes/s; links both ways, network one way", columns, rows)
    print("\n".join(f"{m.name}: {m.source}" for m in TABLE))
    return 0
