"""What attention remembers, so that a new token costs one row instead of the whole sequence.

An MLA layer keeps the normed latent and the rotated shared key: c + r numbers per token. Grouped
attention keeps its keys and values: 2·g·n numbers. Buffers double when full, so appending a token
moves that token only. Axes: b batch, t tokens kept.
"""

import torch
from torch import Tensor


class LayerCache:
    """The tensors of one layer, all growing along axis 1."""

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []
        self.length = 0

    def append(self, *new: Tensor) -> tuple[Tensor, ...]:
        """Keep `new` [b s …] behind what is kept already → views of all tokens [b t …]."""
        end = self.length + new[0].shape[1]
        if not self.buffers or end > self.buffers[0].shape[1]:
            self.buffers = [self._grown(i, tensor, end) for i, tensor in enumerate(new)]
        for buffer, tensor in zip(self.buffers, new, strict=True):
            buffer[:, self.length : end] = tensor
        self.length = end
        return tuple(buffer[:, :end] for buffer in self.buffers)

    def _grown(self, index: int, like: Tensor, end: int) -> Tensor:
        room = max(64, 1 << (end - 1).bit_length())
        grown = like.new_empty(like.shape[0], room, *like.shape[2:])
        if self.buffers:
            grown[:, : self.length] = self.buffers[index][:, : self.length]
        return grown


class Cache:
    """One LayerCache per layer."""

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Bytes of the tokens kept, without room for growth."""
        return sum(
            buffer[:, : layer.length].numel() * buffer.element_size()
            for layer in self.layers
            for buffer in layer.buffers
        )

    def crop(self, length: int) -> None:
        """Forget everything after `length` tokens (a rejected draft)."""
        for layer in self.layers:
            layer.length = min(layer.length, length)

    def select(self, rows: Tensor) -> None:
        """Keep, drop or repeat sequences.  rows [b'] indices into the batch"""
        for layer in self.layers:
            layer.buffers = [torch.index_select(buffer, 0, rows) for buffer in layer.buffers]
