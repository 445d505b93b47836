"""The loop: step, look around, save when due, stop when told.

Everything the next step depends on is in the checkpoint (`saving`), so a run that is killed at any
instant and resumed ends with the same weights as one that never was. Watching (evaluation, samples,
logging) has generators of its own and changes nothing.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minids.data.batches import Batch
from minids.data.load import Data
from minids.errors import UserError
from minids.nn.transformer import Transformer
from minids.train import checkpoint, events, faults, folder, saving
from minids.train.comm import Solo
from minids.train.guard import Guard, RouterWatch
from minids.train.optim import Optimizer
from minids.train.precision import FP8, recipe_of, to_fp8
from minids.train.probe import Machine
from minids.train.recompute import recompute_blocks
from minids.train.schedule import lr_factor
from minids.train.sharded import Spread, Team, gathered, local
from minids.train.step import Gradients, clip, gradient

SAME_SIGNAL_S = 3.0
Watcher = Callable[[events.Event], None]


@dataclass
class Hooks:
    """What a caller wants done beside the training: all optional, none may touch the weights."""

    on_event: Watcher = lambda _event: None
    evaluate: Callable[[Transformer, Data], dict[str, float]] | None = None
    sample: Callable[[Transformer, Data], str] | None = None


@dataclass
class Trainer:
    """One rank of a run."""

    data: Data
    machine: Machine
    out: Path
    comm: Solo
    faults: faults.Faults
    hooks: Hooks
    team: Team | None = None  # of a run that a launcher started; shards the model
    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0  # of training alone: evaluation, samples and saves do not count
    stop: int = 0  # 130 or 143 once a signal came
    last_metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cfg = self.data.cfg
        self.leads = self.comm.rank == 0
        torch.set_num_threads(self.machine.threads)
        self.model = Transformer(self.cfg.model)
        self.model.init_weights(torch.Generator().manual_seed(self.cfg.train.seed))
        self.sizes = {name: p.numel() for name, p in self.model.named_parameters()}  # of the whole
        self.model.compute_dtype = self.machine.dtype
        if not self.team:
            self.model.to(self.machine.device)
        if self.machine.precision in FP8:
            to_fp8(self.model, recipe_of(self.machine.precision))
        if self.cfg.train.activation_checkpointing == "full":
            recompute_blocks(self.model)
        self.spread = self.team.spread(self.model) if self.team else Spread(self.model)
        self.model = self.spread.model
        staged = self.spread.passes is not None
        self.gradients = Gradients(self.model, apart=staged, copies=self.spread.copies)
        self.optimizer = Optimizer(self.model, self.cfg.train, self.machine.dtype)
        peers = self.team.peers if self.team else self.comm
        self.batches = self.data.train(
            rank=peers.rank, world=peers.world, ahead=self.machine.device != "cpu"
        )
        self.guard = Guard(self.cfg.train)
        self.watch = RouterWatch()
        if self.cfg.train.compile:
            self.model.compile()

    # The run

    def run(self, found: checkpoint.Checkpoint | None) -> events.Finished:
        """Steps until the end, a signal or the guard; saves at the end whatever the reason."""
        if found:
            saving.restore(self, found)
        metrics = folder.Metrics(self.out / "metrics.jsonl", self.step) if self.leads else None
        handlers = self.catch_signals() if self.leads or self.team else {}
        try:
            self.tell(self.started())
            self.sampled_at = time.monotonic()
            while not self.is_over():
                self.faults.before_step(self.step + 1)
                record = self.one_step()
                if self.team and self.is_due(self.cfg.train.eval_every):
                    self.evaluate()  # all ranks take part
                if metrics:
                    record |= self.look_around(record)
                    metrics.write(record)
                if self.is_due(self.cfg.train.save_every):
                    saving.save(self)
            return self.finish()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if metrics:
                metrics.close()
            self.comm.close()

    def is_over(self) -> bool:
        """Rank 0's clock and anybody's signal decide for all ranks: all stop at the same step."""
        mine = torch.tensor([self.elapsed_s, float(self.stop)], dtype=torch.float64)
        control = [torch.empty_like(mine) for _ in range(self.comm.world)]
        self.comm.all_gather(control, mine)
        self.elapsed_s, self.stop = control[0][0].item(), int(max(c[1] for c in control))
        return bool(self.stop) or self.progress() >= 1.0

    def progress(self) -> float:
        """Share of the run that lies behind, by the clock if the config sets one, else by steps."""
        minutes = self.cfg.train.max_minutes
        return self.elapsed_s / (60 * minutes) if minutes else self.step / self.cfg.train.max_steps

    def one_step(self) -> dict[str, Any]:
        """Gradient, verdict, update → the step's line in metrics.jsonl."""
        start = time.monotonic()
        cfg = self.cfg.train
        factor = lr_factor(self.step, self.progress(), cfg)
        micro_batches = [self.next_batch() for _ in range(cfg.grad_accum)]
        report = gradient(
            self.model,
            self.gradients,
            micro_batches,
            self.comm,
            passes=self.spread.passes,
            counts=self.spread.counts,
            spoil=self.spoil,
        )
        verdict = self.guard.judge(report.loss, report.grad_norm)
        if verdict == "accept":
            clip(self.gradients, report.grad_norm, cfg.max_grad_norm)
            self.optimizer.step(factor, self.team.peers if self.team else self.comm)
            self.model.update_biases(torch.tensor(report.load))
        self.step += 1
        self.tokens += cfg.batch_size * cfg.grad_accum * self.cfg.data.context
        spent = time.monotonic() - start
        self.elapsed_s += spent
        if verdict in ("roll back", "stop"):
            self.go_back(verdict)
        elif verdict == "skip":
            self.tell(events.Warned(self.step, f"step {self.step} skipped: {self.guard.reason}"))
        return {
            "step": self.step,
            "loss": report.loss,
            "loss_hex": report.loss.hex(),
            "mtp_loss": report.mtp_loss,
            "balance_loss": report.balance,
            "grad_norm": report.grad_norm,
            "lr": cfg.lr * factor,
            "tokens": self.tokens,
            "tokens_per_s": cfg.batch_size * cfg.grad_accum * self.cfg.data.context / spent,
            "elapsed_s": self.elapsed_s,
            "data_pos": [self.batches.epoch, self.batches.drawn],
            "expert_load": report.load,
            "skipped": verdict != "accept",
        }

    def next_batch(self) -> Batch:
        """The next rows, where the model is."""
        batch, device = self.batches.next(), self.machine.device
        return batch._replace(tokens=batch.tokens.to(device), labels=batch.labels.to(device))

    def spoil(self, grad: Tensor, sums: Tensor) -> None:
        """The faults asked for with --inject, in this rank's part."""
        at = self.step + 1
        for kind, value in (("nan-grad", math.nan), ("inf-grad", math.inf)):
            if self.faults.happens(kind, at):
                grad[0] = value
        if self.faults.happens("spike", at):
            grad.mul_(10)
            sums[0].mul_(10)

    def go_back(self, verdict: str) -> None:
        """To the newest whole checkpoint, but on in the data: behind the bad batches."""
        reason = self.guard.reason
        if verdict == "stop":
            good = checkpoint.steps(self.out / "checkpoints")
            raise UserError(
                f"step {self.step}",
                f"{reason}, after {self.cfg.train.max_rollbacks} roll-backs; last good checkpoint: "
                f"{good[-1].name if good else 'none'}; first bad tensor: {self.first_bad_tensor()}",
                hint="a smaller train.lr or train.muon_lr, or a longer train.warmup_steps",
                code=3,
            )
        seen, position, guard = self.step, self.batches.state_dict(), self.guard.state_dict()
        if not checkpoint.steps(self.out / "checkpoints"):
            raise UserError(f"step {seen}", f"{reason}, and no checkpoint to go back to", code=3)
        found, _ = checkpoint.load_latest(self.out / "checkpoints", alone=not self.team)
        saving.restore(self, found)
        self.batches.load_state_dict(position)
        rollbacks = guard["rollbacks"]
        self.guard.rollbacks, self.guard.skipped_in_a_row = rollbacks, 0
        self.step = seen
        self.tell(events.RolledBack(seen, found.step, reason))

    def first_bad_tensor(self) -> str:
        """The first parameter whose value or gradient is not finite, on any rank."""
        names = [word + name for name in self.sizes for word in ("", "gradient of ")]
        found = torch.zeros(len(names), dtype=torch.int64)
        for name, p in self.model.named_parameters():
            for word, values in (("", p), ("gradient of ", p.grad)):
                bad = values is not None and not torch.isfinite(local(values)).all()
                found[names.index(word + name)] += bool(bad)
        self.comm.all_reduce(found)
        return next((name for name, times in zip(names, found, strict=True) if times), "none")

    # Beside the steps

    def look_around(self, record: dict[str, Any]) -> dict[str, float]:
        """Rank 0 after each step: warnings, events, sample, evaluation when due → its metrics."""
        cfg = self.cfg.train
        for text in self.watch.look(record["expert_load"]):
            self.tell(events.Warned(self.step, text))
        self.tell(
            events.Step(
                self.step,
                record["loss"],
                record["mtp_loss"],
                record["grad_norm"],
                record["lr"],
                self.tokens,
                record["tokens_per_s"],
                self.elapsed_s,
                min(1.0, self.progress()),
                record["expert_load"],
                record["skipped"],
            )
        )
        if self.team:
            return self.last_metrics if self.is_due(cfg.eval_every) else {}
        if self.hooks.sample and 0 < cfg.sample_every_seconds < time.monotonic() - self.sampled_at:
            self.sample()
        return self.evaluate() if self.is_due(cfg.eval_every) else {}

    def is_due(self, every: int) -> bool:
        """Whether something happens after this step; at the end `finish` does it anyway."""
        return bool(every) and self.step % every == 0 and self.progress() < 1.0

    def tell(self, event: events.Event) -> None:
        """Hand an event to whoever watches."""
        if self.leads:
            self.hooks.on_event(event)

    def started(self) -> events.Started:
        """What there is to say before the first step."""
        documents = self.data.held_out[:200]
        n_bytes = sum(d.n_bytes for d in documents)
        all_bytes = sum(d.n_bytes for d in self.data.held_out) if self.data.floor_bits else 1
        model = self.whole_model() if self.step == 0 else None
        loss = self.untrained_loss(model) if self.leads and model else None
        return events.Started(
            self.cfg,
            self.out,
            self.machine,
            sum(self.sizes.values()),
            self.step,
            0 if self.cfg.train.max_minutes else self.cfg.train.max_steps,
            self.data.floor_bits / all_bytes if self.data.floor_bits else None,
            n_bytes / max(1, sum(len(d.tokens) - 1 for d in documents)),
            math.log(self.cfg.model.vocab_size),
            loss,
        )

    @torch.no_grad()
    def untrained_loss(self, model: Transformer) -> float:
        """Loss of the first held-out tokens before any step."""
        tokens = torch.tensor(self.data.held_out[0].tokens[: self.cfg.data.context + 1])[None]
        tokens = tokens.to(self.machine.device)
        found = model.loss(Batch(tokens[:, :-1], tokens[:, 1:], []))
        return (found.main / found.n_targets).item()

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics by the caller's function; sharded weights are gathered for it."""
        model = self.whole_model()
        if self.hooks.evaluate and model:
            self.last_metrics = self.hooks.evaluate(model, self.data)
            self.tell(events.Evaluated(self.step, self.last_metrics))
        return self.last_metrics if self.hooks.evaluate else {}

    def sample(self) -> None:
        """A text by the caller's function, also kept in samples.txt."""
        model = self.whole_model()
        if self.hooks.sample and model:
            text = self.hooks.sample(model, self.data)
            with (self.out / "samples.txt").open("a", encoding="utf-8") as file:
                file.write(f"--- step {self.step}\n{text}\n")
            self.tell(events.Sampled(self.step, text))
        self.sampled_at = time.monotonic()

    def whole_model(self) -> Transformer | None:
        """The model to look at: of a sharded one a whole copy, on rank 0 alone. All must ask."""
        if not self.team:
            return self.model
        state = gathered(self.model.state_dict(), self.team)
        if not self.leads:
            return None
        model = Transformer(self.cfg.model)
        model.load_state_dict(state)
        model.compute_dtype = self.machine.dtype
        return model.to(self.machine.device)

    def finish(self) -> events.Finished:
        """The last save, evaluation and words."""
        saving.save(self)
        if not self.stop and (self.leads or self.team):
            self.evaluate()
            self.sample()
        weights = gathered(self.model.state_dict(), self.team)
        if self.leads:
            done = events.Finished(
                self.out,
                self.step,
                self.tokens,
                self.elapsed_s,
                checkpoint.weights_sha256(weights),
                self.last_metrics,
                self.stop,
            )
            self.tell(done)
            record = done._asdict() | {"folder": str(done.folder)}
            (self.out / "result.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            return done
        return events.Finished(self.out, self.step, self.tokens, self.elapsed_s, "", {}, self.stop)

    def catch_signals(self) -> dict[int, Any]:
        """First signal: finish the step, save, stop. Second: leave at once, saves stay whole.

        A terminal and a launcher may both hand on the same signal, so on several ranks the second
        counts after a while only.
        """
        first = math.inf

        def note(number: int, _frame: object) -> None:
            nonlocal first
            first = min(first, time.monotonic())
            if self.stop and time.monotonic() - first >= (SAME_SIGNAL_S if self.team else 0):
                raise SystemExit(128 + number)
            self.stop = 128 + number

        try:
            return {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread (a notebook's worker, a test): nobody signals us
            return {}
