"""Figures of runs that must go on: losses and what is no longer believed, intervals and waste."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from minids.plot import COLOUR, label_line, panel


def guarded(
    losses: Sequence[float], limits: Sequence[float | None], skipped: Sequence[bool],
    *, message: str, source: str,
) -> Figure:  # fmt: skip
    """Loss of every step, the limit at that step, and the steps that were thrown away."""
    figure, ax = panel(message, x="step", y="loss, nats per token", source=source)
    steps = range(1, len(losses) + 1)
    ax.plot(steps, losses, "-", color=COLOUR["train"], linewidth=1)
    kept = [(s, loss) for s, loss, out in zip(steps, losses, skipped, strict=True) if not out]
    thrown = [(s, loss) for s, loss, out in zip(steps, losses, skipped, strict=True) if out]
    ax.plot(*zip(*kept, strict=True), "o", ms=4, color=COLOUR["train"])
    shown = [(s, limit) for s, limit in zip(steps, limits, strict=True) if limit is not None]
    if shown:
        ax.plot(*zip(*shown, strict=True), "-", color=COLOUR["floor"], linewidth=2)
        label_line(ax, *shown[-1], "limit", COLOUR["floor"])
    if thrown:
        ax.plot(*zip(*thrown, strict=True), "X", ms=10, color=COLOUR["held out"])
        label_line(ax, *thrown[0], "thrown away", COLOUR["held out"])
    ax.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(0.8 * min(loss for _, loss in kept), 1.5 * max(losses))
    return figure


def intervals(
    minutes: Sequence[float], curves: dict[str, Sequence[float]], points: Sequence[float],
    *, best: float, message: str, source: str,
) -> Figure:  # fmt: skip
    """Useful share over the time between saves: formulas as lines, simulated runs as points."""
    figure, ax = panel(message, x="minutes of work between saves", y="useful, % of all time",
                       source=source)  # fmt: skip
    for (name, shares), colour in zip(curves.items(), ("mha", "gqa"), strict=False):
        ax.plot(minutes, [100 * share for share in shares], color=COLOUR[colour], linewidth=2)
        beside = 10 if colour == "mha" else -14
        label_line(ax, minutes[-1], 100 * shares[-1], name, COLOUR[colour], above=beside)
    ax.plot(minutes, [100 * share for share in points], "o", ms=6, color=COLOUR["mla"])
    label_line(ax, minutes[0], 100 * points[0], "simulated runs", COLOUR["mla"])
    ax.axvline(best, color=COLOUR["floor"], linestyle="--", linewidth=2)
    ax.set_xscale("log")
    ax.set_xticks([1, 10, 60, 360, 1440], ["1", "10", "60", "6 h", "a day"])
    ax.minorticks_off()
    ax.set_xlim(0.8 * min(minutes), 1.3 * max(minutes))
    ax.set_ylim(0, 104)
    return figure
