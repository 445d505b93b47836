"""Lesson 08: what an MLA layer remembers, and how it runs with a cache.

Axes: b batch, s queries, t keys, d hidden_size, h heads, n nope, r rope, v value channels,
c kv_lora_rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from minids.config import ModelConfig
from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import attend
from minids.nn.cache import LayerCache
from minids.nn.mla import MLA, attend_expanded
from minids.nn.rope import Rope, rope_tables

SIZES = (  # h, n, r, v, c
    (2, 3, 2, 2, 4),
    (3, 4, 2, 5, 7),
    (2, 5, 4, 3, 6),
)


def layer_of(h: int, n: int, r: int, v: int, c: int, generator: torch.Generator, **more) -> MLA:
    """A small layer whose every weight is random, norms too."""
    cfg = ModelConfig(
        hidden_size=6, num_attention_heads=h, num_key_value_heads=h, qk_nope_head_dim=n,
        qk_rope_head_dim=r, v_head_dim=v, kv_lora_rank=c, **more,
    )  # fmt: skip
    layer = MLA(cfg).double()
    for name, weight in layer.named_parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.data = 1.0 + 0.4 * noise if "norm" in name else 0.6 * noise
        weight.requires_grad_(False)
    return layer


def rope_of(layer: MLA, start: int, end: int) -> Rope:
    """Angles of these positions, float64."""
    return rope_tables(layer.cfg, torch.arange(start, end), torch.float64)


def latents_cases(generator: torch.Generator) -> Iterator[Case]:
    """One token, several; both layouts; a sequence that begins later."""
    for i, size in enumerate(SIZES):
        layer = layer_of(*size, generator, rope_interleave=i != 2)
        for b, s, start in ((1, 1, 1), (1, 3, 0), (2, 4, 5)):
            x = torch.randn(b, s, 6, generator=generator, dtype=torch.float64)
            yield Case((layer, x, rope_of(layer, start, start + s)), f"{s} tokens from {start}")


def call_latents(answer: Any, case: Case) -> Any:
    """Both outputs by name."""
    c, k_rope = answer(*case.args)
    return {"c": c, "k_rope": k_rope}


def parts(layer, x):
    cfg = layer.cfg
    return layer.kv_a_proj_with_mqa(x).split([cfg.kv_lora_rank, cfg.qk_rope_head_dim], -1)


def turned(layer, k_rope, rope):
    k_rope = layer.rotate(rearrange(k_rope, "b s r -> b s 1 r"), rope)
    return rearrange(k_rope, "b s 1 r -> b s r")


def before_the_norm(self, x, rope):
    c, k_rope = parts(self, x)
    return c, turned(self, k_rope, rope)


def norm_over_both(self, x, rope):
    a = self.kv_a_proj_with_mqa(x)
    a = a * torch.rsqrt(a.square().mean(-1, keepdim=True) + self.kv_a_layernorm.eps)
    c, k_rope = a.split([self.cfg.kv_lora_rank, self.cfg.qk_rope_head_dim], -1)
    return c * self.kv_a_layernorm.weight, turned(self, k_rope, rope)


def not_turned(self, x, rope):  # noqa: ARG001
    c, k_rope = parts(self, x)
    return self.kv_a_layernorm(c), k_rope


def key_first(self, x, rope):
    cfg = self.cfg
    k_rope, c = self.kv_a_proj_with_mqa(x).split([cfg.qk_rope_head_dim, cfg.kv_lora_rank], -1)
    return self.kv_a_layernorm(c), turned(self, k_rope, rope)


def key_per_head(self, x, rope):
    c, k_rope = parts(self, x)
    k_rope = repeat(k_rope, "b s r -> b s h r", h=self.cfg.num_attention_heads)
    return self.kv_a_layernorm(c), self.rotate(k_rope, rope)


def latent_turned(self, x, rope):
    c, k_rope = parts(self, x)
    r = k_rope.shape[-1]
    c = self.kv_a_layernorm(c)
    c = torch.cat((c[..., :-r], turned(self, c[..., -r:], rope)), dim=-1)
    return c, turned(self, k_rope, rope)


LATENTS = Exercise(
    "08.1",
    "latents",
    "what is remembered of a token",
    MLA.latents,
    latents_cases,
    (
        Mistake(
            "latent before the norm",
            "The latent comes back as the matrix made it. Kept like this it would have to be "
            "normed again, for every token, each time it is read; kv_b_proj expects it normed.",
            before_the_norm,
        ),
        Mistake(
            "norm over both parts",
            "The norm belongs to the latent alone. Over latent and key together each one's size "
            "changes the other.",
            norm_over_both,
        ),
        Mistake(
            "key not turned",
            "The shared key carries the position, and a position that is not in it when it is "
            "kept would have to be put in at every later step.",
            not_turned,
        ),
        Mistake(
            "key cut off first",
            "The latent is the first part of the matrix's output, the shared key the rest. A "
            "released model would be read with its channels moved.",
            key_first,
        ),
        Mistake(
            "one RoPE key per head",
            "All heads share one key for positions. A key per head would cost h times the memory.",
            key_per_head,
        ),
        Mistake(
            "latent turned as well",
            "The latent carries no position: a rotation inside it would stand between the two "
            "matrices that are to be merged at decoding.",
            latent_turned,
        ),
    ),
    (
        "One matrix makes both parts at once. Which widths does the config give them?",
        "One part gets a norm, the other a rotation; rotate wants an axis for the heads.",
        "Split the output of kv_a_proj_with_mqa, latent first. Give the key a head axis of "
        "length 1, turn it, take the axis away again. The latent goes through kv_a_layernorm.",
    ),
    call=call_latents,
    atol=1e-9,
    rtol=1e-7,
)


def forward_cases(generator: torch.Generator) -> Iterator[Case]:
    """All at once without a cache; in pieces with one; the last token at the end."""
    for size, pieces in (
        (SIZES[0], [1]),
        (SIZES[1], [4]),
        (SIZES[0], [2, 1]),
        (SIZES[1], [3, 1, 1, 2]),
        (SIZES[2], [1, 4]),
    ):
        layer, s = layer_of(*size, generator), sum(pieces)
        x = torch.randn(2, s, 6, generator=generator, dtype=torch.float64)
        with_cache = len(pieces) > 1
        yield Case((layer, x, pieces), f"{pieces} tokens, {'a' if with_cache else 'no'} cache")


def call_forward(answer: Any, case: Case) -> Any:
    """Outputs of all pieces, and what the cache holds afterwards."""
    layer, x, pieces = case.args
    cache, start, out = LayerCache(), 0, []
    for s in pieces:
        rope = rope_of(layer, start, start + s)
        piece = x[:, start : start + s]
        out.append(answer(layer, piece, rope, None, cache if len(pieces) > 1 else None))
        start += s
    kept = {f"kept, tensor {i + 1}": y.clone() for i, y in enumerate(cache.kept())}
    return {"attention": torch.cat(out, dim=1)} | kept


def out_of(layer: MLA, out: Tensor) -> Tensor:
    return layer.o_proj(rearrange(out, "b s h v -> b s (h v)"))


def turned_twice(self, x, rope, mask=None, cache=None):
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = self.latents(x, rope)
    if cache is not None:
        c, k_rope = cache.append(c, turned(self, k_rope, rope))
    return out_of(
        self, attend_expanded(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
    )


def kept_before_the_norm(self, x, rope, mask=None, cache=None):
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = before_the_norm(self, x, rope)
    if cache is not None:
        c, k_rope = cache.append(c, k_rope)
    c = self.kv_a_layernorm(c)
    return out_of(
        self, attend_expanded(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
    )


def keys_and_values_kept(self, x, rope, mask=None, cache=None):
    h, n = self.cfg.num_attention_heads, self.cfg.qk_nope_head_dim
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = self.latents(x, rope)
    kv = rearrange(self.kv_b_proj(c), "b t (h w) -> b t h w", h=h)
    k = torch.cat((kv[..., :n], repeat(k_rope, "b t r -> b t h r", h=h)), dim=-1)
    v = kv[..., n:]
    if cache is not None:
        k, v = cache.append(k, v)
    return out_of(self, attend(torch.cat((q_nope, q_rope), -1), k, v, self.scale, mask))


def sees_the_new_only(self, x, rope, mask=None, cache=None):
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = self.latents(x, rope)
    if cache is not None:
        cache.append(c, k_rope)
    return out_of(
        self, attend_expanded(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
    )


def heads_merged_across(self, x, rope, mask=None, cache=None):
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = self.latents(x, rope)
    if cache is not None:
        c, k_rope = cache.append(c, k_rope)
    out = attend_expanded(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
    return self.o_proj(rearrange(out, "b s h v -> b s (v h)"))


def nothing_kept(self, x, rope, mask=None, cache=None):
    q_nope, q_rope = self.queries(x, rope)
    c, k_rope = self.latents(x, rope)
    if cache is not None and cache.length:
        old_c, old_k = cache.kept()
        c, k_rope = torch.cat((old_c, c), 1), torch.cat((old_k, k_rope), 1)
    elif cache is not None:
        c, k_rope = cache.append(c, k_rope)
    return out_of(
        self, attend_expanded(q_nope, q_rope, c, k_rope, self.kv_b_proj, self.scale, mask)
    )


FORWARD = Exercise(
    "08.3",
    "forward",
    "an MLA layer with a cache",
    MLA.forward,
    forward_cases,
    (
        Mistake(
            "key turned twice",
            "The key is turned when it is made. Turned again on its way into the cache, it stands "
            "at twice its position, and a text read in pieces differs from one read at once.",
            turned_twice,
        ),
        Mistake(
            "cache before the norm",
            "The output is right, but the latent is kept as it was before the norm: every step "
            "then norms the whole past once more, and no other code can read this cache.",
            kept_before_the_norm,
        ),
        Mistake(
            "keys and values kept",
            "The output is right, but what is kept are the rebuilt keys and values of every "
            "head. That is the cache of plain MHA, which the latent was made to replace.",
            keys_and_values_kept,
        ),
        Mistake(
            "only the new attended to",
            "The cache is filled but not read: attention gets the new latents alone.",
            sees_the_new_only,
        ),
        Mistake(
            "new tokens not kept",
            "After the first piece nothing is appended: every later token sees the first piece "
            "and itself, and is forgotten.",
            nothing_kept,
        ),
        Mistake(
            "heads merged across",
            "o_proj expects one head after the other; here the channels of all heads alternate.",
            heads_merged_across,
        ),
    ),
    (
        "Four steps: queries, latents, attention, output. Where does the cache come in?",
        "append hands back everything kept so far. Attention reads that, not the new latents.",
        "Get both queries and both latents. If there is a cache, replace the latents by what "
        "append returns for them. Attend, put the heads side by side, apply o_proj.",
    ),
    call=call_forward,
    atol=1e-9,
    rtol=1e-7,
)
