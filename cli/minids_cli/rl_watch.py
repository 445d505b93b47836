"""Who watches an RL run: a live screen, plain lines, or JSON; all hear the same events."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from minids.evaluate import wilson
from minids.reason.rl_events import Evaluated, Event, Finished, Stepped, Warned
from minids.reason.settings import Objective, RLConfig
from minids_cli import show

BARS = " ▁▂▃▄▅▆▇█"
ALL_SILENT, SOME = 0.95, 0.6  # shares of groups without a signal that are worth a word
HOLLOW = 0.2  # share that is paid and not right
APART = 0.05  # nats between sampler and learner


def watcher_for(
    args: argparse.Namespace, rl: RLConfig, rule: Objective, out: Path, model: Any
) -> Plain:
    """JSON if asked for, the screen if there is one, else lines."""
    size = sum(p.numel() for p in model.parameters())
    if args.json:
        return Json(rl, rule, out, size)
    return (Screen if show.is_live() and not args.plain else Plain)(rl, rule, out, size)


def conventions(rl: RLConfig, rule: Objective) -> list[str]:
    """What papers leave open, said before the first step."""
    scale = {"group": "/ (std of the group + 1e-4)", "batch": "/ (std of the batch + 1e-4)"}
    mean = {
        "grpo": "per completion, then over completions", "sapo": "per completion, then over them",
        "bnpo": "over all tokens of the update", "dr_grpo": f"by {rl.max_new_tokens} tokens each",
        "luspo": "summed per completion, mean over them",
    }.get(rule.loss, "over all tokens sampled together")  # fmt: skip
    anchor = f"KL k3 × {rule.beta}" if rule.beta else "no KL, so no reference model"
    return [
        f"{rule.loss}, {rule.ratio} ratio, clip {1 - rule.epsilon_low:g} … "
        f"{rule.epsilon_high if rule.loss == 'cispo' else 1 + rule.epsilon_high:g}, {anchor}",
        f"A = (reward − mean of {rl.group}) {scale.get(rule.scale_rewards, '')}, "
        f"unbiased std; loss averaged {mean}",
        "the loss begins near 0 and that is right: advantages of a group add up to 0, every ratio "
        "is 1; watch reward and gradient norm",
    ]


def advice(r: dict[str, Any]) -> str:
    """One line about what stands out, "" if nothing does."""
    silent, accuracy = r["no_signal"], r["accuracy"]
    if r["unscorable"]:
        return f"the verifier failed on {r['unscorable']} completions; they are left out"
    if accuracy - r.get("truth", accuracy) > HOLLOW:
        return (
            f"{accuracy:.0%} are paid, {r['truth']:.0%} are right: the verifier has a hole and the "
            "policy lives in it. Read completions, close it (rl.verifier=exact)"
        )
    if silent >= ALL_SILENT and accuracy < 0.5:
        return (
            "reward stays where it is: no group has a right and a wrong answer. An easier level, a "
            "larger rl.group, or a cold start (minids sft) gives it something to choose from"
        )
    if silent >= SOME and accuracy >= 0.5:
        return f"{silent:.0%} of groups are all right: a harder level or rl.dynamic=4 teaches more"
    if r["truncated"] > 0.5:
        return f"{r['truncated']:.0%} of completions meet rl.max_new_tokens before their end"
    if r["mismatch"] > APART:
        return f"sampler and learner differ by {r['mismatch']:.2f} nats: another dtype or a bug"
    return ""


class Plain:
    """Lines."""

    def __init__(self, rl: RLConfig, rule: Objective, out: Path, size: int) -> None:
        self.rl, self.rule, self.out, self.size = rl, rule, out, size
        self.begun, self.said, self.last_at = False, "", -math.inf

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if not self.begun:
            self.begun = True
            self.begin()
        getattr(self, f"on_{type(event).__name__.lower()}")(event)

    def close(self) -> None:
        """The run is over, well or not."""

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, flush=True)

    def begin(self) -> None:
        """What runs."""
        self.line(f"RL on {self.rl.task}: {show.count(self.size)} parameters → {self.out}")
        for text in conventions(self.rl, self.rule):
            self.line(f"  {text}")

    def on_stepped(self, e: Stepped) -> None:
        """One step: numbers, now and then a completion and a word of advice."""
        r = e.record
        self.line(
            f"step {r['step']:>4}  reward {r['reward']:.3f} (best {r['reward_best']:.2f})  "
            f"{self.paid(r)}  form {r['format']:.0%}  tokens {r['length']:.0f}  "
            f"no signal {r['no_signal']:.0%}  entropy {r['entropy']:.2f}  kl {r['kl']:.3f}  "
            f"clip {r['clipped']:.1%}  loss {r['loss']:+.4f}  norm {r['grad_norm']:.2f}  "
            f"apart {r['mismatch']:.0e}  {r['sampling_s']:.1f}+{r['learning_s']:.1f} s"
        )
        if (word := advice(r)) and word != self.said:
            self.line(f"  {word}")
            self.said = word
        if r["step"] % 10 == 1:
            self.line(f"  {self.shown(e)}")

    def paid(self, r: dict[str, Any]) -> str:
        """What is right; with another verifier also what is paid."""
        if self.rl.verifier == "exact":
            return f"right {r['accuracy']:.0%}"
        return f"paid {r['accuracy']:.0%}, right {r['truth']:.0%}"

    def shown(self, e: Stepped) -> str:
        """A completion with its verdict, on one line."""
        found, verdict = e.sample, e.sample.reward.verdict
        text = show.printable(found.text).replace("\n", " ")
        return f"{found.problem.prompt} → {text}  [{verdict.kind}: {verdict.reason}]"

    def rates(self, e: Evaluated | Finished) -> str:
        """Pass rates with their Wilson intervals."""
        parts = []
        for name, (hits, n) in e.hits.items():
            found = wilson(hits, n)
            parts.append(f"{name} {found.value:.1%} ({found.low:.1%} – {found.high:.1%}, n = {n})")
        return ", ".join(parts)

    def on_evaluated(self, e: Evaluated) -> None:
        """Held-out pass rates."""
        self.line(f"held out after step {e.step}: {self.rates(e)}, {e.tokens:.0f} tokens")

    def on_warned(self, e: Warned) -> None:
        """A warning."""
        self.line(f"warning, step {e.step}: {e.text}")

    def on_finished(self, e: Finished) -> None:
        """The last words."""
        if e.interrupted:
            self.line(f"stopped at step {e.step}, saved; go on with: minids rl --resume {e.folder}")
        else:
            self.line(f"{e.step} steps in {show.duration(e.elapsed_s)}: {self.rates(e)}")
            self.line(f"try: minids chat {e.folder}   minids rl {e.folder} --task {self.rl.task}")
        self.line(f"weights_sha256={e.weights_sha256}")


class Json(Plain):
    """Every event as one line of JSON."""

    def __call__(self, event: Event) -> None:
        kind = type(event).__name__.lower()
        if isinstance(event, Stepped):
            found, verdict = event.sample, event.sample.reward.verdict
            sample = {"prompt": found.problem.prompt, "text": found.text, "verdict": verdict.kind}
            show.emit_json({"event": kind, **clean(event.record), "sample": sample})
            return
        values = {n: str(v) if isinstance(v, Path) else v for n, v in event._asdict().items()}
        show.emit_json({"event": kind, **values})


def clean(record: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON."""
    return {
        n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in record.items()
    }


class Screen(Plain):
    """The same as a screen that is redrawn twice a second."""

    def __init__(self, rl: RLConfig, rule: Objective, out: Path, size: int) -> None:
        super().__init__(rl, rule, out, size)
        self.live: Any = None
        self.history: dict[str, list[float]] = {}
        self.held_out: list[str] = []
        self.newest: Stepped | None = None
        self.note = ""

    def begin(self) -> None:
        from rich.live import Live

        super().begin()
        self.live = Live(auto_refresh=False, transient=False, vertical_overflow="crop")
        self.live.start()

    def close(self) -> None:
        if self.live:
            self.draw()
            self.live.stop()
            self.live = None

    def on_stepped(self, e: Stepped) -> None:
        self.newest = e
        for name, value in e.record.items():
            if isinstance(value, float):
                self.history.setdefault(name, []).append(value)
        self.note = advice(e.record) or self.note
        if time.monotonic() - self.last_at > 0.5:
            self.draw()

    def on_evaluated(self, e: Evaluated) -> None:
        self.held_out = [*self.held_out[-2:], f"step {e.step}: {self.rates(e)}"]
        self.draw()

    def on_warned(self, e: Warned) -> None:
        self.note = f"step {e.step}: {e.text}"

    def on_finished(self, e: Finished) -> None:
        self.close()
        super().on_finished(e)

    def draw(self) -> None:
        """All of it."""
        from rich.panel import Panel
        from rich.text import Text

        self.last_at = time.monotonic()
        if not self.live:
            return
        lines = []
        if self.newest:
            r = self.newest.record
            total = "" if self.rl.max_minutes else f" of {self.rl.steps}"
            lines.append(f"step {r['step']}{total}   {show.duration(r['elapsed_s'])}")
            for name, label, unit in (
                ("reward", "reward, mean", ".3f"), ("reward_best", "reward, best", ".2f"),
                ("accuracy", "paid for the answer", ".1%"), ("truth", "right", ".1%"),
                ("format", "in form", ".1%"),
                ("length", "tokens", ".1f"), ("entropy", "entropy, nats", ".3f"),
                ("kl", "KL to reference", ".4f"), ("clipped", "clipped", ".2%"),
                ("no_signal", "groups without signal", ".0%"),
                ("loss", "loss (near 0 is right)", "+.4f"), ("grad_norm", "gradient norm", ".3f"),
                ("mismatch", "sampler against learner", ".1e"),
            ):  # fmt: skip
                line = spark(self.history.get(name, []), 40)
                lines.append(f"{label:<24}{r[name]:>10{unit}}  {line}")
            lines += ["", self.shown(self.newest)]
        lines += ["", *[f"held out, {text}" for text in self.held_out], self.note]
        body = Text("\n".join(lines))
        self.live.update(Panel(body, title=f"minids rl {self.rl.task}"), refresh=True)


def spark(values: list[float], width: int) -> str:
    """The last values as bars between their smallest and largest."""
    shown = [v for v in values[-width:] if math.isfinite(v)]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BARS[1 + int((v - low) / span * 7)] for v in shown)
