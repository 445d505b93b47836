"""The whole model: embed, L blocks, norm, head; and beside it the modules that look further ahead.

Built from a ModelConfig alone, on any device ("meta" holds 671B parameters without memory).
Parameter names are those of the released checkpoints. Weights are float32; `compute_dtype` is the
one place that decides in what the matrix products run.
Axes: b batch, s positions, t tokens seen, d hidden_size, V vocabulary, L expert layers, e experts,
u MTP depth.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minids.config import ModelConfig
from minids.errors import UserError
from minids.nn.block import Block
from minids.nn.cache import Cache
from minids.nn.linear import Linear
from minids.nn.moe import MoE, Routing, updated_bias
from minids.nn.mtp import IGNORE, MTPModule, shift_labels
from minids.nn.norm import RMSNorm
from minids.nn.rope import rope_tables


class Labelled(Protocol):
    """A training batch, as `minids.data.batches` makes it."""

    tokens: Tensor  # [b s] int64
    labels: Tensor  # [b s] int64, the next token, or IGNORE


class Loss(NamedTuple):
    """Sums, never means: any split of a batch adds up to the same gradient."""

    total: Tensor  # scalar with gradient; divide by all targets of the step, then it is per token
    main: Tensor  # scalar, Σ −ln p of the next tokens, nats
    mtp: Tensor  # [u] the same, one more token ahead each
    n_targets: Tensor  # scalar int64, next tokens counted in `main`
    n_mtp: Tensor  # [u] int64, tokens counted in `mtp`
    balance: Tensor  # scalar, Σ over layers of the balance losses, times n_targets
    load: Tensor  # [L e] int64, visits of each routed expert


class Transformer(nn.Module):
    """A decoder of any DeepSeek V2/V3-family or Llama-like config.

    tokens [b s] int64 → logits [b s V] float32.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        if cfg.attention == "csa":
            raise UserError(
                "model.attention", "csa (DeepSeek-V4) is counted, not built", "mla, gqa"
            )
        self.cfg = cfg
        self.compute_dtype = torch.float32
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(Block(cfg, i) for i in range(cfg.num_hidden_layers))
        self.norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.lm_head = Linear(cfg.hidden_size, cfg.vocab_size)
        if cfg.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        depth = cfg.num_nextn_predict_layers
        self.mtp = nn.ModuleList(MTPModule(cfg, cfg.num_hidden_layers + u) for u in range(depth))

    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every weight, in the order of `named_parameters`, from one generator.

        | weight            | start                                                     |
        |-------------------|-----------------------------------------------------------|
        | norms             | 1                                                         |
        | biases            | 0                                                         |
        | o_proj, down_proj | 0 if zero_init_output: every block begins as the identity |
        | matrices          | normal, initializer_range; if that is 0, 1/√(inputs)      |
        | embedding         | normal, initializer_range; if that is 0, 1                |
        """
        std = self.cfg.initializer_range
        for name, weight in self.named_parameters():
            parts = name.split(".")
            if weight.ndim == 1:
                nn.init.constant_(weight, 0.0 if parts[-1] == "bias" else 1.0)
            elif self.cfg.zero_init_output and {"o_proj", "down_proj"} & set(parts):
                nn.init.zeros_(weight)
            else:
                fan_in = 1 if parts[0] == "embed_tokens" else weight.shape[-1]
                nn.init.normal_(weight, std=std or 1 / math.sqrt(fan_in), generator=generator)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [b s] → [b s d] in the compute dtype."""
        return self.embed_tokens(tokens).to(self.compute_dtype)

    def hidden(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        routings: list[Routing] | None = None,
    ) -> Tensor:
        """States behind the final norm.  tokens [b s] → [b s d]

        positions [s] or [b s], default: after what the cache holds. mask [b t] bool, True for real
        tokens. `routings` collects what each expert layer did.
        """
        if positions is None:
            start = cache.length if cache is not None else 0
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        rope = rope_tables(self.cfg, positions)
        x = self.embed(tokens)
        for i, block in enumerate(self.layers):
            x, routing = block(x, rope, mask, None if cache is None else cache.layers[i])
            if routings is not None and routing is not None:
                routings.append(routing)
        return self.norm(x)

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = self.hidden(tokens, positions=positions, mask=mask, cache=cache)
        logits = self.lm_head(x)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def loss(self, batch: Labelled) -> Loss:
        """What training minimises; `labels[i]` is the token after `tokens[i]`, or IGNORE."""
        tokens, labels = batch.tokens, batch.labels  # [b s] both
        routings: list[Routing] = []
        state = self.hidden(tokens, routings=routings)
        n_targets = (labels != IGNORE).sum()
        main = self.cross_entropy(state, labels)
        total = main
        mtp, n_mtp = [], []
        rope = rope_tables(self.cfg, torch.arange(tokens.shape[1], device=tokens.device))
        following = tokens  # [b s]
        for module in self.mtp:
            following = torch.cat((following[:, 1:], labels[:, -1:].clamp(min=0)), dim=1)
            labels = shift_labels(labels)
            state, routing = module.look_further(state, self.embed(following), rope)
            if routing is not None:
                routings.append(routing)
            mtp.append(self.cross_entropy(state, labels))
            n_mtp.append((labels != IGNORE).sum())
            weight = self.cfg.mtp_loss_weight / len(self.mtp)
            total = total + weight * mtp[-1] * (n_targets / n_mtp[-1].clamp(min=1))
        balance = total.new_zeros(())
        for layer, routing in zip(self.moe_layers(), routings, strict=True):
            balance = balance + layer.balance_loss(routing, tokens.shape[0]) * n_targets
        return Loss(
            total + balance,
            main.detach(),
            torch.stack(mtp).detach() if mtp else main.new_zeros(0),
            n_targets,
            torch.stack(n_mtp) if n_mtp else n_targets.new_zeros(0),
            balance.detach(),
            torch.stack([r.load for r in routings]) if routings else n_targets.new_zeros(0, 0),
        )

    def cross_entropy(self, state: Tensor, labels: Tensor) -> Tensor:
        """Σ −ln p(label), in float32 at least.  state [b s d], labels [b s] → scalar"""
        logits = self.lm_head(state).flatten(0, 1)  # [b·s V]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(wide, labels.flatten(), ignore_index=IGNORE, reduction="sum")

    def moe_layers(self) -> Iterator[MoE]:
        """Expert layers in the order of `Loss.load`: main blocks, then MTP modules."""
        return (block.mlp for block in [*self.layers, *self.mtp] if isinstance(block.mlp, MoE))

    @torch.no_grad()
    def update_biases(self, load: Tensor) -> None:
        """V3's balance rule, once per optimizer step.  load [L e], visits over the whole batch"""
        if self.cfg.topk_method != "noaux_tc" or not self.cfg.bias_update_speed:
            return
        for layer, visits in zip(self.moe_layers(), load, strict=True):
            bias = layer.gate.e_score_correction_bias
            bias.copy_(updated_bias(bias, visits, self.cfg.bias_update_speed))
