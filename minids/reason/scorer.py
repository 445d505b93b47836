"""A learned score: how right a completion looks to a line through the model's own states.

The cheapest outcome reward model there is: the state at a completion's last token, which has read
all of it, and a logistic regression on problems whose answers could be checked. It needs no rule
when it is asked, so it can be fooled: the best of many tries is the one that fools it most.

Axes: N completions, t tokens of prompt and completion, d hidden_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minids.data.tokenizer import Tokenizer
from minids.nn.transformer import Transformer
from minids.reason.chat import prompt_ids
from minids.reason.passrate import Attempt

ROWS = 256  # read together, of similar length
STEPS = 12  # Newton's; six are enough


class Scorer(NamedTuple):
    """States are centred and scaled, then weighed."""

    weight: Tensor  # [d]
    bias: Tensor  # []
    mean: Tensor  # [d]
    deviation: Tensor  # [d]

    def __call__(self, state: Tensor) -> list[float]:
        """Log-odds of being right.  state [N d]"""
        return (((state - self.mean) / self.deviation) @ self.weight + self.bias).tolist()


@torch.no_grad()
def last_states(model: Transformer, tokenizer: Tokenizer, tried: Sequence[Attempt]) -> Tensor:
    """The state behind the last token of each completion → [N d], float64."""
    device = model.embed_tokens.weight.device
    rows = [prompt_ids(tokenizer, a.problem.prompt) + a.tokens for a in tried]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = torch.zeros(len(rows), model.norm.weight.numel(), dtype=torch.float64)  # [N d]
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        t = len(rows[part[-1]])
        padded = [rows[i] + [tokenizer.pad] * (t - len(rows[i])) for i in part]
        state = model.hidden(torch.tensor(padded, device=device))  # [N t d]
        last = torch.tensor([len(rows[i]) - 1 for i in part], device=device)  # [N]
        found[part] = state[torch.arange(len(part), device=device), last].double().cpu()
    return found


def fit(state: Tensor, right: Sequence[bool], ridge: float = 30.0) -> Scorer:
    """Logistic regression by Newton's method.  state [N d]

    `ridge` keeps the weights finite where a line tells right from wrong without an error, or where
    all are right.
    """
    mean = state.mean(0)  # [d]
    deviation = state.std(0, correction=0).clamp(min=1e-6)  # [d]
    ones = torch.ones(len(state), 1, dtype=state.dtype)
    x = torch.cat([(state - mean) / deviation, ones], -1)  # [N d+1]
    y = torch.tensor(right, dtype=state.dtype)  # [N]
    held = ridge * torch.eye(x.shape[1], dtype=state.dtype)  # [d+1 d+1]
    w = torch.zeros(x.shape[1], dtype=state.dtype)  # [d+1]
    for _ in range(STEPS):
        p = torch.sigmoid(x @ w)  # [N]
        gradient = x.T @ (p - y) + held @ w  # [d+1]
        curve = (x.T * (p * (1 - p))) @ x + held  # [d+1 d+1]
        w = w - torch.linalg.solve(curve, gradient)
    return Scorer(w[:-1], w[-1], mean, deviation)
