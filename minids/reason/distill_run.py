"""A student's run: from a teacher's text, its logits, or its opinion of the student's text.

All three are the tuning loop with something exchanged. `traces` changes the data only. `logits`
also changes the loss: on the same text the whole distribution is matched instead of one token.
`samples` changes the data once more: the student writes, the teacher says what it would have said
at each place, so the student learns in the situations it gets itself into (2306.13649; V4 §5.1.2).

Axes: T learned tokens, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minids.config import RunConfig
from minids.data.tokenizer import Tokenizer
from minids.generate.settings import Sampling
from minids.nn.loss import IGNORE
from minids.nn.moe import Routing
from minids.nn.transformer import Labelled, Loss, Transformer
from minids.reason.chat import Example, prompt_ids
from minids.reason.corpus import worked_examples
from minids.reason.distill import check_vocabulary, divergence, keep_top
from minids.reason.distill_settings import DistillConfig
from minids.reason.packed import ExampleData, Packed, lay_out, open_examples, pack
from minids.reason.rollout import Rollout, roll_out
from minids.reason.sft import packed_states, summed, tune, watch
from minids.reason.teach import accepted, drawn
from minids.train import events
from minids.train.trainer import Hooks

HELD_OUT = 64  # worked examples that an on-policy run is watched on


def distill(
    cfg: RunConfig,
    plan: DistillConfig,
    teacher: Transformer,
    taught_in: Tokenizer,
    tokenizer: Tokenizer,
    *,
    out: Path,
    weights: dict[str, Tensor] | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
    inject: str = "",
    hooks: Hooks | None = None,
    writing_counts: bool = False,
) -> events.Finished:
    """Teach the student `cfg`, from `weights` or from nothing, into the new folder `out`.

    `writing_counts` takes the time in which the teacher writes off the run's minutes.

    Raises UserError, before anything is written, for a teacher of another vocabulary where logits
    are compared, and where too little of what it writes is right.
    """
    about = {"distill": dataclasses.asdict(plan), **(about or {})}
    common: dict[str, Any] = {
        "out": out, "weights": weights, "about": about, "resume": resume, "inject": inject,
        "hooks": hooks or Hooks(evaluate=watch),
    }  # fmt: skip
    if plan.way == "samples":
        check_vocabulary(tokenizer, taught_in)
        data: ExampleData = own_data(cfg, tokenizer, plan)
    else:
        if plan.way == "logits":
            check_vocabulary(tokenizer, taught_in)
        began = time.monotonic()
        found = accepted(
            teacher, taught_in, plan.tasks, plan.examples, seed=plan.seed,
            longest=plan.max_new_tokens, to=tokenizer,
        )  # fmt: skip
        examples = list(found)
        if writing_counts and not resume:
            minutes = max(0.01, cfg.train.max_minutes - (time.monotonic() - began) / 60)
            train = dataclasses.replace(cfg.train, max_minutes=minutes)
            cfg = dataclasses.replace(cfg, train=train)
        data = open_examples(cfg, tokenizer, examples, name=plan.task)
    if plan.way == "traces":
        return tune(cfg, data, **common)
    loss = partial(taught_loss, teacher=teacher, plan=plan)

    def prepare(trainer: Any) -> None:
        teacher.to(trainer.machine.device)
        if isinstance(trainer.batches, OwnBatches):
            trainer.batches.student = trainer.model

    return tune(cfg, data, **common, loss=loss, prepare=prepare)


def taught_loss(
    student: Transformer, batch: Labelled, *, teacher: Transformer, plan: DistillConfig
) -> Loss:
    """Σ over learned tokens of the divergence from the teacher, times temperature²."""
    if not isinstance(batch, Packed):
        return Transformer.loss(student, batch)
    routings: list[Routing] = []
    batch = Packed(*(x.to(student.embed_tokens.weight.device) for x in batch))
    real = batch.labels != IGNORE  # [b s]
    mine = student.logits(packed_states(student, batch, routings)[real])  # [T V]
    with torch.no_grad():
        other = teacher.logits(packed_states(teacher, batch, [])[real])  # [T V]
        other = keep_top(other, plan.top_k) if plan.top_k else other  # [T V]
    each = divergence(mine, other, weight=plan.weight, temperature=plan.temperature)  # [T]
    return summed(student, batch, plan.temperature**2 * each.sum(), routings)


# What the student writes itself


class OwnBatches:
    """Rows that the student wrote just now; batch i is a function of (seed, i) and its weights."""

    def __init__(self, cfg: RunConfig, tokenizer: Tokenizer, plan: DistillConfig) -> None:
        self.cfg, self.tokenizer, self.plan = cfg, tokenizer, plan
        self.student: Transformer | None = None
        self.epoch, self.drawn = 0, 0

    def next(self) -> Packed:
        """One completion of each of the next problems."""
        assert self.student is not None
        plan, context = self.plan, self.cfg.data.context
        problems = drawn(plan.tasks, plan.prompts, plan.seed * 1_000_003 + self.drawn)
        device = self.student.embed_tokens.weight.device
        generator = torch.Generator(device).manual_seed(plan.seed * 1_000_003 + self.drawn)
        self.drawn += 1
        prompts = [prompt_ids(self.tokenizer, p.prompt) for p in problems]
        roll = roll_out(
            self.student, self.tokenizer, prompts, 1, Sampling(), plan.max_new_tokens, generator
        )
        examples = [e for e in written(roll) if len(e.tokens) <= context]
        rows = lay_out([len(e.tokens) for e in examples], range(len(examples)), context)
        return pack([[examples[i] for i in row] for row in rows], context, self.tokenizer.pad)

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"epoch": self.epoch, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self.epoch, self.drawn = state["epoch"], state["drawn"]


def written(roll: Rollout) -> list[Example]:
    """Completions as examples, every token of theirs to be judged."""
    found = []
    for prompt, row, n in zip(roll.prompts, roll.tokens, roll.lengths.long(), strict=True):
        own = row[: int(n)].tolist()
        found.append(Example(prompt + own, [False] * len(prompt) + [True] * len(own)))
    return found


@dataclass(frozen=True, kw_only=True)
class OwnData(ExampleData):
    """Data that is made while it is learned from."""

    plan: DistillConfig

    def train(self, *, rank: int = 0, world: int = 1, ahead: bool = False) -> Any:
        """The batches from their beginning; they still need the student."""
        assert (rank, world) == (0, 1), "one process"
        del ahead
        return OwnBatches(self.cfg, self.tokenizer, self.plan)


def own_data(cfg: RunConfig, tokenizer: Tokenizer, plan: DistillConfig) -> OwnData:
    """Nothing to learn yet, and worked examples to be watched on."""
    examples = list(worked_examples(tokenizer, plan.tasks, HELD_OUT, plan.seed + 7))
    digest = hashlib.sha256(repr([tokenizer.fingerprint, cfg.data.context, plan]).encode())
    return OwnData(
        cfg=cfg, name=plan.task, tokenizer=tokenizer, examples=[], kept_out=examples,
        fingerprint=digest.hexdigest(), dropped=0, plan=plan,
    )  # fmt: skip
