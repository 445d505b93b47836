"""Examples in rows without leaks: several conversations share a row and do not see one another.

A row is filled with whole examples only; what remains is padding. Each token carries the number of
its example: attention is allowed inside a number, positions begin anew with it, and no label
crosses it. So the loss is the sum of the losses that the examples have alone, and so is its
gradient (tests say to 1e-12).

Axes: b rows, s tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from minids.config import RunConfig
from minids.data.batches import IGNORE, shuffled
from minids.data.load import Document
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason.chat import Example

OPEN = 32  # rows that still take examples while an epoch is laid out


class Packed(NamedTuple):
    """A batch of rows."""

    tokens: Tensor  # [b s] int64
    labels: Tensor  # [b s] int64, the next token where it is learned, else IGNORE
    segment: Tensor  # [b s] int64, number of the example within its row; 0 is padding
    positions: Tensor  # [b s] int64, from 0 in every example


def pack(rows: Sequence[Sequence[Example]], context: int, pad: int) -> Packed:
    """Rows of whole examples as one batch."""
    shape = (len(rows), context)
    tokens = torch.full(shape, pad)  # [b s]
    labels = torch.full(shape, IGNORE)  # [b s]
    segment, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape).long()
    for row, examples in enumerate(rows):
        start = 0
        for number, found in enumerate(examples, start=1):
            n = len(found.tokens)
            ids = torch.tensor(found.tokens)  # [n]
            learned = torch.tensor(found.learn[1:])  # [n-1]
            tokens[row, start : start + n] = ids
            labels[row, start : start + n - 1] = ids[1:].where(learned, IGNORE)
            segment[row, start : start + n] = number
            positions[row, start : start + n] = torch.arange(n)
            start += n
    return Packed(tokens, labels, segment, positions)


def lay_out(lengths: Sequence[int], order: Sequence[int], context: int) -> list[list[int]]:
    """Examples into rows, each into the first open row that has room for it."""
    done: list[list[int]] = []
    rows: list[list[int]] = []
    room: list[int] = []
    for index in order:
        at = next((i for i, free in enumerate(room) if free >= lengths[index]), None)
        if at is None:
            if len(rows) == OPEN:
                fullest = room.index(min(room))
                done.append(rows.pop(fullest))
                room.pop(fullest)
            rows.append([])
            room.append(context)
            at = len(rows) - 1
        rows[at].append(index)
        room[at] -= lengths[index]
    return done + rows


class PackedBatches:
    """An endless sequence of batches; the rows of an epoch are a function of (seed, epoch)."""

    def __init__(
        self, examples: Sequence[Example], batch_size: int, context: int, pad: int, seed: int
    ) -> None:
        self.examples, self.batch_size, self.context = examples, batch_size, context
        self.pad, self.seed = pad, seed
        self.lengths = [len(e.tokens) for e in examples]
        self._enter(0, 0)

    def _enter(self, epoch: int, drawn: int) -> None:
        self.epoch, self.drawn = epoch, drawn
        stream = np.random.Philox(key=[self.seed, epoch])
        order = shuffled(stream, len(self.examples)).tolist()
        self.rows = lay_out(self.lengths, order, self.context)

    def next(self) -> Packed:
        """The next rows, across the end of an epoch where it comes."""
        rows = []
        while len(rows) < self.batch_size:
            if self.drawn == len(self.rows):
                self._enter(self.epoch + 1, 0)
            rows.append([self.examples[i] for i in self.rows[self.drawn]])
            self.drawn += 1
        return pack(rows, self.context, self.pad)

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"epoch": self.epoch, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self._enter(state["epoch"], state["drawn"])


@dataclass(frozen=True, kw_only=True)
class ExampleData:
    """Examples as the trainer wants its data."""

    cfg: RunConfig
    name: str
    tokenizer: Tokenizer
    examples: list[Example]
    kept_out: list[Example]  # held out
    fingerprint: str
    dropped: int  # examples longer than the context
    floor_bits: None = None

    @property
    def held_out(self) -> list[Document]:
        """The held-out examples as documents, for what a run prints first."""
        return [
            Document("", e.tokens, self.tokenizer.n_bytes(e.tokens), None) for e in self.kept_out
        ]

    def train(self, *, rank: int = 0, world: int = 1, ahead: bool = False) -> PackedBatches:
        """The training batches from their beginning."""
        assert (rank, world) == (0, 1), "one process"
        del ahead
        cfg = self.cfg
        return PackedBatches(
            self.examples, cfg.train.batch_size, cfg.data.context, self.tokenizer.pad,
            cfg.train.seed,
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write the tokenizer; the examples are made or read again."""
        self.tokenizer.save(folder / "tokenizer")


def open_examples(
    cfg: RunConfig,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    name: str,
    held_out: int = 64,
) -> ExampleData:
    """Examples that fit the context, the last ones held out. Raises UserError if too few remain."""
    fit = [e for e in examples if len(e.tokens) <= cfg.data.context]
    dropped = len(examples) - len(fit)
    held_out = min(held_out, len(fit) // 10)
    if len(fit) < 10:
        raise UserError(
            "data",
            f"{len(fit)} of {len(examples)} examples fit data.context = {cfg.data.context}",
            "10 and more",
            hint="a longer data.context" if dropped else "",
        )
    digest = hashlib.sha256(repr([tokenizer.fingerprint, cfg.data.context, fit]).encode())
    cut = len(fit) - held_out
    return ExampleData(
        cfg=cfg,
        name=name,
        tokenizer=tokenizer,
        examples=fit[:cut],
        kept_out=fit[cut:],
        fingerprint=digest.hexdigest(),
        dropped=dropped,
    )
