"""Every figure, one function each: data in, Figure out; nothing is computed, shown or kept here.

A figure says one thing, in its title. Lines carry their own names, bars their own numbers; one
thing has one colour in all figures (Okabe-Ito, readable without red-green vision). No pyplot: a
Figure of our own starts in a third of the time and leaves no state behind.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

COLOUR = {
    "mha": "#7F7F7F",
    "gqa": "#0072B2",
    "mla": "#E69F00",
    "train": "#56B4E9",
    "held out": "#D55E00",
    "floor": "#009E73",
    "accuracy": "#0072B2",
    "rate": "#CC79A7",
    "gradient": "#0072B2",
    "guess": "#CC79A7",
    "text": "#222222",
}
PX_PER_INCH = 110


class Chart(Figure):
    """A Figure that a notebook draws by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=PX_PER_INCH)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG and hand the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return path


def panels(
    message: str,
    source: str,
    *,
    rows: int = 1,
    columns: int = 1,
    width: float = 8.0,
    height: float = 4.5,
) -> tuple[Figure, list[Axes]]:
    """An empty figure: the message on top, the source bottom right, `rows · columns` axes."""
    figure = Chart(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    wrapped = textwrap.fill(message, int(width * 7.8))
    figure.suptitle(
        wrapped, x=0.01, ha="left", fontsize=15, fontweight="bold", color=COLOUR["text"]
    )
    figure.supxlabel(source, x=0.995, ha="right", fontsize=8, color="#666666")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=11)
    return figure, axes


def panel(message: str, *, x: str, y: str, source: str) -> tuple[Figure, Axes]:
    """One pair of axes with units, ready to draw on."""
    figure, [ax] = panels(message, source)
    ax.set_xlabel(x, fontsize=12)
    ax.set_ylabel(y, fontsize=12)
    return figure, ax


def label_line(ax: Axes, x: float, y: float, text: str, colour: str, *, above: int = 0) -> None:
    """The name of a line at its right end, in the line's colour; `above` moves it, in points."""
    ax.annotate(
        text, (x, y), xytext=(6, above), textcoords="offset points",
        va="center", fontsize=12, color=colour, fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def loss_against_floor(
    *,
    step: Sequence[int],
    train: Sequence[float],
    held_out: Sequence[tuple[int, float]],
    floor: float | None,
    unit: str,
    message: str,
    source: str,
) -> Figure:
    """Training loss (smoothed by the caller), held-out points and the exact floor, over steps."""
    figure, ax = panel(message, x="optimizer step", y=unit, source=source)
    last = max([*step, *(s for s, _ in held_out)], default=1)
    ax.plot(step, train, color=COLOUR["train"], linewidth=2)
    ends = []
    if len(step):
        ends.append((train[-1], "training", COLOUR["train"]))
    if held_out:
        at, value = zip(*held_out, strict=True)
        ax.plot(at, value, "o-", color=COLOUR["held out"], linewidth=1.5, markersize=6)
        ends.append((value[-1], f"held out {value[-1]:.3f}", COLOUR["held out"]))
    if floor is not None:
        ax.axhline(floor, color=COLOUR["floor"], linewidth=2, linestyle="--")
        ends.append((floor, f"floor {floor:.3f}", COLOUR["floor"]))
    late: list[float] = [
        *train[len(train) // 12 :],
        *(v for _, v in held_out),
    ]  # the first fall leaves the top
    lowest = late if floor is None else [*late, floor]
    low, high = min(lowest, default=0.0), max(late, default=1.0)
    ax.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.05 * (high - low) + 1e-9)
    ax.set_xlim(0, last)
    spread_labels(ax, last, ends)
    return figure


def spread_labels(ax: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would cover each other."""
    low, high = ax.get_ylim()
    points = ax.bbox.height / ax.figure.dpi * 72  # height of the axes
    position, floor = {}, -math.inf
    for value, text, _ in sorted(ends):
        at = max((value - low) / (high - low) * points, floor)
        position[text], floor = at, at + 16
    for value, text, colour in ends:
        natural = (value - low) / (high - low) * points
        label_line(ax, x, value, text, colour, above=round(position[text] - natural))


def expert_load_over_time(
    *,
    step: Sequence[int],
    load: Sequence[Sequence[Sequence[float]]],
    layers: Sequence[str],
    message: str,
    source: str,
) -> Figure:
    """Heat maps, one per layer: load[layer][expert][time] as a multiple of the fair share."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(load), 3)
    rows = math.ceil(len(load) / columns)
    figure, axes = panels(message, source, rows=rows, columns=columns, height=1.2 + 2.9 * rows)
    norm = TwoSlopeNorm(vcenter=1.0, vmin=0.0, vmax=2.0)
    image = None
    for ax, layer, shares in zip(axes, layers, load, strict=False):
        extent = (step[0], max(step[-1], step[0] + 1), len(shares) - 0.5, -0.5)
        image = ax.imshow(
            shares, aspect="auto", cmap="PuOr", norm=norm, extent=extent, interpolation="nearest"
        )
        ax.set_title(layer, fontsize=12, loc="left")
        ax.set_xlabel("optimizer step", fontsize=11)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[0].set_ylabel("expert", fontsize=12)
    for ax in axes[len(load) :]:
        ax.set_visible(False)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.9, ticks=[0, 0.5, 1, 1.5, 2])
        bar.set_label("load, 1 = fair share", fontsize=12)
        bar.ax.set_yticklabels(["0", "½", "1", "1½", "≥ 2"])
    return figure


def expert_load(
    *, load: Sequence[Sequence[float]], layers: Sequence[str], message: str, source: str
) -> Figure:
    """Bars, one panel per layer: load[layer][expert] as a multiple of the fair share."""
    figure, axes = panels(message, source, columns=len(load), height=3.8)
    top = max([1.2, *(value for row in load for value in row)]) * 1.1
    for ax, layer, shares in zip(axes, layers, load, strict=True):
        ax.bar(range(len(shares)), shares, color=COLOUR["accuracy"])
        ax.axhline(1, color=COLOUR["floor"], linestyle="--", linewidth=2)
        ax.set_ylim(0, top)
        ax.set_title(layer, fontsize=12, loc="left")
        ax.set_xlabel("expert", fontsize=12)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0].set_ylabel("load, 1 = fair share", fontsize=12)
    return figure


def schedule_and_gradient(
    *,
    step: Sequence[int],
    rate: Sequence[float],
    gradient: Sequence[float],
    skipped: Sequence[int],
    message: str,
    source: str,
) -> Figure:
    """Learning rate above, gradient norm below (log scale), skipped steps as marks."""
    figure, axes = panels(message, source, rows=2, height=5.2)
    axes[0].plot(step, rate, color=COLOUR["rate"], linewidth=2)
    axes[0].set_ylabel("learning rate", fontsize=12)
    axes[0].set_ylim(0, max([1e-12, *rate]) * 1.08)
    axes[1].plot(step, gradient, color=COLOUR["gradient"], linewidth=1)
    axes[1].set_ylabel("gradient norm", fontsize=12)
    axes[1].set_yscale("log")
    axes[1].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[1].yaxis.set_minor_formatter(NullFormatter())
    axes[1].set_xlabel("optimizer step", fontsize=12)
    for at in skipped:
        axes[1].axvline(at, color=COLOUR["held out"], linewidth=1.5, linestyle=":")
    if len(skipped):
        axes[1].annotate(
            f"{len(skipped)} skipped", (skipped[0], 1), xycoords=("data", "axes fraction"),
            xytext=(4, -10), textcoords="offset points", fontsize=11, color=COLOUR["held out"],
        )  # fmt: skip
    for ax in axes:
        ax.set_xlim(0, max([1, *step]))
    return figure


def cloze(
    *,
    kind: Sequence[str],
    share: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    chance: Sequence[float],
    message: str,
    source: str,
) -> Figure:
    """Share of facts kept, per kind: bars with 95 % intervals, chance as a mark on each bar."""
    figure, ax = panel(message, x="questions answered right, %", y="", source=source)
    rows = range(len(kind))
    ax.barh(rows, [100 * s for s in share], color=COLOUR["accuracy"], height=0.62)
    for row in rows:
        ax.plot([100 * low[row], 100 * high[row]], [row, row], color=COLOUR["text"], linewidth=2)
        ax.plot(100 * chance[row], row, "D", color=COLOUR["text"], mec="white", mew=1.5, ms=11)
        ax.text(100 * high[row] + 1.5, row, f"{100 * share[row]:.0f} %", va="center", fontsize=12)
    if len(kind):
        ax.annotate(
            "chance", (100 * chance[0], -0.4), xytext=(0, 4), textcoords="offset points",
            ha="center", va="bottom", fontsize=12, color=COLOUR["text"], fontweight="bold",
        )  # fmt: skip
    ax.set_yticks(list(rows), kind, fontsize=12)
    ax.set_xlim(0, 112)
    ax.set_xticks(range(0, 101, 20))
    ax.invert_yaxis()
    return figure


def calibration(
    *,
    name: Sequence[str],
    guess: Sequence[float],
    measured: Sequence[float],
    own: Sequence[bool],
    message: str,
    source: str,
) -> Figure:
    """Left, a row per guess: how many times what was measured. Right, the share that came so near.

    Guesses have all sorts of units, so each is told as a multiple of the measurement, up to 100
    either way. The curve is that of one's own guesses, of the defaults if there are none.
    """
    figure, [rows, curve] = panels(message, source, columns=2, height=2.6 + 0.21 * len(name))
    times = [multiple(g, m) for g, m in zip(guess, measured, strict=True)]
    rows.axvspan(0.5, 2, color=COLOUR["floor"], alpha=0.15, linewidth=0)
    rows.axvline(1, color=COLOUR["floor"], linestyle="--", linewidth=2)
    for row, (x, full) in enumerate(zip(times, own, strict=True)):
        face = COLOUR["guess"] if full else "white"
        rows.plot([1, x], [row, row], color=COLOUR["guess"], linewidth=1.5, zorder=1)
        rows.plot(x, row, "o", ms=9, mfc=face, mec=COLOUR["guess"], mew=2)
    rows.set_ylim(max(len(name), 1) - 0.4, -0.6)
    rows.set_yticks(range(len(name)), name)
    rows.set_xscale("log")
    rows.set_xlim(0.008, 125)
    rows.set_xticks([0.01, 0.1, 1, 10, 100], ["÷ 100", "÷ 10", "exact", "× 10", "× 100"])
    rows.set_xlabel("guess over measurement", fontsize=12)
    mine = [x for x, full in zip(times, own, strict=True) if full]
    near = sorted(max(x, 1 / x) for x in mine or times)
    shares = [100 * (i + 1) / len(near) for i in range(len(near))]
    style = {"color": COLOUR["guess"], "linewidth": 2.5, "linestyle": "-" if mine else "--"}
    curve.step([1, *near, 100], [0, *shares, max(shares, default=0)], where="post", **style)
    curve.axvspan(1, 2, color=COLOUR["floor"], alpha=0.15, linewidth=0)
    curve.set_xscale("log")
    curve.set_xlim(1, 100)
    curve.set_ylim(0, 105)
    curve.set_xticks([1, 2, 10, 100], ["exact", "2", "10", "100"])
    curve.set_xlabel("within a factor of", fontsize=12)
    curve.set_ylabel(f"{'own guesses' if mine else 'defaults'}, %", fontsize=12)
    for ax in (rows, curve):
        ax.xaxis.set_minor_formatter(NullFormatter())
    return figure


def multiple(guess: float, measured: float) -> float:
    """guess / measured between 1/100 and 100; 1 if both are 0, the limit if signs differ."""
    if guess == measured:
        return 1.0
    if guess * measured <= 0:
        return 100.0 if guess > measured else 0.01
    return min(100.0, max(0.01, guess / measured))


def apart_from_first(
    *,
    name: Sequence[str],
    seeds: Sequence[Sequence[float]],
    interval: Sequence[tuple[float, float]],
    first: str,
    message: str,
    source: str,
) -> Figure:
    """A row per arm: its difference to the first, a dot a seed, a bar for the interval if known."""
    figure, ax = panel(message, x=f"bits per byte against {first}, %", y="", source=source)
    ax.axvline(0, color=COLOUR["mla"], linewidth=2.5)
    for row, (dots, (low, high)) in enumerate(zip(seeds, interval, strict=True)):
        if math.isfinite(high - low):
            ends = [100 * low, 100 * high]
            ax.plot(ends, [row, row], color=COLOUR["gqa"], linewidth=8, alpha=0.3)
        ax.plot([100 * x for x in dots], [row] * len(dots), "o", ms=9, color=COLOUR["gqa"])
    ax.set_yticks(range(len(name)), name, fontsize=13)
    ax.set_ylim(len(name) - 0.5, -0.5)
    ax.margins(x=0.15)
    return figure
