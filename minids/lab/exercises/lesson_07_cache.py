"""Lesson 07: a cache that grows.  Axes: b batch, s new tokens, t tokens kept, g heads, n width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.cache import FIRST_ROOM, LayerCache


def cache_cases(generator: torch.Generator) -> Iterator[Case]:
    """A prompt, then tokens; several tensors of several ranks; more than the first buffer holds."""
    for pieces, shapes, dtype, label in (
        ([1], [(3,)], torch.float32, "one token"),
        ([3, 1], [(2,)], torch.float32, "a prompt of 3, then a token"),
        ([2, 1, 1, 4], [(2, 3), (2, 3)], torch.float64, "keys and values"),
        ([5, 1, 2], [(5,), (2,)], torch.bfloat16, "a latent and a key"),
        ([FIRST_ROOM - 2, 1, 1, 1, 1], [(2,)], torch.float32, "more than the first buffer"),
        ([3 * FIRST_ROOM, 1, 1], [(1, 2)], torch.float32, "a long prompt"),
    ):
        made = [
            tuple(torch.randn(2, s, *shape, generator=generator).to(dtype) for shape in shapes)
            for s in pieces
        ]
        yield Case((made, "kept"), label)
    made = [(torch.randn(1, 1, 2, generator=generator),) for _ in range(FIRST_ROOM + 40)]
    yield Case((made, "moves"), f"{len(made)} tokens, one at a time")


def call_cache(answer: Any, case: Case) -> dict[str, Any]:
    """What comes back each time and at the end; the caller goes on to use its own tensors."""
    pieces, what = case.args
    cache, kept, places, last = answer(), [], [], ()
    for piece in pieces:
        own = tuple(x.clone() for x in piece)
        last = cache.append(*own)
        kept.append([x.clone() for x in last])
        places.append(last[0].data_ptr())
        for x in own:
            x.fill_(7.0)
    if what == "moves":
        moves = sum(a != b for a, b in zip(places[1:], places, strict=False))
        return {"times everything moved": moves}
    return {"kept": kept, "at the end": list(last), "length": cache.length}


class Joined:
    """Right in every number: torch.cat moves all that is kept, for every token."""

    def __init__(self):
        self.buffers, self.length = [], 0

    def append(self, *new):
        if self.buffers:
            new = [torch.cat(pair, dim=1) for pair in zip(self.buffers, new, strict=True)]
        self.buffers = [x.clone() for x in new]
        self.length = self.buffers[0].shape[1]
        return tuple(self.buffers)


class Borrowed(LayerCache):
    """The first tensors are the caller's own."""

    def append(self, *new):
        if not self.buffers:
            self.buffers, self.length = list(new), new[0].shape[1]
            return self.kept()
        return super().append(*new)


class NewOnly(LayerCache):
    """Keeps everything, hands back the last piece."""

    def append(self, *new):
        super().append(*new)
        return tuple(x[:, -new[0].shape[1] :] for x in self.kept())


class RoomShown(LayerCache):
    """Hands back the buffers with their empty room."""

    def append(self, *new):
        super().append(*new)
        for buffer in self.buffers:
            buffer[:, self.length :] = 0.0
        return tuple(self.buffers)


class StartOverwritten(LayerCache):
    """Every piece is written to the beginning."""

    def append(self, *new):
        end = self.length + new[0].shape[1]
        if not self.buffers or end > self.buffers[0].shape[1]:
            self.grow(new, end)
            for buffer in self.buffers:
                buffer[:, self.length :] = 0.0
        for buffer, x in zip(self.buffers, new, strict=True):
            buffer[:, : x.shape[1]] = x
        self.length = end
        return self.kept()


class OldLost(LayerCache):
    """A larger buffer begins empty."""

    def grow(self, like, end):
        room = max(FIRST_ROOM, 1 << (end - 1).bit_length())
        self.buffers = [x.new_zeros(x.shape[0], room, *x.shape[2:]) for x in like]


CACHE = Exercise(
    "07.1",
    "LayerCache",
    "a cache that grows",
    LayerCache,
    cache_cases,
    (
        Mistake(
            "everything moved each time",
            "Every number is right, but each new token copies all that came before it: a text of "
            "t tokens moves t²/2 of them. With room to spare only the new token is written.",
            Joined,
        ),
        Mistake(
            "the caller's tensor kept",
            "The first piece was kept without a copy. Whoever made it may write to it again, and "
            "then the past changes.",
            Borrowed,
        ),
        Mistake(
            "only the new handed back",
            "Attention needs all tokens kept so far; what comes back is the last piece alone.",
            NewOnly,
        ),
        Mistake(
            "empty room handed back",
            "The buffer has room for tokens that have not come yet. Attention would read them as "
            "if they were there.",
            RoomShown,
        ),
        Mistake(
            "written to the beginning",
            "Each piece is written over the first tokens instead of behind the last.",
            StartOverwritten,
        ),
        Mistake(
            "old tokens lost on growth",
            "After the move to a larger buffer the tokens from before are gone.",
            OldLost,
        ),
    ),
    (
        "How many tokens will there be after this call, and does the buffer have room for them?",
        "Two places count: where the last token ends now, and where the new ones will end.",
        "If there is no buffer or it is too short, call grow first. Then copy each piece into its "
        "buffer between the old and the new end, remember the new end, and hand back views.",
    ),
    call=call_cache,
    atol=0.0,
    rtol=0.0,
)
