"""Supervised tuning: the next-token loss, on what the assistant says only.

Everything that makes a run safe is the trainer's: guard, checkpoints, exact resume. Here is what
differs, the loss of packed rows, and the road from weights and examples to a run folder. MTP
modules rest: their labels would be other tokens of the same answers.

Axes: b rows, s tokens of a row, t = s keys, d hidden_size, L expert layers, e experts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from minids.config import RunConfig
from minids.errors import UserError
from minids.nn.attention import visible
from minids.nn.loss import IGNORE
from minids.nn.moe import Routing
from minids.nn.transformer import Labelled, Loss, Transformer
from minids.reason.packed import ExampleData, Packed, pack
from minids.train import checkpoint, events, faults, folder
from minids.train.comm import Solo
from minids.train.loop import check_memory, check_same, out_of_memory
from minids.train.probe import Machine, as_record, choose
from minids.train.trainer import Hooks, Trainer

RECORD = "run.json"
LossOf = Callable[[Transformer, Labelled], Loss]


def own_segment(segment: Tensor) -> Tensor:
    """Who may look at whom in packed rows: back, within one example, never at padding.

    segment [b s] → [b 1 s t] bool
    """
    same = rearrange(segment, "b s -> b 1 s 1") == rearrange(segment, "b t -> b 1 1 t")
    return same & visible(segment.shape[1], segment.shape[1], segment > 0, segment.device)


def packed_states(model: Transformer, batch: Packed, routings: list[Routing]) -> Tensor:
    """`Transformer.hidden` with a mask and positions of every row's own.  → [b s d]"""
    rope, mask = model.rope(batch.positions), own_segment(batch.segment)
    x = model.embed(batch.tokens)  # [b s d]
    for block in model.layers:
        x, routing = block(x, rope, mask)
        if routing is not None:
            routings.append(routing)
    return model.norm(x)


def packed_loss(model: Transformer, batch: Labelled) -> Loss:
    """Σ −ln p over the tokens to learn; any other batch is the model's own affair."""
    if not isinstance(batch, Packed):
        return Transformer.loss(model, batch)
    routings: list[Routing] = []
    batch = Packed(*(x.to(model.embed_tokens.weight.device) for x in batch))
    state = packed_states(model, batch, routings)  # [b s d]
    return summed(model, batch, model.cross_entropy(state, batch.labels), routings)


def summed(model: Transformer, batch: Packed, main: Tensor, routings: list[Routing]) -> Loss:
    """`main`, a sum over the batch's targets, with the balance losses and loads beside it."""
    targets = (batch.labels != IGNORE).sum(-1)  # [b]
    balance = main.new_zeros(())
    for layer, routing in zip(model.moe_layers(), routings, strict=False):  # MTP modules rest
        balance = balance + (layer.balance_loss(routing, len(targets)) * targets).sum()
    counts = [r.load for r in routings]
    resting = sum(1 for _ in model.moe_layers()) - len(counts)
    counts += [torch.zeros_like(counts[0])] * resting if counts else []
    load = torch.stack(counts) if counts else targets.new_zeros(0, 0)
    depth = len(model.mtp)
    none, no_targets = main.new_zeros(depth), targets.new_zeros(depth)
    sums = main.detach(), none, targets.sum(), no_targets, balance.detach()
    return Loss(main + balance, *sums, load)


@torch.no_grad()
def held_out_loss(model: Transformer, data: ExampleData) -> dict[str, float]:
    """Nats per learned token of the held-out examples, and the share of tokens foretold right."""
    loss = hits = n = 0.0
    for start in range(0, len(data.kept_out), 16):
        rows = [[e] for e in data.kept_out[start : start + 16]]
        batch = pack(rows, max(len(r[0].tokens) for r in rows), data.tokenizer.pad)
        batch = Packed(*(x.to(model.embed_tokens.weight.device) for x in batch))
        state = packed_states(model, batch, [])  # [b s d]
        real = batch.labels != IGNORE  # [b s]
        logits = model.logits(state[real])  # [T V]
        wanted = batch.labels[real]  # [T]
        loss -= logits.log_softmax(-1).gather(-1, wanted[:, None]).sum().item()
        hits += (logits.argmax(-1) == wanted).sum().item()
        n += len(wanted)
    return {"val_loss": loss / n if n else math.nan, "token_accuracy": hits / n if n else math.nan}


def tune(
    cfg: RunConfig,
    data: ExampleData,
    *,
    out: Path,
    weights: dict[str, Tensor] | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
    inject: str = "",
    hooks: Hooks | None = None,
    loss: LossOf | None = None,
    prepare: Callable[[Trainer], None] = lambda _trainer: None,
) -> events.Finished:
    """Train on examples into the new folder `out`, or go on with the run in it.

    `weights` is where it starts (None: from nothing), `about` goes into run.json, so that `resume`
    can make the same examples again. `loss` replaces `packed_loss`; `prepare` sees the trainer
    before it begins. Raises UserError as `train.loop.train` does.
    """
    hooks, planned = hooks or Hooks(evaluate=watch), faults.parse(inject)
    found, warnings = None, []
    if resume:
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        check_same(cfg, found, False)
        machine = Machine(**found.state["machine"])
        if found.manifest["data"] != data.fingerprint:
            raise UserError("data", "is not what this run was tuned on", "the same examples")
    else:
        folder.check_new(out)
        machine = choose(dataclasses.replace(cfg.train, workers=1))
    check_memory(cfg)
    if not resume:
        folder.create(out, cfg, {"machine": as_record(machine), "inject": inject, **(about or {})})
        data.save(out)
    lock = folder.Lock(out)
    try:
        trainer = Trainer(data, machine, out, Solo(), planned, hooks)  # pyright: ignore[reportArgumentType]
        if weights is not None:
            trainer.model.load_state_dict(weights)
        trainer.model.loss = partial(loss or packed_loss, trainer.model)
        prepare(trainer)
        for text in warnings:
            hooks.on_event(events.Warned(found.step if found else 0, text))
        return trainer.run(found)
    except RuntimeError as error:
        raise out_of_memory(error, cfg) or error from None
    finally:
        lock.release()


def watch(model: Transformer, data: Any) -> dict[str, float]:
    """`held_out_loss` as a hook."""
    return held_out_loss(model, data)
