"""Lesson 10: the chosen experts at work, one expert at a time and one token at a time.

Axes: T tokens, k experts per token, d hidden_size, e experts, f expert width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import einsum
from torch import Tensor
from torch.nn import functional as F

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.experts import experts_gathered, experts_loop, swiglu


def visits(generator: torch.Generator) -> Iterator[Case]:
    """Tokens, their experts with weights, matrices; some experts get no token."""
    sizes = [(1, 3, 2, 2, 2), (4, 3, 1, 3, 2), (5, 4, 3, 3, 4), (7, 9, 2, 4, 3), (3, 5, 2, 6, 2)]
    for number, (T, e, k, d, f) in enumerate(sizes):
        dtype = (torch.float32, torch.float64)[number % 2]  # tokens may be narrower than weights

        def make(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        expert = torch.rand(T, e, generator=generator).topk(k).indices  # [T k]
        gate = make(T, k).abs() + 0.1  # [T k]
        args = (make(T, d).to(dtype), expert, gate, make(e, 2 * f, d), make(e, d, f))
        yield Case(args, f"T={T} e={e} k={k} d={d} f={f}")


def loop(answer_of, weight_of, collect):
    """experts_loop with another expert, another weight or another way to collect."""

    def answer(x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for e in range(len(gate_up)):
            token, slot = torch.nonzero(expert == e, as_tuple=True)
            weight = weight_of(gate, token, slot)[:, None].to(x.dtype)
            matrices = gate_up[e].to(x.dtype), down[e].to(x.dtype)
            out = collect(out, token, answer_of(x[token], weight, *matrices))
        return out

    return answer


def weighted(x: Tensor, weight: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return weight * F.linear(swiglu(F.linear(x, gate_up)), down)


def unweighted(x: Tensor, _: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return F.linear(swiglu(F.linear(x, gate_up)), down)


def weighted_input(x: Tensor, weight: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return F.linear(swiglu(F.linear(weight * x, gate_up)), down)


def halves_swapped(x: Tensor, weight: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    up, gate = F.linear(x, gate_up).chunk(2, dim=-1)
    return weight * F.linear(F.silu(gate) * up, down)


def own(gate: Tensor, token: Tensor, slot: Tensor) -> Tensor:
    return gate[token, slot]


def add(out: Tensor, token: Tensor, answer: Tensor) -> Tensor:
    return out.index_add(0, token, answer)


def overwrite(out: Tensor, token: Tensor, answer: Tensor) -> Tensor:
    return out.index_copy(0, token, answer)


LOOP = Exercise(
    "10.1",
    "experts_loop",
    "every token to its experts, an expert at a time",
    experts_loop,
    visits,
    (
        Mistake(
            "weights forgotten",
            "Every answer counts the same. The router gets no gradient at all then: it chooses, "
            "but nothing tells it whether the choice was good.",
            loop(unweighted, own, add),
        ),
        Mistake(
            "the best expert's weight for all",
            "An expert may be the first choice of one token and the third of another. The weight "
            "stands in the column where the token chose it.",
            loop(weighted, lambda gate, token, _: gate[token, 0], add),
        ),
        Mistake(
            "the last answer wins",
            "A token has k answers, and they come from different rounds of the loop. Each new one "
            "replaces the one before; they should add up.",
            loop(weighted, own, overwrite),
        ),
        Mistake(
            "weights on the way in",
            "The token is scaled before the expert sees it. An expert is not linear, so half a "
            "token does not give half an answer.",
            loop(weighted_input, own, add),
        ),
        Mistake(
            "gate and up swapped",
            "The first half of the rows is the gate, and only the gate goes through SiLU.",
            loop(halves_swapped, own, add),
        ),
    ),
    (
        "For one expert: which tokens chose it, and in which of their k columns?",
        "nonzero gives both at once: rows are tokens, columns say where the weight stands.",
        "Collect its tokens, run gate and up together, SwiGLU, down; scale each answer by its own "
        "weight and add it to the rows it came from.",
    ),
    gradients=True,
)


def gathered(
    x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor,
    *, weight_before: bool = False, reduce: str = "T k d -> T d", scale: bool = False,
) -> Tensor:  # fmt: skip
    """experts_gathered with a step in another place."""
    both = einsum(gate_up[expert].to(x.dtype), x, "T k f d, T d -> T k f")
    weight = gate[..., None].to(x.dtype)
    weight = weight / weight.sum(1, keepdim=True) if scale else weight
    hidden = swiglu(weight * both) if weight_before else weight * swiglu(both)
    answer = einsum(down[expert].to(x.dtype), hidden, "T k d f, T k f -> T k d")
    return einsum(answer, reduce)


def of_the_first(x: Tensor, expert: Tensor, gate: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return experts_gathered(x, expert[:1].expand_as(expert), gate, gate_up, down)


GATHER = Exercise(
    "10.2",
    "experts_gathered",
    "the chosen weights to every token",
    experts_gathered,
    visits,
    (
        Mistake(
            "weights before SwiGLU",
            "The weight must scale an expert's answer. Before the SiLU it changes what the "
            "expert computes, since SiLU is not linear.",
            lambda *args: gathered(*args, weight_before=True),
        ),
        Mistake(
            "weights made to sum to one",
            "The router has made the weights as it wants them; V3 even scales them to 2.5. "
            "Divided by their sum again, that is lost.",
            lambda *args: gathered(*args, scale=True),
        ),
        Mistake(
            "all tokens to the first's experts",
            "The matrices of one token serve all. Each token brings its own k choices.",
            of_the_first,
        ),
        Mistake(
            "mean over the answers",
            "The k answers are added up; their weights say already how much each one counts.",
            lambda x, expert, *rest: experts_gathered(x, expert, *rest) / expert.shape[1],
        ),
    ),
    (
        "Indexing a stack of matrices by a table of experts gives a table of matrices.",
        "gate_up indexed by the choice is [T k 2f d]. Which axes does it share with the tokens?",
        "One einsum for gate and up, SwiGLU, times the weights, one einsum that sums over both "
        "the choices and f.",
    ),
    gradients=True,
)
