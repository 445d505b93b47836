"""Rollouts: many completions of a few prompts, with what every chosen token weighed.

The sampler is the cached decoder, so it is fast and it is not the learner: other sums in another
order, sometimes another dtype. So both log-probabilities are kept, and their distance is a metric.
A prompt is read once for its whole group; a row that has ended leaves the batch.

Axes: B prompts, G completions of each, N = B·G rows (a group's side by side), s tokens of a
completion, t of prompt and completion, V vocabulary, d hidden_size, T real completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.generate.engine import Context, decoding_in, not_finite, pad_left, room_after
from minids.generate.sample import draw, filter_logits
from minids.generate.settings import Sampling
from minids.nn.transformer import Transformer
from minids.reason import routing

LEAVE = 4  # rows that are done leave when they are one in so many: leaving copies the cache


class Rollout(NamedTuple):
    """N completions, on the CPU's or the device's memory, padded to the longest."""

    prompts: list[list[int]]  # N of them
    tokens: Tensor  # [N s] int64, the end token included, pad behind it
    mask: Tensor  # [N s] 1.0 for the completion's tokens
    logp: Tensor  # [N s] of the sampler, under the rule it drew by; 0 behind the end
    stops: list[str]  # eos · length · context
    kept: Tensor | None  # [N s V] bool, what top-k and top-p left; None if they left all
    asked: Tensor | None = None  # [N t L k] experts of every token read; None if not kept

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion.  → [N]"""
        return self.mask.sum(-1)


@torch.inference_mode()
def roll_out(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    group: int,
    rule: Sampling,
    longest: int,
    generator: torch.Generator,
    *,
    keep_routing: bool = False,
) -> Rollout:
    """`group` completions of each prompt, of up to `longest` tokens.

    `keep_routing` writes down which experts were asked.
    Equal weights, prompts, rule and generator give equal tokens. Raises UserError for a prompt that
    fills the context, with code 3 for logits that are not finite.
    """
    device, context = model.embed_tokens.weight.device, model.cfg.max_position_embeddings
    each = [i for i in range(len(prompts)) for _ in range(group)]
    room = torch.tensor([min(longest, room_after(prompts[i], context)) for i in each])
    tokens, mask = pad_left(prompts, tokenizer.pad, device)
    dtype, telling = decoding_in(model), keep_routing and any(model.moe_layers())
    if telling:
        reader = routing.TellingContext(model, mask, dtype=dtype)
    else:
        reader = Context(model, mask, use_cache=True, dtype=dtype)
    logits = reader.read(tokens)  # [B V]
    asked = None
    if isinstance(reader, routing.TellingContext):
        asked = routing.Asked(reader, prompts, each, longest)
    copies = torch.tensor(each, device=device)
    reader.select(copies)
    logits = logits[copies]  # [N V]
    n, cuts = len(each), rule.top_p < 1 or rule.top_k > 0
    out = torch.full((n, longest), tokenizer.pad)  # [N s]
    weight, ended = torch.zeros(n, longest), torch.zeros(n, dtype=torch.int64)  # [N s], [N]
    kept = torch.zeros(n, longest, model.cfg.vocab_size, dtype=torch.bool) if cuts else None
    by_eos = torch.zeros(n, dtype=torch.bool)  # [N]
    rows = torch.arange(n)  # who stands in which row of the batch
    for at in range(longest):
        ids, logp, left = choose(logits, rule, generator)
        if not torch.isfinite(logp).all():
            raise not_finite(model)
        out[rows, at], weight[rows, at] = ids.cpu(), logp.float().cpu()
        if kept is not None and left is not None:
            kept[rows, at] = left.cpu()
        over = out[rows, at] == tokenizer.eos
        by_eos[rows] |= over & (ended[rows] == 0)
        over |= at + 1 >= room[rows]
        ended[rows] = torch.where(over & (ended[rows] == 0), at + 1, ended[rows])
        runs = ended[rows] == 0
        if not runs.any():
            break
        if int((~runs).sum()) * LEAVE >= len(rows):
            keep = runs.nonzero().flatten()
            rows = rows[keep]
            reader.select(keep.to(device))
            ids = ids[keep.to(device)]
        logits = reader.read(rearrange(ids, "b -> b 1"))
        if asked is not None and isinstance(reader, routing.TellingContext):
            asked.note(rows, at, reader)
    s = int(ended.max())
    real = torch.arange(s) < ended[:, None]  # [N s]
    ends = zip(by_eos.tolist(), room.tolist(), strict=True)
    stops = ["eos" if e else "length" if r == longest else "context" for e, r in ends]
    out = out[:, :s].masked_fill(~real, tokenizer.pad)
    return Rollout(
        [prompts[i] for i in each],
        out,
        real.float(),
        weight[:, :s].masked_fill(~real, 0.0),
        stops,
        None if kept is None else kept[:, :s],
        None if asked is None else asked.expert,
    )


def choose(
    logits: Tensor, rule: Sampling, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One token per row, its log-probability under the rule, and what the rule left.

    logits [b V] → [b], [b], [b V] or None
    """
    if rule.greedy:
        raise UserError("rl.temperature", "0 explores nothing", "0.01 … 2.0")
    cut = filter_logits(logits, rule)  # [b V]
    logp = torch.log_softmax(cut, dim=-1)  # [b V]
    uniform = torch.rand(
        (len(logits), 1), generator=generator, dtype=torch.float64, device=logits.device
    )
    ids = draw(logp.exp(), uniform)  # [b]
    left = cut > -torch.inf if rule.top_p < 1 or rule.top_k > 0 else None
    return ids, logp.gather(-1, ids[:, None])[:, 0], left


class Scored(NamedTuple):
    """What the learner thinks of a rollout's tokens."""

    logp: Tensor  # [N s] with gradient, 0 behind the end
    entropy: Tensor  # [N s] of the distribution it was drawn from, without gradient


def score(
    model: Transformer, roll: Rollout, temperature: float, rows: Tensor | None = None
) -> Scored:
    """Log-probabilities of the completions by the model as it trains, at the sampler's temperature.

    One plain causal pass: rows are padded behind the end, where nobody looks. Only states before a
    completion's token meet the output head. With `kept` the ratio is that of the cut distribution,
    else it would compare two different games (V3.2 §3, keep sampling mask);
    with `asked` the experts are the sampler's (keep routing).
    """
    rows = torch.arange(len(roll.prompts)) if rows is None else rows
    device = model.embed_tokens.weight.device
    tokens, at = joined(roll, rows)  # [b t], [b s]
    mask = roll.mask[rows].bool()  # [b s]
    replay = None
    if roll.asked is not None:
        replay = routing.of_rows(roll.asked, rows, tokens.shape[1], device)  # [L b·t k]
    state = model.hidden(tokens.to(device), replay=replay)  # [b t d]
    b, s = torch.nonzero(mask, as_tuple=True)  # [T], [T]
    picked = state[b.to(device), at[b, s].to(device)]  # [T d]
    logits = model.logits(picked) / temperature  # [T V]
    if roll.kept is not None:
        logits = logits.masked_fill(~roll.kept[rows[b], s].to(device), -torch.inf)
    logp = torch.log_softmax(logits, dim=-1)  # [T V]
    chosen = roll.tokens[rows][mask].to(device)  # [T]
    out = logp.gather(-1, chosen[:, None])[:, 0]  # [T]
    with torch.no_grad():
        entropy = -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)  # [T]
    where = mask.to(device)
    empty = torch.zeros(where.shape, dtype=logp.dtype, device=device)
    return Scored(empty.masked_scatter(where, out), empty.masked_scatter(where, entropy))


def joined(roll: Rollout, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts and completions in one tensor [b t], and where each token is foretold [b s]."""
    wanted = rows.tolist()
    starts = torch.tensor([len(roll.prompts[i]) for i in wanted])  # [b]
    ends = starts + roll.lengths[rows].long()  # [b]
    t = int(ends.max())
    tokens = torch.zeros(len(wanted), t, dtype=torch.int64)  # [b t]
    for row, i in enumerate(wanted):
        tokens[row, : starts[row]] = torch.tensor(roll.prompts[i])
        n = int(ends[row] - starts[row])
        tokens[row, starts[row] : ends[row]] = roll.tokens[i, :n]
    s = roll.tokens.shape[1]
    at = (starts[:, None] - 1 + torch.arange(s)).clamp(max=t - 1)  # [b s]
    return tokens, at


def by_length(roll: Rollout, most_tokens: int) -> list[Tensor]:
    """Rows in micro-batches of similar length, each of at most `most_tokens` with padding."""
    length = roll.lengths.long() + torch.tensor([len(p) for p in roll.prompts])  # [N]
    parts, start = [], 0
    order = length.argsort(stable=True)  # [N]
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * int(length[order[end]]) > most_tokens:
            parts.append(order[start:end])
            start = end
    return parts


class Mismatch(NamedTuple):
    """How far the sampler and the learner are apart on the same weights."""

    largest: float  # |log π_sampler − log π_learner|, nats
    mean: float
    kl: float  # k3 of the learner against the sampler, nats per token


def mismatch(roll: Rollout, logp: Tensor) -> Mismatch:
    """Over all tokens of a rollout.  logp [N s] of the learner before any update"""
    real = roll.mask.bool()
    away = (logp.detach().cpu() - roll.logp)[real].double()  # [T]
    if not len(away):
        return Mismatch(0.0, 0.0, 0.0)
    k3 = away.exp() - away - 1
    return Mismatch(away.abs().max().item(), away.abs().mean().item(), k3.mean().item())
