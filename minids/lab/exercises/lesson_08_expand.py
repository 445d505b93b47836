"""Lesson 08: keys and values of every head from one latent.  Axes: as in `minids.nn.mla`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange, repeat

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import attend, visible
from minids.nn.linear import Linear
from minids.nn.mla import attend_expanded

SIZES = (  # b, s, t, h, n, r, v, c
    (1, 1, 1, 1, 2, 2, 2, 3),
    (1, 1, 4, 2, 3, 2, 3, 5),
    (2, 3, 3, 2, 4, 2, 3, 5),
    (1, 2, 5, 3, 3, 4, 5, 6),
    (2, 4, 4, 3, 2, 4, 2, 7),
)


def mla_cases(generator: torch.Generator) -> Iterator[Case]:
    """Decoding, prompts, a prefix, padding; both dtypes; scales of three kinds."""
    for i, size in enumerate(SIZES):
        dtype = torch.float64 if i % 2 else torch.float32
        b, s, t, *_ = size
        scale = (0.3, 0.1352, 0.7)[i % 3]
        args = (*tensors(generator, size, dtype), scale)
        yield Case((*args, None), f"{s} queries, {t} keys")
        if b == 2:
            real = torch.arange(t) >= torch.tensor([[2], [0]])  # [b t]
            yield Case((*args, visible(s, t, real, torch.device("cpu"))), "padding on the left")


def tensors(generator: torch.Generator, size: tuple[int, ...], dtype: torch.dtype) -> tuple:
    """q_nope, q_rope, c, k_rope and kv_b."""
    b, s, t, h, n, r, v, c = size
    shapes = (b, s, h, n), (b, s, h, r), (b, t, c), (b, t, r)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    kv_b = Linear(c, h * (n + v)).to(dtype).requires_grad_(False)
    kv_b.weight.copy_(torch.randn(kv_b.weight.shape, generator=generator))
    return (*made, kv_b)


def expand(kv_b, c, h, n, pattern="b t (h w) -> b t h w"):
    kv = rearrange(kv_b(c), pattern, h=h)
    return kv[..., :n], kv[..., n:]


def joined(q_nope, q_rope, k_nope, k_rope, v, scale, mask):
    q = torch.cat((q_nope, q_rope), dim=-1)
    k = torch.cat((k_nope, repeat(k_rope, "b t r -> b t h r", h=q.shape[2])), dim=-1)
    return attend(q, k, v, scale, mask)


def values_first(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    h, n = q_nope.shape[2:]
    kv = rearrange(kv_b(c), "b t (h w) -> b t h w", h=h)
    v = kv.shape[-1] - n
    return joined(q_nope, q_rope, kv[..., v:], k_rope, kv[..., :v], scale, mask)


def all_keys_first(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    h, n = q_nope.shape[2:]
    kv = kv_b(c)
    k, v = kv[..., : h * n], kv[..., h * n :]
    k, v = (rearrange(x, "b t (h w) -> b t h w", h=h) for x in (k, v))
    return joined(q_nope, q_rope, k, k_rope, v, scale, mask)


def heads_inside(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    h, n = q_nope.shape[2:]
    k, v = expand(kv_b, c, h, n, "b t (w h) -> b t h w")
    return joined(q_nope, q_rope, k, k_rope, v, scale, mask)


def position_left_out(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    k, v = expand(kv_b, c, *q_nope.shape[2:])
    return attend(q_nope, k, v, scale, mask)


def scale_of_nope(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    k, v = expand(kv_b, c, *q_nope.shape[2:])
    return joined(q_nope, q_rope, k, k_rope, v, q_nope.shape[-1] ** -0.5, mask)


def own_scale(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    k, v = expand(kv_b, c, *q_nope.shape[2:])
    width = q_nope.shape[-1] + q_rope.shape[-1]
    return joined(q_nope, q_rope, k, k_rope, v, width**-0.5, mask)


def mask_forgotten(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    return attend_expanded(q_nope, q_rope, c, k_rope, kv_b, scale)


def position_first_head(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    k, v = expand(kv_b, c, *q_nope.shape[2:])
    q_rope = torch.cat((q_rope[:, :, :1], torch.zeros_like(q_rope[:, :, 1:])), dim=2)
    return joined(q_nope, q_rope, k, k_rope, v, scale, mask)


EXPANDED = Exercise(
    "08.2",
    "attend_expanded",
    "keys and values rebuilt from the latent",
    attend_expanded,
    mla_cases,
    (
        Mistake(
            "values first",
            "Per head kv_b holds n rows for the key, then v rows for the value. Swapped, a "
            "released model looks with its values and answers with its keys.",
            values_first,
        ),
        Mistake(
            "all keys before all values",
            "kv_b is ordered by head: key and value of the first head, then of the second. Here "
            "the keys of all heads are taken first.",
            all_keys_first,
        ),
        Mistake(
            "heads are the inner axis",
            "The rows of one head stand together in kv_b; here neighbouring rows are given to "
            "different heads.",
            heads_inside,
        ),
        Mistake(
            "position left out",
            "Scores come from the part without position alone: the text becomes a bag of words.",
            position_left_out,
        ),
        Mistake(
            "scale of the nope part",
            "The scale is computed anew from n channels. A query has n + r of them, and with "
            "YaRN a factor on top: the scale is given, use it.",
            scale_of_nope,
        ),
        Mistake(
            "scale computed anew",
            "1/√(n + r) is the scale without YaRN only; V3's is 1.87 times that. It is given.",
            own_scale,
        ),
        Mistake(
            "position for one head only",
            "The key for positions is shared by all heads, so each of them needs it.",
            position_first_head,
        ),
        Mistake(
            "mask forgotten",
            "The mask is not handed on, so padding is read as text.",
            mask_forgotten,
        ),
    ),
    (
        "kv_b turns a latent into h·(n + v) numbers. Which of them belong to the first head?",
        "A key is what comes from the latent, followed by the shared key; the query likewise.",
        "Rearrange kv_b's output to [b t h n+v] and cut after n. Join nope and rope parts of "
        "query and key, with the shared key repeated for every head. Then attend, given scale "
        "and mask.",
    ),
)
