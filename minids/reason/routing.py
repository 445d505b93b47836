"""Keep routing: the learner takes the experts that the sampler took. (DeepSeek-V3.2 §3.1)

Sampler and learner are two programs, and the learner's weights have moved by the second update. A
router near a tie then sends a token elsewhere, and the ratio π/π_old compares two different
networks. So the sampler writes down who was asked, for every token of prompt and completion, and
the learner's forward pass asks the same ones; how much each counts it computes anew, with gradient.
DeepSeek has used it since V3-0324. The price: L·k small numbers a token, and a sampler that goes
the defined way instead of the faster one, which does not tell whom it asked.

Axes: B prompts, N rows, b rows still running, s new columns, t of prompt and completion, L expert
layers, k experts per token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from minids.generate.engine import Context
from minids.nn.cache import Cache
from minids.nn.moe import Routing
from minids.nn.transformer import Transformer


class TellingContext(Context):
    """A Context that keeps who was asked for the columns it read last."""

    def __init__(self, model: Transformer, mask: Tensor | None, *, dtype: torch.dtype) -> None:
        super().__init__(model, mask, use_cache=True, dtype=dtype)
        self.fast, self.cache = None, Cache(model.cfg.num_hidden_layers)
        self.asked = torch.empty(0)  # [b s L k] of the last read

    def states(self, tokens: Tensor) -> Tensor:
        """New columns [b s] → their states [b s d]."""
        self.widen(tokens.shape[1])
        routings: list[Routing] = []
        training_in, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        try:
            state = self.model.hidden(tokens, mask=self.mask, cache=self.cache, routings=routings)
        finally:
            self.model.compute_dtype = training_in
        expert = torch.stack([r.expert for r in routings])  # [L T k]
        self.asked = rearrange(expert, "L (b s) k -> b s L k", b=len(tokens))
        return state


class Asked:
    """Who was asked, row by row from its first token on; −1 where nobody was.  expert [N t L k]"""

    def __init__(
        self, reader: TellingContext, prompts: Sequence[list[int]], each: list[int], longest: int
    ) -> None:
        whole = reader.asked.cpu()  # [B s L k], padded on the left
        t, layers, k = whole.shape[1:]
        self.start = torch.tensor([len(prompts[i]) for i in each])  # [N]
        self.expert = torch.full((len(each), t + longest, layers, k), -1, dtype=torch.int64)
        for row, i in enumerate(each):
            n = len(prompts[i])
            self.expert[row, :n] = whole[i, t - n :]

    def note(self, rows: Tensor, at: int, reader: TellingContext) -> None:
        """The token `at` of these rows' completions has been read."""
        self.expert[rows, self.start[rows] + at] = reader.asked[:, 0].cpu()


def of_rows(asked: Tensor, rows: Tensor, t: int, device: torch.device) -> Tensor:
    """For `Transformer.hidden`: rows of a rollout, t columns.  [N … L k] → [L b·t k]"""
    part = asked[rows][:, :t]  # [b t L k]
    if short := t - part.shape[1]:
        part = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, short), value=-1)
    return rearrange(part, "b t L k -> L (b t) k").to(device)
