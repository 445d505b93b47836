"""The live screen of a training run: one look, 100 × 30, made to be projected.

Drawn at most three times a second from what the events said, in the training process: a picture
takes a few milliseconds, and after it the screen rests 60 times as long, so training loses less
than 2 %. A small terminal gets fewer rows, a tiny one five lines.
"""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.live import Live
from rich.segment import Segment, SegmentLines
from rich.text import Text

from minids.count.params import count
from minids.train import events
from minids_cli import drawing, picture, show
from minids_cli.drawing import BLUE, BOLD, GREEN, GREY, ORANGE, PLAIN, RED, Row
from minids_cli.watch import Plain

SECONDS_BETWEEN, LONGEST_REST = 1 / 3, 2.0
REST = 60  # times what a picture cost
WARNING_STAYS_S = 8.0
POINTS = 2_000  # of the curve; older ones are joined
LARGEST = (120, 40)
NOW_ROWS = 8


class Dashboard(Plain):
    """Hears events, keeps what the screen needs, redraws when it is time."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(highlight=False)
        self.live: Live | None = None
        self.size, self.next_at, self.warned_at = self.console.size, 0.0, -math.inf
        self.points: list[drawing.Point] = []  # (share of the run, bits per byte)
        self.held_out: list[drawing.Point] = []
        self.last: events.Step | None = None
        self.evaluated: events.Evaluated | None = None
        self.sampled: events.Sampled | None = None
        self.warnings: list[str] = []
        self.note: tuple[str, bool] = "", False  # and whether it is a warning
        self.load: list[list[float]] = []
        self.now = self.rate = 0.0  # smoothed bits per byte and tokens/s

    def close(self) -> None:
        """Leave the last picture on the screen, warnings below."""
        if self.live is None:
            return
        live, self.live = self.live, None
        live.transient = False
        live.update(self.picture(), refresh=True)
        live.stop()
        if path := picture.wanted():
            name = self.started.cfg.name if self.started else ""
            width = min(self.console.width, LARGEST[0])
            title = f"minids train {'--tiny' if name == 'tiny' else f'--config {name}'}"
            picture.save(path, self.picture().lines, width, title)
        for text in dict.fromkeys(self.warnings):
            self.line(f"warning: {text}")

    def line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    # Events

    def on_started(self, e: events.Started) -> None:
        self.started = e
        active = count(e.cfg.model).active
        self.parameters = f"{show.count(e.parameters)} parameters, {show.count(active)} active"
        if e.started_loss is not None:
            text = f"step 0: expected ln V = {e.expected_loss:.3f}, got {e.started_loss:.3f}"
            self.note = text, False
        self.redraw()

    def on_step(self, e: events.Step) -> None:
        self.last = e
        self.time_left(e)
        if math.isfinite(e.loss):
            bits = self.bits_per_byte(e.loss)
            self.points = drawing.thin([*self.points, (e.progress, bits)], POINTS)
            self.now = 0.8 * self.now + 0.2 * bits if self.now else bits
        self.rate = 0.9 * self.rate + 0.1 * e.tokens_per_s if self.rate else e.tokens_per_s
        if not self.load:
            self.load = [[float(v) for v in layer] for layer in e.load]
        for kept, new in zip(self.load, e.load, strict=True):
            kept[:] = [0.9 * a + 0.1 * b for a, b in zip(kept, new, strict=True)]
        if time.monotonic() > self.next_at:
            self.redraw()

    def on_evaluated(self, e: events.Evaluated) -> None:
        self.evaluated = e
        share = self.last.progress if self.last else 0.0
        self.held_out.append((share, e.metrics["bpb"]))

    def on_sampled(self, e: events.Sampled) -> None:
        self.sampled = e

    def on_saved(self, e: events.Saved) -> None:
        if time.monotonic() - self.warned_at > WARNING_STAYS_S:
            self.note = f"step {e.step}: saved in {e.seconds:.2f} s", False

    def on_warned(self, e: events.Warned) -> None:
        self.warn(e.text)

    def on_rolledback(self, e: events.RolledBack) -> None:
        self.warn(f"step {e.step}: back to the weights of step {e.to_step}: {e.reason}")

    def warn(self, text: str) -> None:
        """A note that the next save does not push away."""
        self.warnings.append(text)
        self.note, self.warned_at = (text, True), time.monotonic()

    # The screen

    def redraw(self) -> None:
        """Show the picture; a resized window is wiped first."""
        start = time.thread_time()
        if self.live is None or self.size != self.console.size:
            if self.live:
                self.live.stop()
                self.console.clear()
            self.size = self.console.size
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()
        self.live.update(self.picture(), refresh=True)
        rest = min(REST * (time.thread_time() - start), LONGEST_REST)
        self.next_at = time.monotonic() + max(SECONDS_BETWEEN, rest)

    def picture(self) -> SegmentLines:
        """The whole screen, one row less than the terminal has."""
        assert self.started
        width, height = (min(a, b) for a, b in zip(self.console.size, LARGEST, strict=True))
        roomy = width >= 72 and height >= 22
        rows = self.whole(width, height - 1) if roomy else self.small(width)
        cut = [Segment.adjust_line_length(row, width) for row in rows[: max(1, height - 1)]]
        return SegmentLines(cut, new_lines=True)

    def whole(self, width: int, height: int) -> list[Row]:
        """Header, curve, numbers, experts, progress, sample, note."""
        sample_rows = 6 if height > 26 else 5
        body = height - 2 - 1 - sample_rows - 1
        right = 42 if width >= 96 else 40
        left = width - right
        title, experts = self.experts(right - 4, body - NOW_ROWS - 2)
        side = [
            *drawing.box("now", self.numbers(right - 4), right, NOW_ROWS),
            *drawing.box(title, experts, right, body - NOW_ROWS),
        ]
        curve = drawing.box("bits per byte", self.curve(left - 4, body - 2), left, body)
        return [
            *self.header(),
            *drawing.beside(curve, side),
            self.pace(width),
            *self.sample(width, sample_rows),
            self.note_row(),
        ]

    def small(self, width: int) -> list[Row]:
        """What fits everywhere."""
        text = f"{self.now:.4f} bits per byte"
        floor = self.started.floor_bpb if self.started else None
        if floor and self.now:
            text += f", {self.now / floor - 1:.1%} above the floor"
        said = " ".join(self.sampled.text.split()) if self.sampled else ""
        return [self.header()[0], self.pace(width), [Segment(text, BOLD)], [Segment(said)],
                self.note_row()]  # fmt: skip

    def header(self) -> list[Row]:
        """What is trained, on what, where."""
        e = self.started
        assert e
        m, machine = e.cfg.model, e.machine
        parts = [self.parameters, m.attention.upper()]
        if m.n_routed_experts:
            shared = f" + {m.n_shared_experts} shared" if m.n_shared_experts else ""
            parts.append(f"{m.n_routed_experts} experts, {m.num_experts_per_tok}{shared} a token")
        if m.num_nextn_predict_layers:
            parts.append(f"MTP {m.num_nextn_predict_layers}")
        device = f"{machine.device}, {machine.precision}, {show.workers(machine)}"
        where = f" {e.cfg.data.name}  →  {e.folder}  ·  {device}"
        return [
            [Segment(f" minids {e.cfg.name}  ", BOLD), Segment(" · ".join(parts), PLAIN)],
            [Segment(where, GREY)],
        ]

    def numbers(self, width: int) -> list[Row]:
        """Bits per byte and the distance from the floor, large; the rest in pairs."""
        e, start = self.last, self.started
        assert start
        floor, metrics = start.floor_bpb, self.evaluated.metrics if self.evaluated else {}
        above = f"{self.now / floor - 1:.1%}" if floor and self.now else ""
        first = drawing.large(f"{self.now:.3f}" if self.now else "-")
        second = drawing.large(above if len(above) < 6 else above.split(".")[0] + "%")
        half = max(width // 2, len(first[0]) + 2)
        rows = [
            [Segment(f"{a:<{half}}", ORANGE), Segment(b, PLAIN)]
            for a, b in zip(first, second, strict=True)
        ]
        over = f"above floor {floor:.3f}" if floor else ""
        rows.append([Segment(f"{'bits per byte':<{half}}{over}", GREY)])
        held = f"{metrics['bpb']:.4f}" if "bpb" in metrics else "–"
        pairs = [
            ("loss", f"{e.loss:.3f} nats" if e else "–", "held out", held),
            ("grad norm", f"{e.grad_norm:.2f}" if e else "–", "lr", f"{e.lr:.1e}" if e else "–"),
        ]
        for a, b, c, d in pairs:
            rest = half - len(a) - 2
            row = [Segment(f"{a} ", GREY), Segment(f"{b:<{rest}} ", BOLD)]
            rows.append([*row, Segment(f"{c} ", GREY), Segment(d, BOLD)])
        return rows

    def experts(self, width: int, height: int) -> tuple[str, list[Row]]:
        """Load of each expert as bars, a layer a line; the most uneven layers if not all fit."""
        assert self.started
        title = "expert load, the mean at half height"
        if not self.load:
            return "expert load", [[Segment("a dense model: no experts", GREY)]]
        m = self.started.cfg.model
        names = [str(i) for i in range(m.num_hidden_layers) if m.is_moe_layer(i)]
        names += ["mtp"] * (len(self.load) - len(names))
        layers = []
        for name, visits in zip(names, self.load, strict=True):
            mean = sum(visits) / len(visits) or 1.0
            layers.append((max(visits) / mean, name, [v / mean for v in visits]))
        tall = max(1, min(2, height // len(layers)))
        if len(layers) > height:
            title = f"expert load, {height} least even of {len(layers)} layers"
            worst = sorted(layers, reverse=True)[:height]
            layers = [layer for layer in layers if layer in worst]
        rows: list[Row] = []
        for most, name, shares in layers:
            drawn = drawing.bars(shares, tall, width - 11)
            drawn[-1] = [*drawn[-1], Segment(f" {most:.2f}×", RED if most > 2 else GREY)]
            for number, row in enumerate(drawn):
                label = name if number == tall - 1 else ""
                rows.append([Segment(f"{label:>3} ", GREY), *row])
        return title, rows

    def curve(self, width: int, height: int) -> list[Row]:
        """The loss so far; the right edge is an eighth, a quarter, half, all of the run."""
        assert self.started
        share = self.points[-1][0] if self.points else 0.0
        right = next(r for r in (1 / 8, 1 / 4, 1 / 2, 1.0) if share <= r or r == 1.0)
        floor = self.started.floor_bpb
        rows = drawing.curve(self.points, self.held_out, floor, width, height - 1, right)
        if not rows:
            return [[Segment("the first steps are slow …", GREY)]]
        steps, minutes = self.started.max_steps, self.started.cfg.train.max_minutes
        edge = f"step {round(right * steps):,}" if steps else f"{right * minutes:.3g} min"
        key = [Segment("      ◆ held out  ", BLUE)]
        if floor:
            key.append(Segment("── exact floor", GREEN))
        used = sum(len(part.text) for part in key)
        if used + len(edge) >= width:
            key, used = key[:1], len(key[0].text)
        return [*rows, [*key, Segment(f"{edge:>{max(1, width - used)}}", GREY)]]

    def pace(self, width: int) -> Row:
        """How far, how fast, how long."""
        e, start = self.last, self.started
        assert start
        if e is None:
            return [Segment(" starting …", GREY)]
        left = self.time_left(e)
        total = f"/{start.max_steps}" if start.max_steps else ""
        begin = f" step {e.step}{total} "
        end = (
            f" {e.progress:.0%} · {show.duration(e.elapsed_s)} gone, {left} left"
            f" · {self.rate:,.0f} tokens/s"
        )
        bar = drawing.progress(e.progress, max(4, width - len(begin) - len(end) - 1))
        return [Segment(begin, BOLD), *bar, Segment(end, PLAIN)]

    def sample(self, width: int, height: int) -> list[Row]:
        """What the model writes now."""
        if self.sampled is None:
            rows = [[Segment("the first one comes in a few seconds", GREY)]]
            return drawing.box("the model writes", rows, width, height)
        text = Text(" ".join(self.sampled.text.split()))
        lines = text.wrap(self.console, width - 4)[: height - 2]
        rows = [[Segment(line.plain)] for line in lines]
        return drawing.box(f"the model writes, step {self.sampled.step}", rows, width, height)

    def note_row(self) -> Row:
        """The newest thing to know."""
        text, alarming = self.note
        return [Segment((" ▲ " if alarming else " ") + text, RED if alarming else GREY)]
