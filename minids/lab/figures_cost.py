"""Figures of what things cost: data in, Figure out, beside those of `minids.plot`."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from minids.count.cost import System, published_bills
from minids.count.hardware import find
from minids.count.published import V3_MFU, V3_PRICE
from minids.count.scaling import Law
from minids.plot import COLOUR, label_line, panel


def all_figures(systems: Sequence[System], gpu: str) -> dict[str, Figure]:
    """The figures of `minids cost --figures`, by file name."""
    bills = published_bills()
    parts = {name: dollars for name, _, dollars in bills["stages"] if "in all" not in name}
    parts.pop("R1 on top of V3")
    found = {
        "breakdown": breakdown(
            parts,
            message="Nearly all of the published bill is V3's pre-training",
            source="DeepSeek-V3 report Table 1, R1 supplement; $2 an H800 hour, assumed",
        ),
        "kv_bytes": kv_bytes(
            {s.name: s.serving.kv_bytes_per_token for s in systems},
            message="A cached token costs from 7 kB to half a megabyte",
            source="counted from the presets, bfloat16",
        ),
    }
    trained = {s.name: s.training for s in systems if s.training}
    if "deepseek-v3" in trained:
        bill, machine = trained["deepseek-v3"], find(gpu)
        found["utilisation"] = against_utilisation(
            flops=bill.flops,
            rate=machine.bfloat16,
            price=V3_PRICE.value,
            reported=V3_MFU.value,
            message="The same run costs twice as much at half the utilisation",
            source=f"DeepSeek-V3, 3.7e24 FLOPs, {gpu}, bfloat16 peak, $2 an hour",
        )
    return found


def breakdown(dollars: dict[str, float], *, message: str, source: str) -> Figure:
    """Published stages in dollars, one bar each, on a common zero."""
    figure, ax = panel(message, x="million dollars", y="", source=source)
    names = list(dollars)
    amounts = [dollars[name] / 1e6 for name in names]
    colours = [COLOUR["mla"] if name.startswith("V3") else COLOUR["gqa"] for name in names]
    bars = ax.barh(names, amounts, color=colours)
    ax.bar_label(bars, [f"{amount:.3f}" for amount in amounts], padding=4, fontsize=12)
    ax.set_xlim(0, 1.15 * max(amounts))
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    return figure


def against_utilisation(
    *, flops: float, rate: float, price: float, reported: float, message: str, source: str
) -> Figure:
    """Dollars of one run over the share of the peak that is reached, and where it was."""
    x, y = "utilisation, % of the peak", "million dollars"
    figure, ax = panel(message, x=x, y=y, source=source)

    def dollars(share: float) -> float:
        return flops / (rate * share) / 3600 * price / 1e6

    shares = [0.10 + 0.01 * i for i in range(71)]
    ax.plot([100 * s for s in shares], [dollars(s) for s in shares], color=COLOUR["mla"], lw=2.5)
    ax.plot([100 * reported], [dollars(reported)], "o", color=COLOUR["text"], ms=9)
    ax.annotate(
        f"reported: {reported:.1%}, ${dollars(reported):.2f}M",
        (100 * reported, dollars(reported)), xytext=(10, 10), textcoords="offset points",
        fontsize=13, fontweight="bold", color=COLOUR["text"],
    )  # fmt: skip
    ax.set_xlim(8, 82)
    ax.set_ylim(0, dollars(shares[0]) * 1.05)
    return figure


def kv_bytes(per_token: dict[str, float], *, message: str, source: str) -> Figure:
    """Bytes of cache per token, smallest first, on a zero-based axis."""
    figure, ax = panel(message, x="kB of cache per token", y="", source=source)
    figure.set_figheight(max(4.5, 0.4 * len(per_token) + 1.2))
    names = sorted(per_token, key=lambda name: per_token[name])
    amounts = [per_token[name] / 1e3 for name in names]
    latent = ("deepseek-v", "kimi", "moonlight")
    colours = [COLOUR["mla"] if name.startswith(latent) else COLOUR["gqa"] for name in names]
    bars = ax.barh(names, amounts, color=colours)
    ax.bar_label(bars, [f"{amount:,.0f}" for amount in amounts], padding=4, fontsize=12)
    ax.set_xlim(0, 1.12 * max(amounts))
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    if any(name.startswith(latent) for name in names):
        for text, colour, up in (
            ("latents (V4: shared by tokens)", "#B87700", 0.93),
            ("grouped heads", "#0072B2", 0.86),
        ):
            ax.text(
                0.98, up, text, transform=ax.transAxes, ha="right", fontsize=13, color=colour,
                fontweight="bold",
            )  # fmt: skip
    return figure


def through_runs(
    *,
    runs: Sequence[tuple[float, float]],
    law: Law,
    interval: tuple[float, float],
    last: tuple[float, float],
    message: str,
    source: str,
) -> Figure:
    """Small runs (FLOPs, loss), the law through them, what it expects of a last run and its loss.

    Everything is drawn above the law's floor, on two log scales.
    """
    figure, ax = panel(message, x="FLOPs", y="loss above the floor, nats", source=source)
    above = [loss - law.floor for _, loss in runs]
    ends = [runs[0][0] / 1.5, last[0] * 1.5]
    ax.plot(ends, [law.at(x) - law.floor for x in ends], color=COLOUR["mha"], linewidth=2)
    ax.plot([x for x, _ in runs], above, "o", color=COLOUR["gqa"], markersize=9)
    low, high = (value - law.floor for value in interval)
    ax.plot([last[0]] * 2, [low, high], color=COLOUR["mha"], linewidth=6, alpha=0.5)
    ax.plot([last[0]], [last[1] - law.floor], "o", color=COLOUR["mla"], markersize=11)
    expected = law.at(last[0]) - law.floor
    label_line(ax, last[0], expected, f"  law {expected:.2f}", "#666666", above=14)
    measured = last[1] - law.floor
    label_line(ax, last[0], measured, f"  measured {measured:.2f}", "#B87700", above=-12)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(ends[0], last[0] * 2.2)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return figure
