"""What attention remembers, so that a new token costs one row instead of the whole sequence.

An MLA layer keeps the normed latent and the rotated shared key: c + r numbers per token. Grouped
attention keeps its keys and values: 2·g·n numbers. Buffers double when full, so appending a token
moves that token only. Axes: b batch, s new tokens, t tokens kept.
"""

import torch
from torch import Tensor

FIRST_ROOM = 64  # tokens a new buffer has room for


class LayerCache:
    """The tensors of one layer, all growing along axis 1."""

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []
        self.length = 0

    def append(self, *new: Tensor) -> tuple[Tensor, ...]:
        """Keep `new` [b s …] behind what is kept already → views of all tokens [b t …]."""
        end = self.length + new[0].shape[1]
        if not self.buffers or end > self.buffers[0].shape[1]:
            self.grow(new, end)
        for buffer, tensor in zip(self.buffers, new, strict=True):
            buffer[:, self.length : end] = tensor
        self.length = end
        return self.kept()

    def kept(self) -> tuple[Tensor, ...]:
        """Views of all tokens kept.  → [b t …] each"""
        return tuple(buffer[:, : self.length] for buffer in self.buffers)

    def grow(self, like: tuple[Tensor, ...], end: int) -> None:
        """Move to buffers with room for at least `end` tokens: the next power of two."""
        room = max(FIRST_ROOM, 1 << (end - 1).bit_length())
        old = self.kept()
        self.buffers = [x.new_empty(x.shape[0], room, *x.shape[2:]) for x in like]
        for buffer, tensor in zip(self.buffers, old, strict=False):  # nothing is old at first
            buffer[:, : self.length] = tensor


class Cache:
    """One LayerCache per layer; `Transformer.hidden` reads and extends it."""

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Bytes of the tokens kept, without the room to grow."""
        return sum(x.numel() * x.element_size() for layer in self.layers for x in layer.kept())

    def crop(self, length: int) -> None:
        """Forget everything after `length` tokens (a rejected draft)."""
        for layer in self.layers:
            layer.length = min(layer.length, length)

    def select(self, rows: Tensor) -> None:
        """Keep, drop or repeat sequences.  rows [b'] int64, indices into the batch"""
        for layer in self.layers:
            layer.buffers = [torch.index_select(buffer, 0, rows) for buffer in layer.buffers]
