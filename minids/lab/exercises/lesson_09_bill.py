"""Lesson 09: the bills of both forms, and which is smaller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minids import config
from minids.config import ModelConfig
from minids.count.attention import core, crossing
from minids.count.memory import size_of
from minids.count.roofline import Work
from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.mla import absorbing_pays

if TYPE_CHECKING:
    import torch

NARROW = ModelConfig(
    num_attention_heads=3, kv_lora_rank=18, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=13
)


def models() -> list[ModelConfig]:
    """Small and large MLA."""
    return [NARROW, *(config.load(n).model for n in ("tiny", "deepseek-v2-lite", "deepseek-v3"))]


def number(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number, both ends included."""
    import torch

    return int(torch.randint(low, high + 1, (), generator=generator))


def pays_cases(generator: torch.Generator) -> Iterator[Case]:
    """No past, one query, a whole prompt; and both sides of every crossing."""
    for cfg in models():
        short, t = number(generator, 2, 40), number(generator, 2_000, 90_000)
        for s, seen in ((1, 1), (1, 2), (1, t), (t, t), (short, short), (t // 2, t)):
            yield Case((s, seen, cfg), f"{s:,} queries over {seen:,}")
        for seen in (t, 3 * short + 7):
            at = int(crossing(cfg, seen))
            near = range(max(1, at - 1), min(seen, at + 2) + 1)
            for s in sorted({2, max(2, at // 4), max(2, at // 2), *near}):
                yield Case((s, seen, cfg), f"{s:,} queries over {seen:,}")


def widths(cfg):
    return cfg.kv_lora_rank, cfg.qk_nope_head_dim + cfg.v_head_dim


def whenever_cached(s, t, cfg):  # noqa: ARG001
    return s < t


def one_query_only(s, t, cfg):  # noqa: ARG001
    return s == 1 and t > 1


def query_forgotten(s, t, cfg):
    c, w = widths(cfg)
    return s < t and t * c * w > s * t * (2 * c - w)


def latent_once(s, t, cfg):
    c, w = widths(cfg)
    return s < t and (t - s) * c * w > s * t * (c - w)


def pairs_of_expanded_forgotten(s, t, cfg):
    c, w = widths(cfg)
    return s < t and (t - s) * c * w > s * t * 2 * c


def values_forgotten(s, t, cfg):
    c, n = cfg.kv_lora_rank, cfg.qk_nope_head_dim
    return s < t and (t - s) * c * n > s * t * (2 * c - n)


PAYS = Exercise(
    "09.3",
    "absorbing_pays",
    "when absorbing multiplies less",
    absorbing_pays,
    pays_cases,
    (
        Mistake(
            "whenever something is kept",
            "A long prompt behind one kept token is called cheap: but every pair costs more "
            "absorbed, and with many queries the pairs decide.",
            whenever_cached,
        ),
        Mistake(
            "for a single query only",
            "A draft of a few tokens, or a batch of questions to one past, is cheaper absorbed "
            "as well. Where it ends is a matter of counting.",
            one_query_only,
        ),
        Mistake(
            "cost of absorbing forgotten",
            "Both matrices are applied to each query as well: absorbing is not free.",
            query_forgotten,
        ),
        Mistake(
            "latent counted once per pair",
            "A pair meets the latent twice: in the score and in the sum.",
            latent_once,
        ),
        Mistake(
            "pairs of the expanded form forgotten",
            "Expanded, a pair costs n + r + v. Only the difference of the two counts.",
            pairs_of_expanded_forgotten,
        ),
        Mistake(
            "values forgotten",
            "kv_b makes keys and values, and a pair costs both.",
            values_forgotten,
        ),
    ),
    (
        "Write down both bills for s queries over t tokens, per head. What stands in both?",
        "Expanding: a product of the matrices with each of t tokens. Absorbing: with each of s "
        "queries, and more for each of s·t pairs.",
        "Per head: the matrices have c·(n + v) numbers. Expanded needs them t − s times more; "
        "absorbed needs 2c − n − v more per pair; r is in both. Compare, and without a past "
        "(s = t) say no.",
    ),
)


def core_cases(generator: torch.Generator) -> Iterator[Case]:
    """Decoding, prompts, a few queries; several sequences; all dtypes."""
    for i, cfg in enumerate(models()):
        t = number(generator, 50, 5_000)
        for s in (1, t, number(generator, 2, 40)):
            for form in ("expanded", "absorbed"):
                sequences, dtype = (1, 3, 2)[i % 3], ("bfloat16", "float32", "fp8")[(i + s) % 3]
                label = f"{form}, {s:,} queries over {t:,}"
                yield Case((cfg, s, t, form), label, {"sequences": sequences, "dtype": dtype})


def bill(cfg, s, t, form, sequences, dtype, **changes):
    """The right bill, with some of its parts changed."""
    h, (c, w), r = cfg.num_attention_heads, widths(cfg), cfg.qk_rope_head_dim
    given = {"pairs": s * t - s * (s - 1) // 2, "matrices": h * w * c, "cached": t * (c + r)}
    given |= {"applied": s if form == "absorbed" else t, "latent": 2 * c + r, "read": 1}
    given |= {"made": 0 if form == "absorbed" else 2 * t * h * w} | changes
    per_pair = given["latent"] if form == "absorbed" else w + r
    done = 2 * given["applied"] * given["matrices"] + 2 * h * given["pairs"] * per_pair
    ends = s * h * (w + r)
    moved = given["read"] * given["matrices"]
    moved += sequences * (given["cached"] + ends + given["made"])
    return Work(sequences * done, size_of(dtype) * moved)


def never_applied(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    return bill(cfg, s, t, form, sequences, dtype, applied=0)


def new_tokens_expanded(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    return bill(cfg, s, t, form, sequences, dtype, applied=s)


def pairs_of_expanded(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    wide = widths(cfg)[1] + cfg.qk_rope_head_dim
    return bill(cfg, s, t, form, sequences, dtype, latent=wide)


def latent_scored_only(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    narrow = cfg.kv_lora_rank + cfg.qk_rope_head_dim
    return bill(cfg, s, t, form, sequences, dtype, latent=narrow)


def cache_per_head(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    h = cfg.num_attention_heads
    kept = t * h * (cfg.kv_lora_rank + cfg.qk_rope_head_dim)
    return bill(cfg, s, t, form, sequences, dtype, cached=kept)


def future_counted(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    return bill(cfg, s, t, form, sequences, dtype, pairs=s * t)


def expansion_costs_no_memory(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    return bill(cfg, s, t, form, sequences, dtype, made=0)


def weights_per_sequence(cfg, s, t, form="expanded", *, sequences=1, dtype="bfloat16"):
    return bill(cfg, s, t, form, sequences, dtype, read=sequences)


CORE = Exercise(
    "09.2",
    "core",
    "FLOPs and bytes of both forms",
    core,
    core_cases,
    (
        Mistake(
            "matrices never applied",
            "Keys and values do not come for free: kv_b is multiplied in both forms, with all "
            "tokens or with the queries.",
            never_applied,
        ),
        Mistake(
            "only new tokens expanded",
            "The cache holds latents. Expanded, all t of them become keys and values again, at "
            "every step.",
            new_tokens_expanded,
        ),
        Mistake(
            "pairs as cheap as expanded",
            "Absorbed, a pair is a product of c + r channels and a sum over c of them, for every "
            "head. That is the price.",
            pairs_of_expanded,
        ),
        Mistake(
            "latent scored but not summed",
            "The latent is met twice: as a key in the score and as a value in the sum.",
            latent_scored_only,
        ),
        Mistake(
            "cache read per head",
            "All heads read the same latent: it is fetched once for all of them.",
            cache_per_head,
        ),
        Mistake(
            "future counted",
            "A query does not see what comes after it: of s·t pairs about half of s² are missing.",
            future_counted,
        ),
        Mistake(
            "expanded at no bytes",
            "Keys and values of all heads are written to memory and read again.",
            expansion_costs_no_memory,
        ),
        Mistake(
            "weights read per sequence",
            "kv_b is the same for all sequences of a step and is read once.",
            weights_per_sequence,
        ),
    ),
    (
        "Three things are multiplied: kv_b, the scores, the sums. With what, how often?",
        "kv_b meets all t tokens (expanded) or the s queries (absorbed). A visible pair costs "
        "each head n + r + v, or 2c + r.",
        "FLOPs: 2 · (t or s) · h·(n+v)·c + 2 · h · pairs · width, per sequence. Numbers moved: "
        "kv_b once; per sequence the cache, queries and outputs, and, expanded, keys and values "
        "twice (r not counted). Times the size of a number.",
    ),
    rtol=1e-9,
    atol=0.0,
)
