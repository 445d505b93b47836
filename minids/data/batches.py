"""Batches: which document comes when, in which row, and how to go on after an interruption.

The order of an epoch is a function of (seed, epoch): the raw bits of a counter-based generator,
sorted. Nothing has to be remembered but how far it was followed and which pieces still wait for a
row, a list of numbers. All ranks plan the same global batch and each builds its own rows, so the
order of the data does not depend on how many processes there are.

Axes: b rows of the global batch, s = context.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from minids.data.packing import Piece, cut, take_row, windows
from minids.data.shards import Shard
from minids.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100  # label of a position that has nothing to predict
LOOK_AHEAD = 64  # pieces that wait for a row: enough to fill nearly every row exactly


class Batch(NamedTuple):
    """Rows of this rank: `labels[i] = tokens[i + 1]` inside a document, IGNORE elsewhere."""

    tokens: Tensor  # [b s] int64
    labels: Tensor  # [b s] int64
    ids: list[list[str]]  # of each row: which pieces it holds


class Source(Protocol):
    """Training documents in the order of an epoch."""

    fingerprint: str  # of everything that decides its pieces and their order

    def begin(self, epoch: int) -> int:
        """Lay out the order of an epoch → number of draws."""
        ...

    def draw(self, index: int) -> list[Piece]:
        """The pieces of one draw of this epoch, usually one."""
        ...

    def piece(self, document: int, start: int, length: int) -> Piece:
        """A piece by its name, to restore the waiting ones."""
        ...


class ShardSource:
    """The training documents of a shard; a draw is a window, so long texts are shuffled too."""

    def __init__(self, shard: Shard, context: int, seed: int) -> None:
        self.shard, self.context, self.seed = shard, context, seed
        self.fingerprint = f"{shard.source} {shard.tokenizer} {seed}"
        self.lengths = np.diff(shard.offsets[: shard.n_train + 1])

    def begin(self, epoch: int) -> int:
        """Move the borders of the windows, then shuffle them."""
        stream = np.random.Philox(key=[self.seed, epoch])
        phase = (stream.random_raw(len(self.lengths)) % self.context).astype(np.int64)
        plan = np.stack(windows(self.lengths, phase, self.context), axis=1)
        self.plan = plan[shuffled(stream, len(plan))]
        return len(plan)

    def draw(self, index: int) -> list[Piece]:
        """One window."""
        document, start, length = map(int, self.plan[index])
        return [self.piece(document, start, length)]

    def piece(self, document: int, start: int, length: int) -> Piece:
        """A window by its name."""
        return cut(document, self.shard.document(document), start, length)


def shuffled(stream: np.random.Philox, n: int) -> np.ndarray:
    """A permutation of 0 … n - 1 from raw bits, which no version of numpy changes."""
    return np.argsort(stream.random_raw(n), kind="stable")


class Batches:
    """An endless sequence of batches that can be left and taken up at any point.

    rank r of w holds rows r·b/w … of the global batch of b rows. `epoch` counts from 0; its
    documents are all used up before those of the next one are drawn.
    """

    def __init__(
        self, source: Source, *, batch_size: int, context: int, pad: int, rank: int, world: int
    ) -> None:
        if batch_size % world:
            raise UserError(
                "train.batch_size",
                f"{batch_size} rows do not split over {world} workers",
                f"multiples of {world}",
            )
        self.source, self.context, self.pad = source, context, pad
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.waiting: list[Piece] = []
        self._enter(epoch=0, drawn=0)

    def _enter(self, epoch: int, drawn: int) -> None:
        self.epoch, self.drawn = epoch, drawn
        self.n_draws = self.source.begin(epoch)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.next()

    def next(self) -> Batch:
        """Plan all rows of the next global batch, build those of this rank."""
        rows = [self._next_row() for _ in range(self.batch_size)]
        share = self.batch_size // self.world
        return to_batch(rows[self.rank * share :][:share], self.context, self.pad)

    def _next_row(self) -> list[Piece]:
        self._refill()
        while not self.waiting:
            self._enter(self.epoch + 1, drawn=0)
            self._refill()
        return take_row(self.waiting, self.context)

    def _refill(self) -> None:
        while len(self.waiting) < LOOK_AHEAD and self.drawn < self.n_draws:
            self.waiting += self.source.draw(self.drawn)
            self.drawn += 1

    def state_dict(self) -> dict[str, Any]:
        """The position, as numbers and text: the same for every rank and any number of them."""
        return {
            "source": self.source.fingerprint,
            "context": self.context,
            "epoch": self.epoch,
            "drawn": self.drawn,
            "waiting": [[p.document, p.start, p.length] for p in self.waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position, with the same data and context."""
        for name, value in (("source", self.source.fingerprint), ("context", self.context)):
            if state[name] != value:
                raise UserError(
                    f"data position: {name}", f"saved with {state[name]}", f"{value}", code=4
                )
        self._enter(state["epoch"], state["drawn"])
        self.waiting = [self.source.piece(*piece) for piece in state["waiting"]]


class Ahead:
    """The same batches, the next one made in a thread while this one is trained on.

    Worth it where the trainer waits for another device: on a CPU both want the same cores. The
    position told is that behind the batch last given out, never that of the one made ahead.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._position = batches.state_dict()
        self._coming = self._thread.submit(self._make)

    def _make(self) -> tuple[Batch, dict[str, Any]]:
        return self.batches.next(), self.batches.state_dict()

    @property
    def epoch(self) -> int:
        """Epoch of the position."""
        return self._position["epoch"]

    @property
    def drawn(self) -> int:
        """Draws of that epoch up to the position."""
        return self._position["drawn"]

    def next(self) -> Batch:
        """The batch that is ready, or nearly."""
        batch, self._position = self._coming.result()
        self._coming = self._thread.submit(self._make)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """As of `Batches`."""
        return self._position

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As of `Batches`; what was made ahead is dropped."""
        wait([self._coming])
        self.batches.load_state_dict(state)
        self._position = self.batches.state_dict()
        self._coming = self._thread.submit(self._make)


def to_batch(rows: list[list[Piece]], context: int, pad: int) -> Batch:
    """Rows of pieces → tokens and labels [b s]."""
    import torch

    tokens = np.full((len(rows), context), pad, np.int64)
    labels = np.full((len(rows), context), IGNORE, np.int64)
    for row, pieces in enumerate(rows):
        at = 0
        for piece in pieces:
            targets = piece.tokens[1:]  # one fewer than positions where the document ends
            tokens[row, at : at + piece.length] = piece.tokens[: piece.length]
            labels[row, at : at + len(targets)] = targets
            at += piece.length
    ids = [[piece.label for piece in pieces] for pieces in rows]
    return Batch(torch.from_numpy(tokens), torch.from_numpy(labels), ids)
