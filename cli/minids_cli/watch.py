"""Who watches a training run: a live screen, plain lines, or JSON; all hear the same events."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from minids.train import events
from minids_cli import show


def watcher_for(args: argparse.Namespace) -> Plain:
    """JSON if asked for, the screen if there is one, else lines."""
    if args.json:
        return Json()
    if show.is_live() and not args.plain:
        from minids_cli.dashboard import Dashboard

        return Dashboard()
    return Plain()


class Plain:
    """One clean line per log step."""

    def __init__(self) -> None:
        self.started: events.Started | None = None
        self.first: tuple[float, float] | None = None  # progress and seconds at the first step

    def __call__(self, event: events.Event) -> None:
        """Hear an event."""
        getattr(self, f"on_{type(event).__name__.lower()}")(event)

    def close(self) -> None:
        """The run is over, well or not."""

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, flush=True)

    def bits_per_byte(self, loss: float) -> float:
        """Nats per token in bits per byte of this run's text."""
        from minids_cli.train import nats_to_bpb

        assert self.started
        return nats_to_bpb(loss, self.started.bytes_per_token)

    def on_started(self, e: events.Started) -> None:
        self.started = e
        m = e.machine
        self.line(
            f"{e.cfg.name}: {show.count(e.parameters)} parameters, data {e.cfg.data.name}, "
            f"{m.device} {m.precision}, {m.workers} × {m.threads} threads ({m.reason})"
        )
        if e.started_loss is not None:
            self.line(f"step 0: expected ln V = {e.expected_loss:.3f}, got {e.started_loss:.3f}")
        else:
            self.line(f"going on at step {e.step}")
        if e.floor_bpb:
            self.line(f"exact entropy of the held-out text: {e.floor_bpb:.4f} bits per byte")

    def time_left(self, e: events.Step) -> str:
        """By the pace since the first step heard, which is slow and does not count."""
        begin, start = self.first = self.first or (e.progress, e.elapsed_s)
        if e.progress <= begin:
            return "…" if e.progress < 1 else show.duration(0)
        pace = (e.elapsed_s - start) / (e.progress - begin)
        return show.duration(pace * (1 - e.progress))

    def on_step(self, e: events.Step) -> None:
        assert self.started
        left = self.time_left(e)
        every = self.started.cfg.train.log_every
        if e.step % every and e.progress < 1:
            return
        self.line(
            f"step {e.step:>6}  loss {e.loss:7.4f}  bits/byte {self.bits_per_byte(e.loss):6.4f}  "
            f"grad {e.grad_norm:7.3f}  lr {e.lr:.2e}  {e.tokens_per_s:>7,.0f} tokens/s  "
            f"left {left}" + ("  skipped" if e.skipped else "")
        )

    def on_evaluated(self, e: events.Evaluated) -> None:
        above = e.metrics.get("above_floor")
        note = f", {above:+.1%} above the floor" if above is not None else ""
        self.line(f"step {e.step:>6}  held out {e.metrics['bpb']:.4f} bits/byte{note}")

    def on_sampled(self, e: events.Sampled) -> None:
        self.line(f"step {e.step:>6}  sample: {' '.join(e.text.split())[:300]}")

    def on_saved(self, e: events.Saved) -> None:
        self.line(f"step {e.step:>6}  saved {e.folder.name} in {e.seconds:.2f} s")

    def on_warned(self, e: events.Warned) -> None:
        self.line(f"step {e.step:>6}  warning: {e.text}")

    def on_rolledback(self, e: events.RolledBack) -> None:
        self.line(f"step {e.step:>6}  rolled back to step {e.to_step}: {e.reason}")

    def on_finished(self, e: events.Finished) -> None:
        """Said by `finished` once the report is there."""

    def interrupted(self, e: events.Finished) -> None:
        """A signal came; everything is saved."""
        self.line(f"stopped at step {e.step}, saved; go on with: minids train --resume {e.folder}")
        self.line(f"weights_sha256={e.weights_sha256}")

    def finished(self, e: events.Finished, report: Path) -> None:
        """The last words."""
        self.line(f"{show.count(e.tokens)} tokens in {show.duration(e.elapsed_s)} of training")
        if "bpb" in e.metrics:
            self.on_evaluated(events.Evaluated(e.step, e.metrics))
        self.line(f"report: {report}")
        self.line("try:")
        self.line(f'  minids sample {e.folder} --prompt "Once there was"')
        self.line(f"  minids eval {e.folder}")
        self.line(f"  minids inspect {e.folder}")
        self.line(f"weights_sha256={e.weights_sha256}")


class Json(Plain):
    """Every event as one line of JSON."""

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Started):
            self.started = event
        values = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in event._asdict().items()
            if name not in ("cfg", "machine")
        }
        print(json.dumps({"event": type(event).__name__.lower(), **values}), flush=True)

    def interrupted(self, e: events.Finished) -> None:
        """Said by the event."""

    def finished(self, e: events.Finished, report: Path) -> None:
        print(json.dumps({"event": "report", "path": str(report), "step": e.step}), flush=True)
