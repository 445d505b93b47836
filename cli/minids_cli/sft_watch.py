"""Who watches a tuning run: plain lines or JSON."""

from __future__ import annotations

import argparse

from minids.train import events
from minids_cli import show
from minids_cli.watch import Json, Plain


def watcher_for(args: argparse.Namespace) -> Plain:
    """JSON if asked for, else lines."""
    return Json() if args.json else Tuning()


class Tuning(Plain):
    """Lines in nats per learned token: bits per byte would mix questions with answers."""

    def on_started(self, e: events.Started) -> None:
        self.started = e
        self.line(
            f"{e.cfg.name}: {show.count(e.parameters)} parameters, {e.machine.device} "
            f"{e.machine.precision}, {show.workers(e.machine)} → {e.folder}"
        )
        if e.step:
            self.line(f"going on at step {e.step}")

    def on_step(self, e: events.Step) -> None:
        assert self.started
        if e.step % self.started.cfg.train.log_every == 0 or e.progress >= 1:
            self.line(
                f"step {e.step:>5}  loss {e.loss:7.4f}  norm {e.grad_norm:7.3f}  "
                f"{e.tokens_per_s:>7,.0f} tokens/s  {e.progress:.0%}"
            )

    def on_evaluated(self, e: events.Evaluated) -> None:
        found = e.metrics
        self.line(
            f"held out: {found['val_loss']:.4f} nats per learned token, "
            f"{found['token_accuracy']:.1%} foretold"
        )

    def on_finished(self, e: events.Finished) -> None:
        if e.interrupted:
            self.line(f"stopped at step {e.step}, saved; go on with --resume {e.folder}")
        else:
            self.line(f"{e.step} steps in {show.duration(e.elapsed_s)}")
            self.line(f"try: minids rl {e.folder} --task addition:3   minids chat {e.folder}")
        self.line(f"weights_sha256={e.weights_sha256}")
