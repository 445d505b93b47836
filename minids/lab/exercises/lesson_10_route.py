"""Lesson 10: which experts a token asks, and how much each answer counts.

Axes: T tokens, k experts per token, d hidden_size, e experts, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from minids.config import ModelConfig
from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.moe import Routing, count_visits, keep_groups, largest, route_v3, score, weigh


def of_shape(e: int, k: int, n_group: int, topk_group: int, **changes) -> ModelConfig:
    """A config whose router is what counts."""
    return ModelConfig(
        vocab_size=7, hidden_size=6, num_hidden_layers=1, num_attention_heads=1, kv_lora_rank=4,
        qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4, intermediate_size=8,
        moe_intermediate_size=4, n_routed_experts=e, num_experts_per_tok=k,
        n_group=n_group, topk_group=topk_group, **changes,
    )  # fmt: skip


def groups(generator: torch.Generator) -> Iterator[Case]:
    """Choices on both sides of zero, and a score for each group."""
    for T, e, G, kept in ((1, 4, 2, 1), (3, 6, 3, 2), (5, 8, 4, 2), (4, 12, 4, 3), (6, 15, 5, 2)):
        choice = torch.randn(T, e, generator=generator)  # [T e]
        group_score = torch.randn(T, G, generator=generator)  # [T G]
        cfg = of_shape(e, 1, G, kept)
        yield Case((choice, group_score, cfg), f"{T} tokens, {e} experts, keep {kept} of {G}")


def allowed(group_score: Tensor, cfg: ModelConfig) -> Tensor:
    """[T G] → [T G] bool"""
    best = largest(group_score, cfg.topk_group)
    return torch.zeros_like(group_score, dtype=torch.bool).scatter(-1, best, True)


def of_experts(groups: Tensor, e: int, pattern: str = "T G -> T (G e)") -> Tensor:
    """[T G] → [T e]"""
    return repeat(groups, pattern, e=e // groups.shape[-1])


def masked_with_zero(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    mask = of_experts(allowed(group_score, cfg), choice.shape[-1])
    return choice.masked_fill(~mask, 0.0)


def interleaved(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    mask = of_experts(allowed(group_score, cfg), choice.shape[-1], "T G -> T (e G)")
    return choice.masked_fill(~mask, float("-inf"))


def best_forbidden(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    mask = of_experts(allowed(group_score, cfg), choice.shape[-1])
    return choice.masked_fill(mask, float("-inf"))


def one_for_all(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    return keep_groups(choice, group_score.sum(0).expand_as(group_score), cfg)


def one_group(choice: Tensor, group_score: Tensor, cfg: ModelConfig) -> Tensor:
    alone = allowed(group_score, replace(cfg, topk_group=1))
    return choice.masked_fill(~of_experts(alone, choice.shape[-1]), float("-inf"))


GROUPS = Exercise(
    "10.3",
    "keep_groups",
    "only experts of the best groups",
    keep_groups,
    groups,
    (
        Mistake(
            "forbidden ones set to 0",
            "With a bias, an allowed expert may stand below 0. Then a forbidden one at 0 is "
            "chosen before it.",
            masked_with_zero,
        ),
        Mistake(
            "groups interleaved",
            "Group 0 holds the first e/G experts, not every G-th one: experts of one group live "
            "side by side on one node.",
            interleaved,
        ),
        Mistake(
            "the best groups forbidden",
            "The mask is upside down: what is left are the experts of the groups that lost.",
            best_forbidden,
        ),
        Mistake(
            "the same groups for every token",
            "Groups are judged for the batch as a whole. Each token goes where its own experts "
            "are.",
            one_for_all,
        ),
        Mistake(
            "one group only",
            "A token may reach `topk_group` groups, not only the best of them.",
            one_group,
        ),
    ),
    (
        "Two steps: which groups may this token reach, and which experts do they hold?",
        "A table of True and False over groups becomes one over experts by repeating each entry "
        "for the experts of its group.",
        "`largest` finds the groups, `scatter` marks them, `repeat` spreads the marks; all the "
        "others get a value that no expert can fall below.",
    ),
)


def routers(generator: torch.Generator) -> Iterator[Case]:
    """Tokens, centroids, biases large enough to change the choice; with groups and without."""
    shapes = [
        (2, of_shape(1, 1, 1, 1)),
        (1, of_shape(4, 2, 1, 1)),
        (9, of_shape(8, 3, 2, 1)),
        (3, of_shape(6, 2, 1, 1, routed_scaling_factor=2.5)),
        (24, of_shape(12, 3, 4, 2, routed_scaling_factor=2.5)),
        (9, of_shape(12, 4, 3, 1, norm_topk_prob=False)),
        (24, of_shape(16, 3, 4, 3, routed_scaling_factor=0.5)),
    ]
    for number, (T, cfg) in enumerate(shapes):
        x = torch.randn(T, 6, generator=generator)  # [T d]
        centroid = 0.5 * torch.randn(cfg.n_routed_experts, 6, generator=generator)  # [e d]
        bias = 0.4 * torch.randn(cfg.n_routed_experts, generator=generator)  # [e]
        x = x.bfloat16() if number == 4 else x
        limit = f", {cfg.topk_group} of {cfg.n_group} groups" if cfg.n_group > 1 else ""
        yield Case((x, centroid, bias, cfg), f"{T} tokens, e={cfg.n_routed_experts}{limit}")


def routed(
    x: Tensor, centroid: Tensor, bias: Tensor, cfg: ModelConfig,
    *, biased_weights=False, biased_choice=True, biased_groups=True, softmax=False,
    group_score="top2", over="chosen",
) -> Routing:  # fmt: skip
    """route_v3 with one thing done otherwise."""
    affinity = score(x, centroid, cfg)
    if softmax:
        affinity = (x.float() @ centroid.T).softmax(-1)
    choice = affinity + bias if biased_choice else affinity
    if cfg.n_group > 1:
        judged = choice if biased_groups else affinity
        grouped = rearrange(judged, "T (G e) -> T G e", G=cfg.n_group)
        per_group = grouped.topk(2, dim=-1).values.sum(-1)
        if group_score == "max":
            per_group = reduce(grouped, "T G e -> T G", "max")
        choice = keep_groups(choice, per_group, cfg)
    expert = largest(choice, cfg.num_experts_per_tok)
    gate = (choice if biased_weights else affinity).gather(-1, expert)
    if over == "all":
        gate = gate / affinity.sum(-1, keepdim=True) * cfg.routed_scaling_factor
    elif over == "nothing":
        gate = gate * cfg.routed_scaling_factor
    else:
        gate = weigh(gate, cfg)
    return Routing(expert, gate, affinity, count_visits(expert, cfg.n_routed_experts))


ROUTE = Exercise(
    "10.4",
    "route_v3",
    "who goes where, and how much it counts",
    route_v3,
    routers,
    (
        Mistake(
            "weights from the biased scores",
            "The bias is there to steer traffic. In the weights it would make an expert's answer "
            "louder because the expert was idle.",
            lambda *args: routed(*args, biased_weights=True),
        ),
        Mistake(
            "bias left out of the choice",
            "The experts are chosen by affinity alone, so nothing can steer the load.",
            lambda *args: routed(*args, biased_choice=False, biased_groups=False),
        ),
        Mistake(
            "groups judged without the bias",
            "A group counts by what its experts count in the choice, bias included.",
            lambda *args: routed(*args, biased_groups=False),
        ),
        Mistake(
            "a group counts as its best expert",
            "That is V2's rule. V3 takes the two best of each group together.",
            lambda *args: routed(*args, group_score="max"),
        ),
        Mistake(
            "softmax instead of sigmoid",
            "A softmax makes all experts compete for one unit of score. V3 scores each expert "
            "by itself.",
            lambda *args: routed(*args, softmax=True),
        ),
        Mistake(
            "weights not divided by their sum",
            "The weights of the chosen should sum to the scaling factor, whatever the scores.",
            lambda *args: routed(*args, over="nothing"),
        ),
        Mistake(
            "divided by the scores of all experts",
            "Only the chosen answer, so only their scores share the weight.",
            lambda *args: routed(*args, over="all"),
        ),
    ),
    (
        "There are two numbers per expert, its affinity and its choice. Where does each one go?",
        "Affinity plus bias decides about groups and experts; then the bias has done its work.",
        "If there are groups, score each by its two largest choices and forbid the others. Take "
        "the k largest, look up their affinities, and let `weigh` do the rest.",
    ),
)
