"""The whole model: embed, blocks, norm, head; and beside it the modules that look further ahead.

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
from einops import rearrange
from torch import Tensor, nn

from minids.config import ModelConfig
from minids.errors import UserError
from minids.nn.attention import visible
from minids.nn.block import Block
from minids.nn.cache import Cache
from minids.nn.linear import Linear
from minids.nn.loss import IGNORE, NEAR, cross_entropy, cross_entropy_in_blocks
from minids.nn.moe import MoE, Routing, updated_bias
from minids.nn.mtp import MTPModule, shift_labels
from minids.nn.norm import RMSNorm
from minids.nn.rope import Rope, rope_tables


class Labelled(Protocol):
    """A training batch, as `minids.data.batches` makes it."""

    @property
    def tokens(self) -> Tensor: ...  # [b s] int64

    @property
    def labels(self) -> Tensor: ...  # [b s] int64, the next token, or IGNORE


class Loss(NamedTuple):
    """Sums, never means: over any split of a batch into rows they add up to the same numbers."""

    total: Tensor  # scalar with gradient: main + λ/u Σ mtp + balance; divide by all n_targets
    main: Tensor  # scalar, Σ −ln p of the next tokens, nats
    mtp: Tensor  # [u] the same, one more token ahead each
    n_targets: Tensor  # scalar int64, next tokens counted in `main`
    n_mtp: Tensor  # [u] int64, tokens counted in `mtp`
    balance: Tensor  # scalar, Σ over layers and rows of the row's balance loss × its targets
    load: Tensor  # [L e] int64, visits of each routed expert; MTP modules come last


class Transformer(nn.Module):
    """A decoder of any DeepSeek V2/V3-family or Llama-like config.

    tokens [b s] int64 → logits [b s V] float32. Weights are torch's defaults until `init_weights`
    or a checkpoint fills them.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        if cfg.attention == "csa":
            raise UserError("model.attention", "csa (DeepSeek-V4) is counted only", "mla, gqa")
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

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every weight, in the order of `named_parameters`, from one generator.

        | weight            | start                                                     |
        |-------------------|-----------------------------------------------------------|
        | norms             | 1; before a head tied to the embedding 1/d                |
        | biases            | 0, the routers' selection biases too                      |
        | outputs           | 0 if zero_init_output: every block begins as the identity |
        | matrices          | normal, initializer_range; if that is 0, 1/√(inputs)      |
        | embedding         | normal, initializer_range; if that is 0, 1                |
        """
        std = self.cfg.initializer_range
        for name, weight in self.named_parameters():
            parts = name.split(".")
            if weight.ndim == 1:
                weight.fill_(0.0 if parts[-1] == "bias" else 1.0)
            elif self.cfg.zero_init_output and {"o_proj", "down_proj", "lm_head"} & set(parts):
                weight.zero_()
            else:
                fan_in = 1 if parts[0] == "embed_tokens" else weight.shape[-1]
                weight.normal_(std=std or 1 / math.sqrt(fan_in), generator=generator)
        if self.cfg.tie_word_embeddings and not std:  # else logits of √d: a loss far above ln V
            for norm in (self.norm, *(module.shared_head.norm for module in self.mtp)):
                norm.weight.fill_(1 / self.cfg.hidden_size)  # pyright: ignore
        for buffer in self.buffers():
            buffer.zero_()

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [b s] → [b s d] in the compute dtype."""
        return self.embed_tokens(tokens).to(self.compute_dtype)

    def rope(self, positions: Tensor) -> Rope:
        """Tables for all layers, float32 at least.  positions [s] or [b s]"""
        wide = torch.promote_types(self.compute_dtype, torch.float32)
        return rope_tables(self.cfg, positions, wide)

    def hidden(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        routings: list[Routing] | None = None,
        replay: Tensor | None = None,
    ) -> Tensor:
        """States behind the final norm.  tokens [b s] → [b s d]

        positions [s] or [b s], default: after what the cache holds. mask [b t] bool over cached and
        new tokens, True for real ones. `routings` collects what each expert layer did;
        `replay` [L b·s k] says which experts to take, −1 for a free choice.
        """
        s, start = tokens.shape[1], cache.length if cache is not None else 0
        if positions is None:
            positions = torch.arange(start, start + s, device=tokens.device)  # [s]
        if mask is not None:
            mask = visible(s, start + s, mask, tokens.device)  # [b 1 s t]
        rope, x = self.rope(positions), self.embed(tokens)
        given = iter(() if replay is None else replay)
        for i, block in enumerate(self.layers):
            of_layer = None if cache is None else cache.layers[i]
            if replay is not None and isinstance(block.mlp, MoE):
                x, routing = block(x, rope, mask, of_layer, next(given))
            else:
                x, routing = block(x, rope, mask, of_layer)
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
        return self.logits(self.hidden(tokens, positions=positions, mask=mask, cache=cache))

    def logits(self, state: Tensor) -> Tensor:
        """state [… d] → [… V], float32 at least."""
        logits = self.lm_head(state)  # [… V]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def loss(self, batch: Labelled) -> Loss:
        """What training minimises; `labels[i]` is the token after `tokens[i]`, or IGNORE."""
        tokens, labels = batch.tokens, batch.labels  # [b s], [b s]
        routings: list[Routing] = []
        state = self.hidden(tokens, routings=routings)  # [b s d]
        targets = (labels != IGNORE).sum(-1)  # [b]
        main = self.cross_entropy(state, labels)
        mtp, n_mtp = self.mtp_losses(tokens, labels, state, routings)  # [u], [u]
        balance = main.new_zeros(())
        for layer, routing in zip(self.moe_layers(), routings, strict=True):
            balance = balance + (layer.balance_loss(routing, len(tokens)) * targets).sum()
        total = main + balance + self.cfg.mtp_loss_weight / max(len(mtp), 1) * mtp.sum()
        load = torch.stack([r.load for r in routings]) if routings else targets.new_zeros(0, 0)
        sums = main.detach(), mtp.detach(), targets.sum(), n_mtp, balance.detach()
        return Loss(total, *sums, load)

    def mtp_losses(
        self, tokens: Tensor, labels: Tensor, state: Tensor, routings: list[Routing]
    ) -> tuple[Tensor, Tensor]:
        """Σ −ln p of every depth and its number of targets.  → [u], [u]

        tokens and labels [b s], state [b s d] of the main model. Each depth has one position less:
        behind the last token nothing is known.
        """
        assert tokens.shape[1] > len(self.mtp), "a row must be longer than the MTP depth"
        sums, counts = [state.new_zeros(0)], [labels.new_zeros(0)]
        for u, module in enumerate(self.mtp, start=1):
            assert isinstance(module, MTPModule)
            embedded = self.embed(tokens[:, u:])  # [b s-u d]
            labels = shift_labels(labels)  # [b s-u]
            rope = self.rope(torch.arange(labels.shape[1], device=labels.device))
            state, routing = module.look_further(state[:, :-1], embedded, rope)  # [b s-u d]
            if routing is not None:
                routings.append(routing)
            sums.append(self.cross_entropy(state, labels)[None])
            counts.append((labels != IGNORE).sum()[None])
        return torch.cat(sums), torch.cat(counts)

    def cross_entropy(self, state: Tensor, labels: Tensor) -> Tensor:
        """Σ −ln p(label), in float32 at least.  state [b s d], labels [b s] → scalar"""
        head, flat = self.lm_head.weight, rearrange(state, "b s d -> (b s) d")
        many = labels.numel() * len(head) > NEAR and torch.is_grad_enabled()
        rule = cross_entropy_in_blocks if many else cross_entropy
        return rule(flat, head, labels.flatten())

    def moe_layers(self) -> Iterator[MoE]:
        """Expert layers in the order of `Loss.load`: main blocks, then MTP modules."""
        return (block.mlp for block in [*self.layers, *self.mtp] if isinstance(block.mlp, MoE))

    @torch.no_grad()
    def update_biases(self, load: Tensor) -> None:
        """V3's balance rule, once per optimizer step.  load [L e], visits over the whole batch"""
        if self.cfg.topk_method != "noaux_tc":
            return
        for layer, visits in zip(self.moe_layers(), load, strict=True):
            bias = layer.gate.e_score_correction_bias  # [e]
            bias.copy_(updated_bias(bias, visits, self.cfg.bias_update_speed))
