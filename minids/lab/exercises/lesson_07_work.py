"""Lesson 07: what decoding has to do and to move, from the config alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minids import config
from minids.count import flops, memory
from minids.count.params import count
from minids.count.roofline import Work, decode
from minids.lab.exercise import Case, Exercise, Mistake

if TYPE_CHECKING:
    import torch

MODELS = ("tiny", "deepseek-v2-lite", "llama-3.1-405b", "deepseek-v3")


def decode_cases(generator: torch.Generator) -> Iterator[Case]:
    """Small and large models, short and long pasts, few and many sequences."""
    import torch

    for i, name in enumerate(MODELS):
        cfg = config.load(name).model
        for sequences in (1, 2 + int(torch.randint(60, (), generator=generator))):
            context = 1 + int(torch.randint(20_000, (), generator=generator))
            dtype = ("bfloat16", "float32", "fp8", "bfloat16")[(i + sequences) % 4]
            label = f"{name}, {sequences} × {context:,} tokens, {dtype}"
            yield Case((cfg, context, dtype, sequences), label)
    for name in ("deepseek-v3", "tiny", "deepseek-v4-flash"):
        yield Case((config.load(name).model, 0, "bfloat16", 3), f"{name}, no past yet")


def with_parts(cfg, context, dtype, sequences, *, weights=1, caches=None, done=None, read=None):
    size = memory.size_of(dtype)
    read = count(cfg).active * size if read is None else read
    if caches is None:
        caches = memory.kv_cache(cfg, context, sequences, dtype)
    done = sequences * flops.decode(cfg, context) if done is None else done
    return Work(done, weights * read + caches)


def weights_for_each(cfg, context=0, dtype="bfloat16", sequences=1):
    return with_parts(cfg, context, dtype, sequences, weights=sequences)


def one_cache_for_all(cfg, context=0, dtype="bfloat16", sequences=1):
    caches = memory.kv_cache(cfg, context, 1, dtype)
    return with_parts(cfg, context, dtype, sequences, caches=caches)


def all_weights(cfg, context=0, dtype="bfloat16", sequences=1):
    read = count(cfg).main * memory.size_of(dtype)
    return with_parts(cfg, context, dtype, sequences, read=read)


def cache_of_a_layer(cfg, context=0, dtype="bfloat16", sequences=1):
    caches = memory.kv_cache(cfg, context, sequences, dtype) / cfg.num_hidden_layers
    return with_parts(cfg, context, dtype, sequences, caches=caches)


def newest_token_only(cfg, context=0, dtype="bfloat16", sequences=1):
    caches = memory.kv_cache(cfg, 1, sequences, dtype)
    return with_parts(cfg, context, dtype, sequences, caches=caches)


def flops_of_one(cfg, context=0, dtype="bfloat16", sequences=1):
    return with_parts(cfg, context, dtype, sequences, done=flops.decode(cfg, context))


def always_two_bytes(cfg, context=0, dtype="bfloat16", sequences=1):  # noqa: ARG001
    return with_parts(cfg, context, "bfloat16", sequences)


DECODE = Exercise(
    "07.3",
    "decode",
    "FLOPs and bytes of a decoding step",
    decode,
    decode_cases,
    (
        Mistake(
            "weights read per sequence",
            "A matrix that lies in the processor serves all sequences of the step. That is why "
            "one decodes in batches at all.",
            weights_for_each,
        ),
        Mistake(
            "one cache for all",
            "Each sequence has a past of its own. The weights are shared, the caches are not.",
            one_cache_for_all,
        ),
        Mistake(
            "idle experts read",
            "Of a mixture of experts only the active weights are read for a token.",
            all_weights,
        ),
        Mistake(
            "cache of one layer",
            "Every layer keeps its own keys and values, and every layer reads them.",
            cache_of_a_layer,
        ),
        Mistake(
            "only the newest token",
            "What grows is what is read: the new query looks at all tokens kept, not at one.",
            newest_token_only,
        ),
        Mistake(
            "FLOPs of one sequence",
            "Arithmetic is not shared: every sequence multiplies with every active weight.",
            flops_of_one,
        ),
        Mistake(
            "always two bytes",
            "The dtype decides how many bytes a number has.",
            always_two_bytes,
        ),
    ),
    (
        "Which of the two is shared by the sequences of a step, weights or caches?",
        "count, memory and flops know the parts: active weights, bytes of a number, a cache of "
        "so many sequences, the FLOPs of one token.",
        "Bytes: active weights times the size of a number, once, plus the cache of all sequences. "
        "FLOPs: those of one decoded token, for each sequence.",
    ),
    rtol=1e-9,
    atol=0.0,
)
