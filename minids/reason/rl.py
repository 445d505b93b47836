"""The RL loop: sample groups, judge them, move the policy, look around.

A step is one sampling and the updates made of it. Everything random is a function of (seed, step),
so a killed and resumed run ends with the same weights. Groups whose rewards are all equal teach
nothing and (without a KL term) are not even read by the learner; they still count in the mean.

Axes: B problems, G completions of each, N = B·G rows, s tokens of a completion.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minids.config import RunConfig, TrainConfig, to_dict
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.nn.transformer import Transformer
from minids.reason import grpo
from minids.reason.passrate import attempt, pass_rate
from minids.reason.rl_events import Evaluated, Event, Finished, Stepped, Warned
from minids.reason.rollout import Rollout, by_length, mismatch, score
from minids.reason.sampled import Sampled, described, joined, sample, take_problems, with_signal
from minids.reason.settings import Objective, RLConfig
from minids.reason.tasks import held_out_set
from minids.train import checkpoint, faults, folder
from minids.train.comm import Solo
from minids.train.guard import Guard
from minids.train.optim import Optimizer
from minids.train.probe import pick_device
from minids.train.step import Gradients, clip

REFERENCE = "reference."


class Policy:
    """A model under reinforcement learning."""

    def __init__(
        self,
        cfg: RunConfig,
        weights: dict[str, Tensor],
        tokenizer: Tokenizer,
        rl: RLConfig,
        objective: Objective,
        out: Path,
        *,
        planned: faults.Faults,
        on_event: Callable[[Event], None],
    ) -> None:
        self.cfg, self.tokenizer, self.rl, self.objective = cfg, tokenizer, rl, objective
        self.out, self.faults, self.on_event = out, planned, on_event
        self.device = pick_device(cfg.train.device)
        self.model = Transformer(cfg.model)
        self.model.load_state_dict(weights)
        self.model.to(self.device)
        self.reference = copy.deepcopy(self.model).requires_grad_(False) if objective.beta else None
        self.train = TrainConfig(
            optimizer=rl.optimizer, lr=rl.lr, muon_lr=rl.muon_lr, weight_decay=0.0,
            spike_factor=0.0, max_grad_norm=rl.max_grad_norm,
        )  # fmt: skip
        self.gradients = Gradients(self.model)
        self.optimizer = Optimizer(self.model, self.train, torch.float32)
        self.guard = Guard(self.train)
        self.step, self.drawn, self.elapsed_s, self.stop = 0, 0, 0.0, 0
        self.grad_norm = 0.0
        self.hits: dict[str, tuple[int, int]] = {}

    # One step

    def one_step(self) -> Stepped:
        """Sample, judge, update."""
        start = time.monotonic()
        sampled = self.sample()
        between = time.monotonic()
        learned = self.learn(sampled)
        self.step += 1
        every = self.rl.reference_every
        if self.reference is not None and every and self.step % every == 0:
            self.reference.load_state_dict(self.model.state_dict())
        end = time.monotonic()
        self.elapsed_s += end - start
        record = {
            "step": self.step,
            **described(sampled, self.rl.group),
            **learned,
            "elapsed_s": self.elapsed_s,
            "sampling_s": between - start,
            "learning_s": end - between,
        }
        shown = sampled.attempts[self.step % len(sampled.attempts)]
        return Stepped(record, shown)

    def sample(self) -> Sampled:
        """B groups; with `dynamic` more samplings replace those without a signal (DAPO)."""
        rl, kept, made = self.rl, [], None
        for again in range(rl.dynamic):
            generator = torch.Generator(self.device)
            generator.manual_seed((rl.seed * 1_000_003 + self.step) * 64 + again)
            problems = take_problems(rl, self.drawn)
            self.drawn += rl.prompts
            scale = self.objective.scale_rewards
            made = sample(self.model, self.tokenizer, problems, rl, scale, generator)
            if rl.dynamic == 1:
                return made
            kept += with_signal(made, rl.group)
            if len(kept) >= rl.prompts:
                break
        assert made is not None
        return joined(kept[: rl.prompts], self.tokenizer.pad) if kept else made

    def learn(self, sampled: Sampled) -> dict[str, Any]:
        """The updates made of one sampling → what they measured."""
        roll, rl = sampled.roll, self.rl
        teaches = roll.mask.any(-1)  # [N]
        if self.reference is None:
            teaches &= sampled.advantage != 0
        rows = teaches.nonzero().flatten()  # rows that the learner reads
        n_groups = len(teaches) // rl.group
        shares = min(rl.updates, n_groups)
        share_of = torch.arange(len(teaches)) // rl.group % shares  # [N]
        old, reference = self.before(roll, rows, only_reference=shares == 1)
        sums: dict[str, float] = dict.fromkeys(
            ("loss", "grad_norm", "entropy", "kl", "clipped", "kept", "n"), 0.0
        )
        skipped = False
        for share in range(shares if len(rows) else 0):
            self.gradients.zero()
            mine = roll.mask[share_of == share]
            tokens = roll.mask.sum().item() / shares
            sizes = grpo.Sizes(len(mine), mine.sum().item(), tokens, rl.max_new_tokens)
            loss = 0.0
            for part in self.parts(roll, rows[share_of[rows] == share]):
                scored = score(self.model, roll, rl.temperature, part)
                if shares == 1:
                    old[part] = scored.logp.detach().cpu()
                batch = grpo.Rollouts(
                    old[part].to(self.device),
                    roll.logp[part].to(self.device),
                    None if reference is None else reference[part].to(self.device),
                    roll.mask[part].to(self.device),
                    sampled.advantage[part].to(self.device),
                )
                found = grpo.policy_loss(scored.logp, batch, self.objective, sizes)
                found.total.backward()
                loss += found.total.item()
                for name, x in (
                    ("entropy", scored.entropy), ("kl", found.kl), ("clipped", found.clipped),
                    ("n", 1),
                ):  # fmt: skip
                    sums[name] += (x * batch.mask).sum().item()
                sums["kept"] += found.kept.sum().item()
            skipped |= not self.update(loss)
            sums["loss"] += loss / shares
            sums["grad_norm"] = max(sums["grad_norm"], self.grad_norm)
        n = max(1.0, sums.pop("n"))
        apart = mismatch(roll._replace(mask=roll.mask * teaches[:, None]), old)
        return sums | {
            "entropy": sums["entropy"] / n,
            "kl": sums["kl"] / n,
            "clipped": sums["clipped"] / n,
            "dropped": len(rows) - round(sums.pop("kept")),
            "mismatch": apart.largest,
            "mismatch_kl": apart.kl,
            "skipped": skipped,
        }

    @torch.no_grad()
    def before(
        self, roll: Rollout, rows: Tensor, *, only_reference: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities before any update: the policy's own [N s], the reference's [N s]."""
        old = torch.zeros_like(roll.logp)  # [N s]
        reference = None if self.reference is None else torch.zeros_like(old)
        for part in self.parts(roll, rows):
            if not only_reference:
                old[part] = score(self.model, roll, self.rl.temperature, part).logp.cpu()
            if self.reference is not None and reference is not None:
                logp = score(self.reference, roll, self.rl.temperature, part).logp
                reference[part] = logp.cpu()
        return old, reference

    def parts(self, roll: Rollout, rows: Tensor) -> list[Tensor]:
        """Micro-batches of these rows, by length."""
        if not len(rows):
            return []
        part = roll._replace(prompts=[roll.prompts[i] for i in rows], mask=roll.mask[rows])
        return [rows[index] for index in by_length(part, self.rl.tokens_per_pass)]

    def update(self, loss: float) -> bool:
        """One optimizer step, unless the guard says no. → whether it was made"""
        if self.faults.happens("nan-grad", self.step + 1):
            self.gradients.flat[0] = math.nan
        self.grad_norm = torch.linalg.vector_norm(self.gradients.flat).item()
        verdict = self.guard.judge(loss, self.grad_norm)
        if verdict == "accept":
            clip(self.gradients, self.grad_norm, self.train.max_grad_norm)
            warm = min(1.0, (self.step + 1) / max(1, self.rl.warmup_steps))
            left = 1 - (1 - self.rl.min_lr_ratio) * min(1.0, self.progress())
            self.optimizer.step(warm * left, Solo())
            return True
        self.on_event(Warned(self.step + 1, f"update skipped: {self.guard.reason}"))
        if verdict == "roll back":
            found, _ = checkpoint.load_latest(self.out / "checkpoints")
            self.model.load_state_dict(found.model)
            self.optimizer.load_state_dict(without_reference(found.optim))
            self.on_event(Warned(self.step + 1, f"weights of step {found.step} again"))
        if verdict == "stop":
            raise UserError(
                f"step {self.step + 1}", self.guard.reason, hint="a smaller rl.lr", code=3
            )
        return False

    # Beside the steps

    def evaluate(self) -> None:
        """Pass rate on held-out problems of every task."""
        tokens, rl = [], self.rl
        for name, level in dict.fromkeys(rl.tasks):
            tried = attempt(
                self.model, self.tokenizer, held_out_set(name, level, rl.eval_problems),
                temperature=rl.eval_temperature, longest=rl.max_new_tokens,
            )  # fmt: skip
            rate = pass_rate(tried)
            self.hits[f"{name}:{level}"] = rate.hits, rate.n
            tokens.append(rate.tokens)
        self.on_event(Evaluated(self.step, dict(self.hits), sum(tokens) / len(tokens)))

    def progress(self) -> float:
        """Share of the run that lies behind."""
        minutes = self.rl.max_minutes
        return self.elapsed_s / (60 * minutes) if minutes else self.step / self.rl.steps

    def due(self, every: int) -> bool:
        """Whether something happens after this step; at the end it happens anyway."""
        return bool(every) and self.step % every == 0 and self.progress() < 1

    def run(self) -> Finished:
        """Steps until the end or a signal; saves at the end whatever the reason."""
        metrics = folder.Metrics(self.out / "metrics.jsonl", self.step)
        before = catch_signals(self)
        try:
            if self.step == 0:
                self.evaluate()
                self.save()
            while not self.stop and self.progress() < 1:
                self.faults.before_step(self.step + 1)
                stepped = self.one_step()
                metrics.write(stepped.record)
                self.on_event(stepped)
                if self.due(self.rl.eval_every):
                    self.evaluate()
                if self.due(self.rl.save_every):
                    self.save()
            self.save()
            if not self.stop:
                self.evaluate()
        finally:
            metrics.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        sha = checkpoint.weights_sha256(self.model.state_dict())
        done = Finished(self.out, self.step, self.elapsed_s, sha, self.hits, self.stop)
        self.on_event(done)
        return done

    def save(self) -> None:
        """All that the next step depends on."""
        optim = self.optimizer.state_dict()
        if self.reference is not None:
            optim |= {REFERENCE + n: t for n, t in self.reference.state_dict().items()}
        checkpoint.save(
            self.out / "checkpoints",
            self.step,
            model=self.model.state_dict(),
            optim=optim,
            state={
                "step": self.step,
                "drawn": self.drawn,
                "elapsed_s": self.elapsed_s,
                "guard": self.guard.state_dict(),
                "hits": self.hits,
                "rl": dataclasses.asdict(self.rl),
                "objective": dataclasses.asdict(self.objective),
                "config": to_dict(self.cfg),
            },
            about={"weights_sha256": checkpoint.weights_sha256(self.model.state_dict())},
            keep=self.rl.keep,
            at_stage=self.faults.during_save,
        )

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Be where a checkpoint was."""
        self.model.load_state_dict(found.model)
        self.optimizer.load_state_dict(without_reference(found.optim))
        if self.reference is not None:
            theirs = {
                n.removeprefix(REFERENCE): t
                for n, t in found.optim.items()
                if n.startswith(REFERENCE)
            }
            self.reference.load_state_dict(theirs)
        state = found.state
        self.step, self.drawn, self.elapsed_s = state["step"], state["drawn"], state["elapsed_s"]
        self.guard.load_state_dict(state["guard"])
        self.hits = {name: (hits, n) for name, (hits, n) in state["hits"].items()}


def without_reference(optim: dict[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's own part of a saved state."""
    return {name: t for name, t in optim.items() if not name.startswith(REFERENCE)}


def catch_signals(policy: Policy) -> dict[int, Any]:
    """First signal: finish the step, save, stop. Second: leave at once."""

    def note(number: int, _frame: object) -> None:
        if policy.stop:
            raise SystemExit(128 + number)
        policy.stop = 128 + number

    try:
        return {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        return {}
