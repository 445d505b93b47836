"""Figures of pipelines and expert placement: who works when, who holds how much, who is busiest."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minids.dist.schedules import Event, Timetable, in_flight, peak_in_flight
from minids.plot import COLOUR, label_line, panels

KIND = {"F": "#0072B2", "B": "#E69F00", "I": "#E69F00", "W": "#009E73"}
WORD = {"F": "forward", "B": "backward", "I": "backward, inputs", "W": "backward, weights"}
SMALLEST = 0.0195  # of the width: narrower boxes do not show the number of their micro-batch


def gantt(
    table: Timetable, *, message: str, source: str, memory: bool = True, numbers: bool = True
) -> Figure:
    """Every rank's row of actions over time; below, the micro-batches it holds at each moment.

    numbers: of micro-batches, in the boxes.
    """
    ranks = len(table.schedule.orders)
    height = 1.5 + 0.42 * ranks + (2.2 if memory else 0.6)
    figure, axes = panels(message, source, rows=1 + memory, width=11, height=height)
    top = axes[0]
    for event in table.events:
        draw_event(top, event, table, numbers)
    top.set_xlim(0, table.span)
    top.set_ylim(ranks - 0.5, -0.5)
    top.set_yticks(range(ranks), [f"rank {r}" for r in range(ranks)], fontsize=11)
    top.spines["left"].set_visible(False)
    top.tick_params(axis="y", length=0)
    kinds = {kind for event in table.events for kind in split(event.action.kind)}
    place = 0.0
    for kind in [k for k in WORD if k in kinds]:
        top.text(
            place, 1.02, WORD[kind], transform=top.transAxes, fontsize=12, fontweight="bold",
            color=KIND[kind],
        )  # fmt: skip
        place += 0.03 + 0.0125 * len(WORD[kind])
    top.text(
        1, 1.02, f"waiting {table.share:.0%}", transform=top.transAxes, ha="right", fontsize=12,
        fontweight="bold", color=COLOUR["text"],
    )  # fmt: skip
    if not memory:
        top.set_xlabel("time, forwards of one stage", fontsize=12)
        return figure
    below = axes[1]
    first, last = (dict([(0.0, 0), *in_flight(table, r)]) for r in (0, ranks - 1))
    lines = [("rank 0", first, COLOUR["train"]), (f"rank {ranks - 1}", last, COLOUR["held out"])]
    if first == last:
        lines = [(f"ranks 0 and {ranks - 1}" if ranks > 1 else "rank 0", first, COLOUR["train"])]
    for name, held, colour in lines:  # what changes twice at one moment counts once
        below.step([*held], [*held.values()], where="post", color=colour, linewidth=2)
        at = max(held, key=lambda time: held[time])
        label_line(below, at, held[at], f"{name}: {held[at]}", colour, above=9)
    most = max(peak_in_flight(table, r) for r in range(ranks))
    below.set_xlim(0, table.span)
    below.set_ylim(0, 1.3 * most)
    below.set_ylabel("stages held", fontsize=12)
    below.set_xlabel("time, forwards of one stage", fontsize=12)
    grid = top.get_gridspec()
    if grid is not None:
        grid.set_height_ratios([0.42 * ranks + 0.6, 2.0])
    return figure


def split(kind: str) -> tuple[str, ...]:
    """FB is drawn as a forward over a backward."""
    return ("F", "B") if kind == "FB" else (kind,)


def draw_event(ax, event: Event, table: Timetable, numbers: bool) -> None:
    """A box of its kind's colour; paler for later stages of a rank, the number inside if small."""
    width, action = event.end - event.start, event.action
    homes = sorted({a.stage for a in table.schedule.orders[event.rank]})
    halves = split(action.kind)
    for i, kind in enumerate(halves):
        stage = action.stage if i == 0 else action.stage_b
        micro = action.micro if i == 0 else action.micro_b
        pale = 0.62 if len(homes) > 1 and stage == homes[-1] else 1.0
        tall = 0.84 / len(halves)
        corner = (event.start, event.rank - 0.42 + i * tall)
        box = Rectangle(
            corner, width, tall, facecolor=KIND[kind], alpha=pale, edgecolor="white", linewidth=0.8
        )
        ax.add_patch(box)
        if numbers and width > SMALLEST * table.span:
            ax.text(
                event.start + width / 2, corner[1] + tall / 2, str(micro), ha="center",
                va="center_baseline", fontsize=9 if len(halves) == 1 else 7, color="white",
                fontweight="bold",
            )  # fmt: skip


def waiting(shares: dict[str, float], *, message: str, source: str) -> Figure:
    """Share of time that ranks wait, one bar a schedule, in the order given."""
    figure, [ax] = panels(message, source)
    names = list(shares)
    bars = ax.barh(names, [100 * shares[n] for n in names], color=COLOUR["gqa"])
    ax.bar_label(bars, [f"{100 * shares[n]:.1f} %" for n in names], padding=4, fontsize=12)
    ax.set_xlim(0, 118 * max(shares.values()))
    ax.set_xlabel("waiting, % of all time", fontsize=12)
    ax.tick_params(axis="y", labelsize=12, length=0)
    ax.invert_yaxis()
    return figure


def gpu_load(
    before: Sequence[float], after: Sequence[float], *, message: str, source: str
) -> Figure:
    """Load of every GPU as a multiple of the mean, without and with placement."""
    figure, axes = panels(message, source, columns=2, height=4.0)
    top = 1.15 * max([*before, *after])
    for ax, loads, title in zip(
        axes, (before, after), ("experts in order", "copied and placed by load"), strict=True
    ):
        ax.bar(range(len(loads)), loads, color=COLOUR["accuracy"])
        ax.axhline(1, color=COLOUR["floor"], linestyle="--", linewidth=2)
        ax.set_ylim(0, top)
        ax.set_title(f"{title}: busiest {max(loads):.2f}", fontsize=12, loc="left")
        ax.set_xlabel("GPU", fontsize=12)
    axes[0].set_ylabel("load, 1 = mean", fontsize=12)
    return figure
