"""One optimizer for a whole model: Muon for matrices, AdamW for what is not a map between vectors.

Embedding, output head, norms, biases and the router's centroids go to AdamW (each row there is a
thing of its own), all other matrices to Muon, as in Moonlight and DeepSeek-V4 (§4.2). Written here
and not taken from torch.optim because that is what the lesson is about, because torch's Muon takes
no stacked experts, and because importing torch.optim costs a second. Moments are float32 or,
as DeepSeek-V3 keeps them, bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minids.config import TrainConfig
from minids.train.comm import Solo
from minids.train.muon import Muon, grad_of
from minids.train.sharded import local, part_like, part_of


def belongs_to_adamw(name: str, weight: Tensor) -> bool:
    """Whether a parameter is updated number by number."""
    return weight.ndim < 2 or name in ("embed_tokens.weight", "lm_head.weight") or ".gate." in name


class AdamW:
    """Adam with decoupled weight decay on matrices only (arXiv 1711.05101), all tensors at once."""

    def __init__(
        self,
        named: list[tuple[str, Tensor]],
        beta1: float,
        beta2: float,
        eps: float,
        moments: torch.dtype | None = None,
    ) -> None:
        self.names = [name for name, _ in named]
        self.owners = [weight for _, weight in named]
        self.weights = [local(weight.detach()) for weight in self.owners]  # the same memory
        self.beta1, self.beta2, self.eps, self.steps = beta1, beta2, eps, 0
        self.mean = [torch.zeros_like(w, dtype=moments) for w in self.weights]
        self.square = [torch.zeros_like(w, dtype=moments) for w in self.weights]
        self.decayed = [w for w in self.weights if w.ndim >= 2]

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float) -> None:
        """w ← w − lr · (m̂ / (√v̂ + eps) + weight_decay · w)"""
        if not self.weights:
            return
        self.steps += 1
        grads = [local(grad_of(w)) for w in self.owners]
        mean, square = wide(self.mean, grads), wide(self.square, grads)
        torch._foreach_lerp_(mean, grads, 1 - self.beta1)
        torch._foreach_mul_(square, self.beta2)
        torch._foreach_addcmul_(square, grads, grads, value=1 - self.beta2)
        root = torch._foreach_sqrt(square)
        torch._foreach_mul_(root, (1 - self.beta2**self.steps) ** -0.5)
        torch._foreach_add_(root, self.eps)
        if self.decayed:
            torch._foreach_mul_(self.decayed, 1 - lr * weight_decay)
        size = -lr / (1 - self.beta1**self.steps)
        torch._foreach_addcdiv_(self.weights, mean, root, value=size)
        if mean is not self.mean:  # rounded where they are kept, never while they are used
            torch._foreach_copy_(self.mean, mean)
            torch._foreach_copy_(self.square, square)


def wide(moments: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    """Moments in the gradients' dtype; themselves if they are in it."""
    if not moments or moments[0].dtype == grads[0].dtype:
        return moments
    return [m.to(g.dtype) for m, g in zip(moments, grads, strict=True)]


class Optimizer:
    """Both rules over a model's parameters; tied weights count once."""

    def __init__(self, model: nn.Module, cfg: TrainConfig, muon_dtype: torch.dtype) -> None:
        self.cfg = cfg
        by_number, by_matrix = [], []
        for name, weight in model.named_parameters():
            alone = cfg.optimizer == "adamw" or belongs_to_adamw(name, weight)
            (by_number if alone else by_matrix).append((name, weight))
        kept = {"moments": torch.bfloat16} if cfg.moment_dtype == "bfloat16" else {}
        self.adamw = AdamW(by_number, cfg.beta1, cfg.beta2, cfg.adam_eps, **kept)
        self.muon = Muon(by_matrix, cfg.momentum, muon_dtype, **kept)

    def step(self, lr_factor: float, comm: Solo) -> None:
        """One update of every parameter from its `.grad`."""
        self.adamw.step(self.cfg.lr * lr_factor, self.cfg.weight_decay)
        self.muon.step(self.cfg.muon_lr * lr_factor, self.cfg.weight_decay, comm)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the next step depends on, by stable names; views, not copies."""
        state = {"adamw.steps": torch.tensor(self.adamw.steps)}
        a = self.adamw
        for name, owner, mean, square in zip(a.names, a.owners, a.mean, a.square, strict=True):
            state[f"adamw.mean.{name}"] = part_like(owner, mean)
            state[f"adamw.square.{name}"] = part_like(owner, square)
        state |= {f"muon.momentum.{name}": tensor for name, tensor in self.muon.state().items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state; names and shapes must agree (KeyError, RuntimeError)."""
        mine = self.state_dict()
        if mine.keys() != state.keys():
            raise KeyError(f"optimizer state differs at {sorted(mine.keys() ^ state.keys())[0]}")
        self.adamw.steps = int(state["adamw.steps"])
        for name, tensor in mine.items():
            local(tensor).copy_(part_of(state[name].to(tensor.device), tensor))
