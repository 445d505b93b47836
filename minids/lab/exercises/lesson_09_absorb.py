"""Lesson 09: the absorbed form.  Axes: as in `minids.nn.mla`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import einsum, rearrange
from torch.utils.flop_counter import FlopCounterMode

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.exercises.lesson_08_expand import mla_cases, tensors
from minids.nn.attention import causal_softmax
from minids.nn.mla import attend_absorbed, attend_expanded


def absorbed_cases(generator: torch.Generator) -> Iterator[Case]:
    """As for the expanded form; and the products of one query over a long past."""
    for case in mla_cases(generator):
        yield Case((*case.args, "out"), case.label)
    for size in ((1, 1, 64, 2, 8, 4, 8, 12), (2, 1, 90, 3, 8, 4, 6, 10)):
        args = (*tensors(generator, size, torch.float32), 0.3, None)
        yield Case((*args, "products"), f"products: a query, {size[2]} keys")


def call_absorbed(answer: Any, case: Case) -> Any:
    """The result; or whether it was multiplied for the query or for every token kept."""
    *args, what = case.args
    if what == "out":
        return answer(*args)
    counter = FlopCounterMode(display=False)
    with counter:
        answer(*args)
    q_nope, q_rope, c = args[:3]
    h = q_nope.shape[2]
    w, (b, t, width) = args[4].weight.shape[0] // h, c.shape
    least = 2 * b * h * (w * width + t * (2 * width + q_rope.shape[-1]))
    many = counter.get_total_flops() > 1.5 * least
    return {"kv_b multiplies": "every token kept" if many else "the query and the result"}


def matrices(q_nope, kv_b, c):
    h, n = q_nope.shape[2:]
    weight = rearrange(kv_b.weight.to(c.dtype), "(h w) c -> h w c", h=h)
    return weight[:, :n], weight[:, n:]


def absorbed(q_nope, q_rope, c, k_rope, w_k, w_v, scale, mask, *, turn=1.0):
    q_c = einsum(q_nope, w_k, "b s h n, h n c -> b s h c")
    score = einsum(q_c, c, "b s h c, b t c -> b h s t")
    score = score + turn * einsum(q_rope, k_rope, "b s h r, b t r -> b h s t")
    attn = causal_softmax(score * scale, mask)
    out_c = einsum(attn, c, "b h s t, b t c -> b s h c")
    return einsum(out_c, w_v, "b s h c, h v c -> b s h v")


def scale_of_the_latent(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    wide = (c.shape[-1] + k_rope.shape[-1]) ** -0.5
    return absorbed(q_nope, q_rope, c, k_rope, *matrices(q_nope, kv_b, c), wide, mask)


def expanded_after_all(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    return attend_expanded(q_nope, q_rope, c, k_rope, kv_b, scale, mask)


def latent_returned(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    w_k, _ = matrices(q_nope, kv_b, c)
    eye = torch.eye(c.shape[-1], dtype=c.dtype).expand(len(w_k), -1, -1)
    return absorbed(q_nope, q_rope, c, k_rope, w_k, eye, scale, mask)


def position_left_out(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    args = q_nope, q_rope, c, k_rope, *matrices(q_nope, kv_b, c), scale, mask
    return absorbed(*args, turn=0.0)


def matrices_swapped(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    h, n = q_nope.shape[2:]
    weight = rearrange(kv_b.weight.to(c.dtype), "(h w) c -> h w c", h=h)
    return absorbed(q_nope, q_rope, c, k_rope, weight[:, -n:], weight[:, :-n], scale, mask)


def all_keys_first(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    h, n = q_nope.shape[2:]
    weight = kv_b.weight.to(c.dtype)
    w_k, w_v = weight[: h * n], weight[h * n :]
    w_k, w_v = (rearrange(w, "(h w) c -> h w c", h=h) for w in (w_k, w_v))
    return absorbed(q_nope, q_rope, c, k_rope, w_k, w_v, scale, mask)


def position_after_the_scale(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    args = q_nope, q_rope, c, k_rope, *matrices(q_nope, kv_b, c), scale, mask
    return absorbed(*args, turn=1 / scale)


def future_seen(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):
    if mask is None:
        mask = torch.ones(1, 1, q_nope.shape[1], c.shape[1], dtype=torch.bool)
    return attend_absorbed(q_nope, q_rope, c, k_rope, kv_b, scale, mask)


def mask_forgotten(q_nope, q_rope, c, k_rope, kv_b, scale, mask=None):  # noqa: ARG001
    return attend_absorbed(q_nope, q_rope, c, k_rope, kv_b, scale)


ABSORBED = Exercise(
    "09.1",
    "attend_absorbed",
    "attention on the latents themselves",
    attend_absorbed,
    absorbed_cases,
    (
        Mistake(
            "scale of the latent's width",
            "Query and key now have c + r channels, but their product is the same number as "
            "before. So the scale stays that of n + r channels; it is given.",
            scale_of_the_latent,
        ),
        Mistake(
            "expanded after all",
            "Every number is right, but kv_b was multiplied with every token kept. Then nothing "
            "is saved: that is the expanded form.",
            expanded_after_all,
        ),
        Mistake(
            "value matrix left out",
            "The weighted sum of latents came back. The value matrix has to follow it.",
            latent_returned,
        ),
        Mistake(
            "position left out",
            "The scores of the shared key are missing: the text becomes a bag of words.",
            position_left_out,
        ),
        Mistake(
            "key and value rows swapped",
            "Per head kv_b holds n rows for the key, then v rows for the value. Here the last n "
            "rows were taken for the key.",
            matrices_swapped,
        ),
        Mistake(
            "all keys before all values",
            "kv_b is ordered by head: key and value rows of the first head, then of the second.",
            all_keys_first,
        ),
        Mistake(
            "position after the scale",
            "The scores of the shared key were added after the others had been scaled. Both "
            "parts belong to one product and share one scale.",
            position_after_the_scale,
        ),
        Mistake(
            "future seen",
            "Without a mask plain causality holds: a query sees no token that comes after it.",
            future_seen,
        ),
        Mistake(
            "mask forgotten",
            "The mask is not handed on, so padding is read as text.",
            mask_forgotten,
        ),
    ),
    (
        "q · (W c) is a number. In which other order can it be computed?",
        "W of each head goes into its query, once. The values' matrix waits until the weighted "
        "sum of latents is done. Both are rows of kv_b.weight, head by head.",
        "Bring the weight to [h n+v c] and cut after n. Take the query into the latent's space, "
        "score it against the latents, add the scores of the shared key, scale, causal softmax "
        "with the mask, sum the latents, apply the values' matrix.",
    ),
    call=call_absorbed,
)
