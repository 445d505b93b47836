"""The live screen of a training run: one look, 100 × 30, made to be projected.

Drawn at most four times a second from what the events said; drawing runs in the training process,
so it is kept to a few milliseconds.
"""

from __future__ import annotations

import math
import time

from rich.align import Align
from rich.console import Console, Group
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minids.train import events
from minids_cli import show
from minids_cli.watch import Plain

REDRAWS_PER_S = 3
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, row by row
BARS = " ▁▂▃▄▅▆▇█"
BLUE, ORANGE, GREEN, GREY = "#56B4E9", "#E69F00", "#009E73", "grey58"


class Dashboard(Plain):
    """Hears events, keeps what the screen needs, redraws when it is time."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(highlight=False)
        self.losses: list[float] = []  # bits per byte, every step
        self.held_out: list[tuple[int, float]] = []
        self.last: events.Step | None = None
        self.sample, self.sample_step = "", 0
        self.notes: list[str] = []
        self.load: list[list[float]] = []
        self.rate = 0.0
        self.drawn_at = 0.0
        self.live = Live(console=self.console, auto_refresh=False, screen=False, transient=True)
        self.live.start()

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self.live.is_started:
            if self.last:
                self.live.transient = False
                self.live.update(self.picture(), refresh=True)
            self.live.stop()

    def line(self, text: str) -> None:
        self.console.print(text, highlight=False)

    # Events

    def on_started(self, e: events.Started) -> None:
        self.started = e
        if e.started_loss is not None:
            self.notes.append(
                f"step 0: expected ln V = {e.expected_loss:.3f}, got {e.started_loss:.3f}"
            )

    def on_step(self, e: events.Step) -> None:
        self.last = e
        self.losses.append(self.bits_per_byte(e.loss) if math.isfinite(e.loss) else math.nan)
        self.rate = 0.9 * self.rate + 0.1 * e.tokens_per_s if self.rate else e.tokens_per_s
        if e.load:
            if not self.load:
                self.load = [[float(v) for v in layer] for layer in e.load]
            for kept, new in zip(self.load, e.load, strict=True):
                kept[:] = [0.9 * a + 0.1 * b for a, b in zip(kept, new, strict=True)]
        if time.monotonic() - self.drawn_at > 1 / REDRAWS_PER_S:
            self.drawn_at = time.monotonic()
            self.live.update(self.picture(), refresh=True)

    def on_evaluated(self, e: events.Evaluated) -> None:
        self.held_out.append((e.step, e.metrics["bpb"]))

    def on_sampled(self, e: events.Sampled) -> None:
        self.sample, self.sample_step = " ".join(e.text.split()), e.step

    def on_saved(self, e: events.Saved) -> None:
        self.notes.append(f"step {e.step}: saved in {e.seconds:.2f} s")

    def on_warned(self, e: events.Warned) -> None:
        self.notes.append(e.text)

    def on_rolledback(self, e: events.RolledBack) -> None:
        self.notes.append(f"step {e.step}: back to {e.to_step}, {e.reason}")

    # The picture

    def picture(self) -> Layout | Group:
        """The whole screen."""
        assert self.started and self.last
        width, height = self.console.size
        body_height = max(10, min(height - 1, 30) - 11)
        top = Layout(size=3)
        top.update(Panel(self.header(), border_style=GREY))
        body = Layout(size=body_height)
        left, right = Layout(ratio=3), Layout(ratio=2)
        curve = Panel(
            self.curve(max(20, int((width - 4) * 0.6) - 10), body_height - 4),
            title="bits per byte",
            border_style=GREY,
        )
        left.update(curve)
        right.split_column(Layout(self.numbers(), size=9), Layout(self.experts()))
        body.split_row(left, right)
        bottom = Layout(size=8)
        bottom.update(self.footer())
        whole = Layout(size=3 + body_height + 8)
        whole.split_column(top, body, bottom)
        return Group(Align.left(whole, height=3 + body_height + 8))

    def header(self) -> Text:
        e = self.started
        assert e
        m = e.cfg.model
        parts = [m.attention.upper()]
        if m.n_routed_experts:
            parts.append(f"{m.n_routed_experts} experts, {m.num_experts_per_tok} a token")
        if m.num_nextn_predict_layers:
            parts.append(f"MTP {m.num_nextn_predict_layers}")
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"minids {e.cfg.name}", style="bold")
        text.append(f"  {show.count(e.parameters)} parameters  ·  {' · '.join(parts)}  ·  ")
        text.append(f"{e.cfg.data.name}  ·  {e.machine.precision}, {e.machine.workers} workers")
        return text

    def numbers(self) -> Panel:
        """Where we are, in figures."""
        e, start = self.last, self.started
        assert e and start
        now = self.smoothed(20)
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(style=GREY)
        grid.add_column(justify="right")
        grid.add_row("loss", Text(f"{e.loss:.3f} nats/token", style="bold"))
        big = Text(f"{now:.4f}", style=f"bold {ORANGE}")
        grid.add_row("bits per byte", big)
        if start.floor_bpb:
            above = now / start.floor_bpb - 1
            grid.add_row("exact floor", Text(f"{start.floor_bpb:.4f}", style=GREEN))
            grid.add_row("above it", Text(f"{above:.1%}", style="bold"))
        if self.held_out:
            step, value = self.held_out[-1]
            grid.add_row(f"held out, step {step}", f"{value:.4f}")
        grid.add_row("gradient norm · lr", f"{e.grad_norm:.2f} · {e.lr:.1e}")
        return Panel(grid, border_style=GREY, padding=(0, 1))

    def experts(self) -> Panel:
        """Load of each expert as bars, its layer's mean at half height."""
        rows = []
        for number, layer in enumerate(self.load):
            mean = sum(layer) / len(layer) or 1.0
            bars = "".join(BARS[min(8, max(0, round(4 * visits / mean)))] for visits in layer)
            worst = max(layer) / mean
            row = Text(f"{number + 1:>2} ", style=GREY)
            row.append(" ".join(bars) if len(bars) <= 16 else bars, style=BLUE)
            row.append(f"  {worst:.2f}×", style="bold red" if worst > 2 else GREY)
            rows.append(row)
        if not rows:
            rows = [Text("dense model: no experts", style=GREY)]
        return Panel(Group(*rows), title="expert load", border_style=GREY, padding=(0, 1))

    def curve(self, width: int, height: int) -> Text:
        """Loss so far in braille dots, the floor as a line; newest on the right."""
        values = [v for v in self.losses if math.isfinite(v)]
        if len(values) < 2:
            return Text("…")
        columns = width * 2
        points = (
            [values[int(i * (len(values) - 1) / (columns - 1))] for i in range(columns)]
            if len(values) > columns
            else values
        )
        floor = self.started.floor_bpb if self.started else None
        low = min([*points, floor or math.inf]) * 0.97
        high = max(points)
        rows = height * 4
        cells = [[0] * width for _ in range(height)]
        span = math.log(high / low) or 1.0

        def row_of(value: float) -> int:
            return min(rows - 1, max(0, round((rows - 1) * (math.log(high / value) / span))))

        scale = (columns - 1) / max(1, len(points) - 1)
        previous = row_of(points[0])
        for i, value in enumerate(points):
            x, y = round(i * scale), row_of(value)
            for between in range(min(previous, y), max(previous, y) + 1):
                cells[between // 4][x // 2] |= DOTS[between % 4][x % 2]
            previous = y
        floor_row = row_of(floor) // 4 if floor else -1
        text = Text()
        for number, cell_row in enumerate(cells):
            at = high * math.exp(-span * (number + 0.5) / height)
            text.append(f"{at:6.2f} ", style=GREY)
            for cell in cell_row:
                if cell:
                    text.append(chr(BRAILLE + cell), style=ORANGE)
                elif number == floor_row:
                    text.append("─", style=GREEN)
                else:
                    text.append(" ")
            if number == floor_row:
                text.append(" floor", style=GREEN)
            text.append("\n")
        return text

    def footer(self) -> Group:
        """Time, a sample, the newest note."""
        e, start = self.last, self.started
        assert e and start
        left = e.elapsed_s * (1 - e.progress) / e.progress if e.progress else 0
        grid = Table.grid(padding=(0, 1), expand=True)
        for _ in range(2):
            grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        total = f"/{start.max_steps}" if start.max_steps else ""
        grid.add_row(
            f"step {e.step}{total}",
            ProgressBar(total=1.0, completed=e.progress, width=38, complete_style=ORANGE),
            f"{self.rate:,.0f} tokens/s · {show.duration(e.elapsed_s)} gone, "
            f"{show.duration(left)} left",
        )
        title = f"sample at step {self.sample_step}" if self.sample else "sample"
        text = Text(self.sample or "the first one comes in a few seconds", overflow="ellipsis")
        panel = Panel(text, title=title, border_style=GREY, height=6)
        note = Text(
            self.notes[-1] if self.notes else "", style=GREY, no_wrap=True, overflow="ellipsis"
        )
        return Group(grid, panel, note)

    def smoothed(self, count: int) -> float:
        """Mean of the newest finite losses, bits per byte."""
        recent = [v for v in self.losses[-count:] if math.isfinite(v)]
        return sum(recent) / len(recent) if recent else math.nan
