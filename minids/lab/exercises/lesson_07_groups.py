"""Lesson 07: query heads that share keys.  Axes: b s t h g n v as in `minids.nn.attention`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import attend, attend_grouped, visible


class Largest(TorchDispatchMode):
    """Bytes of the largest memory that any result lies in; a view lies in that of its origin."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.n_bytes = max([self.n_bytes, *sizes])
        return out


def grouped_cases(generator: torch.Generator) -> Iterator[Case]:
    """h = g, groups, one head for all; prompts, single queries, padding; and the memory taken."""
    sizes = [(1, 1, 1, 2, 1, 2), (1, 1, 3, 4, 2, 3), (2, 3, 3, 6, 2, 4), (1, 2, 5, 6, 3, 5)]
    sizes += [(2, 1, 4, 6, 1, 3), (1, 4, 4, 3, 3, 2), (2, 1, 7, 6, 3, 4)]
    for i, (b, s, t, h, g, n) in enumerate(sizes):
        dtype = torch.float64 if i % 2 else torch.float32
        args = tensors(generator, b, s, t, h, g, n, dtype)
        label = f"{s} queries, {t} keys, {h} heads over {g}"
        yield Case((*args, 0.3, None, "out"), label)
        if i in (2, 4):
            real = torch.arange(t) >= torch.tensor([[1], [0]])  # [b t]
            yield Case((*args, 0.3, visible(s, t, real, torch.device("cpu")), "out"), "padding")
    for b, h, g, n in ((1, 8, 1, 16), (2, 8, 2, 16), (1, 16, 4, 4)):
        args = tensors(generator, b, 1, 50, h, g, n, torch.float32)
        yield Case((*args, 0.3, None, "memory"), f"memory: a query, {h} heads over {g}")


def tensors(generator: torch.Generator, b, s, t, h, g, n, dtype) -> list[Tensor]:
    """q [b s h n], k and v [b t g n]."""
    shapes = (b, s, h, n), (b, t, g, n), (b, t, g, n)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def call_grouped(answer: Any, case: Case) -> Any:
    """The result; or, for a single query, whether keys were copied for every query head."""
    *args, what = case.args
    if what == "out":
        return answer(*args)
    with Largest() as largest:
        answer(*args)
    k = args[1]
    copied = largest.n_bytes > 2 * k.numel() * k.element_size()
    return {"keys and values": "copied for every head" if copied else "read where they lie"}


def folded(q, k, v, scale, mask, order="(g share)", back="(g share)"):
    """A group's heads as queries of one head, for s = 1."""
    g = k.shape[2]
    mask = visible(1, k.shape[1], None, q.device) if mask is None else mask
    q = rearrange(q, f"b 1 {order} n -> b share g n", g=g)
    return rearrange(attend(q, k, v, scale, mask), f"b share g v -> b 1 {back} v")


def repeated(q, k, v, scale, mask):
    """Neighbouring query heads read the same copy."""
    share = q.shape[2] // k.shape[2]
    k, v = (repeat(x, "b t g n -> b t (g share) n", share=share) for x in (k, v))
    return attend(q, k, v, scale, mask)


def keys_copied(q, k, v, scale, mask=None):
    return repeated(q, k, v, scale, mask)


def groups_interleaved(q, k, v, scale, mask=None):
    if q.shape[1] == 1:
        return folded(q, k, v, scale, mask, "(share g)", "(share g)")
    share = q.shape[2] // k.shape[2]
    k, v = (x.repeat(1, 1, share, 1) for x in (k, v))
    return attend(q, k, v, scale, mask)


def first_group_only(q, k, v, scale, mask=None):
    return attend_grouped(q, k[:, :, :1], v[:, :, :1], scale, mask)


def groups_averaged(q, k, v, scale, mask=None):
    return attend_grouped(q, k.mean(2, True), v.mean(2, True), scale, mask)


def scale_of_all_heads(q, k, v, scale, mask=None):  # noqa: ARG001
    return attend_grouped(q, k, v, (q.shape[2] * q.shape[3]) ** -0.5, mask)


def heads_come_back_swapped(q, k, v, scale, mask=None):
    if q.shape[1] == 1:
        return folded(q, k, v, scale, mask, "(g share)", "(share g)")
    return repeated(q, k, v, scale, mask)


def mask_forgotten(q, k, v, scale, mask=None):  # noqa: ARG001
    return attend_grouped(q, k, v, scale, None)


GROUPED = Exercise(
    "07.2",
    "attend_grouped",
    "query heads that share key heads",
    attend_grouped,
    grouped_cases,
    (
        Mistake(
            "groups interleaved",
            "Query head i reads key head i mod g. In every released model neighbours share: with "
            "8 heads over 2, heads 0 to 3 read the first. The weights of such a model would meet "
            "the wrong keys, without an error. (repeat is not repeat_interleave.)",
            groups_interleaved,
        ),
        Mistake(
            "keys copied for every head",
            "The numbers are right, but for a single query the whole cache is copied h/g times "
            "before it is read: slower than plain MHA, which is what sharing was to avoid.",
            keys_copied,
        ),
        Mistake(
            "first group only",
            "All query heads read the first key head; the other groups are never used.",
            first_group_only,
        ),
        Mistake(
            "groups averaged",
            "The key heads are averaged into one. That is how a checkpoint may be converted, not "
            "how grouped attention reads.",
            groups_averaged,
        ),
        Mistake(
            "scale of all heads",
            "The scale comes from the width of all heads together. It is given, from one head's.",
            scale_of_all_heads,
        ),
        Mistake(
            "heads come back swapped",
            "For a single query the heads leave in another order than they came: o_proj would "
            "read head 1 where head h/g stands.",
            heads_come_back_swapped,
        ),
        Mistake(
            "mask forgotten",
            "The mask is not handed on, so padding is read as text.",
            mask_forgotten,
        ),
    ),
    (
        "Which query heads read key head 0? With 8 over 2, the released models say: 0 to 3.",
        "For one query per row, nothing lies ahead of it. What distinguishes four query heads on "
        "one key head from four queries on it?",
        "If s = 1: split the head axis of q into group and member, put the members where the "
        "queries stand, attend with a mask that lets all see everything (or the one given), and "
        "put the members back. Else repeat k and v along the heads, neighbours equal.",
    ),
    call=call_grouped,
)
