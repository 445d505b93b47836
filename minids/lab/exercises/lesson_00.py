"""Lesson 00: work and traffic of a product, its least time, an expert layer by hand, the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from minids.config import ModelConfig
from minids.count import memory, params, roofline
from minids.count.roofline import Rates, Work
from minids.lab.exercise import Case, Exercise, Mistake, Prediction


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """A random number, low … high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# 00.1 matmul


def products(generator: torch.Generator) -> Iterator[Case]:
    """One number, one token, then any sizes."""
    yield Case((1, 1, 1, 2), "a single number")
    yield Case((1, 7, 5, 4), "one token")
    for _ in range(4):
        m, k, n = (whole(generator, 2, 60) for _ in range(3))
        yield Case((m, k, n, 2 ** whole(generator, 0, 3)))


# 00.2 least_seconds


def works(generator: torch.Generator) -> Iterator[Case]:
    """Either side decides, in turn."""
    rates = Rates(200.0, 10.0)
    yield Case((Work(1000.0, 10.0), rates), "1000 FLOPs, 10 bytes, 200 FLOP/s, 10 bytes/s")
    yield Case((Work(100.0, 100.0), rates), "100 FLOPs, 100 bytes, 200 FLOP/s, 10 bytes/s")
    for i in range(4):
        ridge, slow = whole(generator, 3, 40), whole(generator, 5, 90)
        moved, factor = whole(generator, 20, 900), whole(generator, 2, 6)
        done = moved * ridge * factor if i % 2 else moved * ridge / factor
        rates = Rates(float(slow * ridge), float(slow))
        label = f"{done:g} FLOPs, {moved} bytes, {rates[0]:g} FLOP/s, {slow} bytes/s"
        yield Case((Work(float(done), float(moved)), rates), label)


# 00.3 moe_params


def moe_params(cfg: ModelConfig) -> tuple[int, int]:
    """Weights of the experts and router of one layer: all there are, and what one token uses."""
    weights = list(params.moe(cfg, cfg.num_hidden_layers - 1))
    return sum(w.count for w in weights), sum(w.active for w in weights)


def expert_layers(generator: torch.Generator) -> Iterator[Case]:
    """Of different widths, with one or more shared experts."""
    for i in range(6):
        d, f = whole(generator, 3, 40), whole(generator, 3, 40)
        e, shared = whole(generator, 5, 20), 1 + i % 3
        k = whole(generator, 2, e - 2)
        cfg = ModelConfig(
            hidden_size=d,
            moe_intermediate_size=f,
            n_routed_experts=e,
            n_shared_experts=shared,
            num_experts_per_tok=k,
        )
        yield Case((cfg,), f"d={d} f={f} e={e} k={k}, {shared} shared")


def parts(cfg: ModelConfig) -> tuple[int, int, int, int, int]:
    """One expert, router, e, k, shared."""
    d, f, e = cfg.hidden_size, cfg.moe_intermediate_size, cfg.n_routed_experts
    return 3 * d * f, e * d, e, cfg.num_experts_per_tok, cfg.n_shared_experts


def all_active(cfg: ModelConfig) -> tuple[int, int]:
    total = moe_params(cfg)[0]
    return total, total


def only_chosen_stored(cfg: ModelConfig) -> tuple[int, int]:
    expert, router, e, k, shared = parts(cfg)
    return router + e + (k + shared) * expert, router + (k + shared) * expert


def no_shared(cfg: ModelConfig) -> tuple[int, int]:
    expert, router, e, k, _ = parts(cfg)
    return router + e + e * expert, router + k * expert


def two_matrices(cfg: ModelConfig) -> tuple[int, int]:
    expert, router, e, k, shared = parts(cfg)
    expert = expert * 2 // 3
    return router + e + (e + shared) * expert, router + (k + shared) * expert


def no_router(cfg: ModelConfig) -> tuple[int, int]:
    expert, _, e, k, shared = parts(cfg)
    return (e + shared) * expert, (k + shared) * expert


def router_of_the_chosen(cfg: ModelConfig) -> tuple[int, int]:
    expert, router, e, k, shared = parts(cfg)
    return router + e + (e + shared) * expert, k * cfg.hidden_size + (k + shared) * expert


def no_bias(cfg: ModelConfig) -> tuple[int, int]:
    expert, router, e, k, shared = parts(cfg)
    return router + (e + shared) * expert, router + (k + shared) * expert


# 00.4 kv_elements_per_token


def kv_elements_per_token(cfg: ModelConfig) -> float:
    """The library's; it knows V4's attention as well."""
    return memory.kv_elements_per_token(cfg)


def caches(generator: torch.Generator) -> Iterator[Case]:
    """Grouped and latent attention in turn."""
    for i in range(8):
        layers, g = whole(generator, 2, 9), whole(generator, 2, 5)
        h, n = g * whole(generator, 2, 4), whole(generator, 3, 20)
        c, r = whole(generator, 21, 60), 2 * whole(generator, 1, 9)
        cfg = ModelConfig(
            attention="mla" if i % 2 else "gqa",
            num_hidden_layers=layers,
            num_attention_heads=h,
            num_key_value_heads=g,
            head_dim=2 * n,
            kv_lora_rank=c,
            qk_nope_head_dim=n,
            qk_rope_head_dim=r,
            v_head_dim=n + 1,
        )
        label = f"mla, c={c} r={r}" if i % 2 else f"gqa, g={g} head_dim={2 * n}"
        yield Case((cfg,), f"{label}, h={h}, {layers} layers")


def rope_per_head(cfg: ModelConfig) -> float:
    if cfg.attention == "gqa":
        return kv_elements_per_token(cfg)
    rope = cfg.num_attention_heads * cfg.qk_rope_head_dim
    return cfg.num_hidden_layers * (cfg.kv_lora_rank + rope)


def no_rope(cfg: ModelConfig) -> float:
    if cfg.attention == "gqa":
        return kv_elements_per_token(cfg)
    return cfg.num_hidden_layers * cfg.kv_lora_rank


def expanded(cfg: ModelConfig) -> float:
    if cfg.attention == "gqa":
        return kv_elements_per_token(cfg)
    width = cfg.qk_nope_head_dim + cfg.qk_rope_head_dim + cfg.v_head_dim
    return cfg.num_hidden_layers * cfg.num_attention_heads * width


EXERCISES = (
    Exercise(
        id="00.1",
        name="matmul",
        title="FLOPs and bytes of a matrix product",
        reference=roofline.matmul,
        cases=products,
        mistakes=(
            Mistake(
                "one FLOP per multiply-add",
                "Each of the m·n sums takes k multiplications and k additions, and FLOPs count "
                "both. Published rates and figures like 6·N·D do so too: with one instead of two, "
                "every comparison is off by a factor of 2.",
                lambda m, k, n, size: Work(m * k * n, size * (m * k + k * n + m * n)),
            ),
            Mistake(
                "the result is not written",
                "The product itself has to reach memory as well, or nobody can use it. For thin "
                "factors (small k) it is the largest part of the traffic.",
                lambda m, k, n, size: Work(2 * m * k * n, size * (m * k + k * n)),
            ),
            Mistake(
                "only the weights move",
                "The weights dominate for a single token, but the tokens come in and go out too; "
                "for many tokens theirs is the larger part.",
                lambda m, k, n, size: Work(2 * m * k * n, size * k * n),
            ),
            Mistake(
                "numbers instead of bytes",
                "That counts numbers. Memory moves bytes, and a bfloat16 has half as many as a "
                "float32: this factor is the whole reason for small formats.",
                lambda m, k, n, size: Work(2 * m * k * n, m * k + k * n + m * n),  # noqa: ARG005
            ),
            Mistake(
                "every use is a trip to memory",
                "A number is used many times, but it has to come only once if it is kept near. "
                "The floor assumes the best: each byte moves one time.",
                lambda m, k, n, size: Work(2 * m * k * n, size * (2 * m * k * n + m * n)),
            ),
        ),
        hints=(
            "Write the product as three loops over m, n and k. What happens in the innermost one?",
            "Work: how many sums, how long is each, and which two operations does each term take? "
            "Traffic: which three matrices exist, and how many numbers does each have?",
            "The work is proportional to the product of all three sizes, the traffic to the sum of "
            "the three pairwise products, times the bytes of a number. One of the two has a 2.",
        ),
        atol=0.0,
        rtol=1e-9,
    ),
    Exercise(
        id="00.2",
        name="least_seconds",
        title="the least time of a piece of work",
        reference=roofline.least_seconds,
        cases=works,
        mistakes=(
            Mistake(
                "one after the other",
                "That adds both times, as if the processor slept while bytes arrive. Hardware "
                "does both at once; a floor must allow for perfect overlap.",
                lambda work, rates: (
                    work.flops / rates.flops_per_s + work.moved_bytes / rates.bytes_per_s
                ),
            ),
            Mistake(
                "only arithmetic",
                "FLOPs alone say that one token is a thousand times cheaper than a thousand. But "
                "all the weights have to be read for either.",
                lambda work, rates: work.flops / rates.flops_per_s,
            ),
            Mistake(
                "only traffic",
                "Bytes alone say that a thousand tokens cost hardly more than one. At some point "
                "the multiplications take longer than the reading.",
                lambda work, rates: work.moved_bytes / rates.bytes_per_s,
            ),
            Mistake(
                "the faster side decides",
                "The work is done when both its parts are done, so it cannot be faster than "
                "either of them.",
                lambda work, rates: min(
                    work.flops / rates.flops_per_s, work.moved_bytes / rates.bytes_per_s
                ),
            ),
        ),
        hints=(
            "There are two times: one for the arithmetic, one for the traffic.",
            "Both run side by side and both have to end. When is the work as a whole done?",
            "It is a piece of work divided by a rate, for FLOPs and for bytes; then one of "
            "Python's built-in functions of two numbers.",
        ),
        atol=0.0,
        rtol=1e-9,
    ),
    Exercise(
        id="00.3",
        name="moe_params",
        title="weights of an expert layer: all, and those one token uses",
        reference=moe_params,
        cases=expert_layers,
        mistakes=(
            Mistake(
                "every expert counts as active",
                "A token runs through k routed experts and the shared ones, not through all of "
                "them. That is the point of a mixture: 671B stored, 37B used.",
                all_active,
            ),
            Mistake(
                "only the chosen experts stored",
                "A token uses k routed experts, but another token uses others: all e have to lie "
                "in memory.",
                only_chosen_stored,
            ),
            Mistake(
                "shared expert forgotten",
                "Beside the routed experts there are shared ones. They are stored, and every "
                "token visits them.",
                no_shared,
            ),
            Mistake(
                "two matrices per expert",
                "That is the classic feed-forward, up and down. SwiGLU has a third matrix, the "
                "gate, of the same size.",
                two_matrices,
            ),
            Mistake(
                "router forgotten",
                "Something has to choose: one row of d numbers per expert, and a bias each. It is "
                "small, and the published total contains it.",
                no_router,
            ),
            Mistake(
                "router reads the chosen rows only",
                "To know which k experts are best, every token is compared with the rows of all e.",
                router_of_the_chosen,
            ),
            Mistake(
                "selection bias forgotten",
                "V3 adds a bias to each routed expert's score: e stored numbers per layer. (The "
                "published active count leaves them out, as it leaves out norms.)",
                no_bias,
            ),
        ),
        hints=(
            "`library(params.moe)` is the answer; before that, count one expert: SwiGLU has a "
            "gate, an up and a down matrix.",
            "Stored: router, one bias per routed expert, all routed and all shared experts. Used: "
            "what one token is multiplied by.",
            "Both numbers are (a number of experts) · (size of one) + router. The biases are "
            "stored but not counted as used; the router is used whole.",
        ),
        atol=0.0,
        rtol=1e-12,
    ),
    Exercise(
        id="00.4",
        name="kv_elements_per_token",
        title="numbers that each token leaves in the cache",
        reference=kv_elements_per_token,
        cases=caches,
        mistakes=(
            Mistake(
                "factor 2 on the latent",
                "Keys and values need a factor 2 where both are kept. MLA keeps one latent from "
                "which both are made. (Real serving software has shipped this mistake.)",
                lambda cfg: kv_elements_per_token(cfg) * (2 if cfg.attention == "mla" else 1),
            ),
            Mistake(
                "a rotated key per head",
                "MLA's rotated key is shared by all heads: r numbers per token, not h·r.",
                rope_per_head,
            ),
            Mistake(
                "rotated key forgotten",
                "Position cannot be recovered from the latent, so the small rotated key is kept "
                "beside it.",
                no_rope,
            ),
            Mistake(
                "expanded keys and values kept",
                "That is what attention computes with, not what it keeps. MLA keeps what they are "
                "made from.",
                expanded,
            ),
            Mistake(
                "query heads instead of key/value heads",
                "In grouped attention several query heads share a key and value; only g of them "
                "exist. Queries are never cached.",
                lambda cfg: kv_elements_per_token(
                    replace(cfg, num_key_value_heads=cfg.num_attention_heads)
                ),
            ),
            Mistake(
                "keys without values",
                "Scores need old keys, and the output needs old values: both stay.",
                lambda cfg: kv_elements_per_token(cfg) / (1 if cfg.attention == "mla" else 2),
            ),
            Mistake(
                "one layer only",
                "Each layer has keys and values of its own.",
                lambda cfg: kv_elements_per_token(cfg) / cfg.num_hidden_layers,
            ),
        ),
        hints=(
            "Which tensors of old tokens does a new token need, in one layer?",
            'If cfg.attention == "gqa": a key and a value for each key/value head. If "mla": the '
            "latent and the one rotated key.",
            "Per layer it is 2·g·head_dim, or c + r with the names of the config; then all layers.",
        ),
        atol=0.0,
        rtol=1e-12,
    ),
)

PREDICTIONS = (
    Prediction(
        "00.a",
        "One token instead of 256 goes through a matrix. What share of the machine's best FLOP/s "
        "does it reach?",
        "%",
        50.0,
        0.01,
        200.0,
    ),
    Prediction(
        "00.b",
        "How long would this machine need, never resting, for the arithmetic of DeepSeek-V3's "
        "pre-training?",
        "years",
        1000.0,
        0.1,
        1e12,
    ),
)
