"""Lesson 11, experts II: measure the load, steer it by a bias or by a loss.

Axes: b sequences, s tokens of one, T tokens (b·s), e experts, k experts per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from einops import rearrange
from torch import Tensor

from minids.config import ModelConfig
from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.lab.exercises.lesson_10_route import of_shape
from minids.nn.balance import max_violation
from minids.nn.moe import (
    Routing,
    count_visits,
    how_often,
    largest,
    updated_bias,
    v3_balance_loss,
    weigh,
)

# 11.1 max_violation


def loads(generator: torch.Generator) -> Iterator[Case]:
    """Visits of one layer, then of several at once."""
    yield Case((torch.tensor([6, 2, 3, 1]),), "four experts")
    yield Case((torch.tensor([0, 0, 9]),), "one for all")
    for shape in ((5,), (2, 6), (3, 2, 4)):
        load = torch.randint(1, 40, shape, generator=generator)  # [… e]
        yield Case((load,), f"load {list(shape)}")


def over_layers_too(load: Tensor) -> Tensor:
    load = load.double()
    return load.amax(-1) / load.mean() - 1


VIOLATION = Exercise(
    "11.1",
    "max_violation",
    "how far the busiest expert lies above the fair share",
    max_violation,
    loads,
    (
        Mistake(
            "over the busiest, not the mean",
            "The excess is compared with the busiest expert itself, so it can never pass 1. It "
            "should be told in fair shares.",
            lambda load: 1 - load.double().mean(-1) / load.double().amax(-1),
        ),
        Mistake(
            "ratio without minus one",
            "Even load would give 1. A violation is what lies above the fair share: 0 if even.",
            lambda load: load.double().amax(-1) / load.double().mean(-1),
        ),
        Mistake(
            "busiest against the idlest",
            "The idlest expert does not hold anyone up, and one expert at 0 makes it infinite.",
            lambda load: load.double().amax(-1) / load.double().amin(-1) - 1,
        ),
        Mistake(
            "one mean for all layers",
            "Each layer has its own fair share; the experts are the last axis only.",
            over_layers_too,
        ),
        Mistake(
            "largest deviation either way",
            "An idle expert costs nothing but its own silence. Only the busiest makes the others "
            "wait.",
            lambda load: (load.double() / load.double().mean(-1, keepdim=True) - 1).abs().amax(-1),
        ),
    ),
    (
        "Who decides when a step ends, if each expert stands on a device of its own?",
        "The fair share of a layer is the mean of its load.",
        "Busiest over fair share, along the last axis, in float64, and 0 for an even load.",
    ),
)

# 11.2 updated_bias


def biases(generator: torch.Generator) -> Iterator[Case]:
    """Biases and loads; some experts carry exactly the mean."""
    yield Case((torch.zeros(4), torch.tensor([4, 0, 2, 2]), 0.5), "two at the mean")
    for e, speed in ((3, 0.1), (6, 0.001), (9, 0.02)):
        bias = torch.randn(e, generator=generator)  # [e]
        load = torch.randint(0, 30, (e,), generator=generator) + 9 * (torch.arange(e) == 1)  # [e]
        yield Case((bias, load, speed), f"{e} experts, speed {speed}")


def stepped(towards: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """bias + speed · towards(load)."""

    def answer(bias: Tensor, load: Tensor, speed: float) -> Tensor:
        return bias + speed * towards(load.to(bias.dtype))

    return answer


UPDATE = Exercise(
    "11.2",
    "updated_bias",
    "busy experts a step down, idle ones a step up",
    updated_bias,
    biases,
    (
        Mistake(
            "sign turned round",
            "Busy experts are made more attractive. The first small lead becomes a landslide.",
            stepped(lambda load: (load - load.mean()).sign()),
        ),
        Mistake(
            "step as large as the gap",
            "The step grows with the load. A batch with more tokens would shake the router more; "
            "V3's step has one size, its direction is all it learns from the load.",
            stepped(lambda load: load.mean() - load),
        ),
        Mistake(
            "relative gap instead of its sign",
            "This is a rule that works too, but not V3's: its steps become small near balance "
            "and wild when one expert takes all.",
            stepped(lambda load: (load.mean() - load) / load.mean()),
        ),
        Mistake(
            "only idle experts are moved",
            "Busy experts stay where they are, so the bias of all can only grow.",
            stepped(lambda load: (load < load.mean()).float()),
        ),
        Mistake(
            "the bias starts anew",
            "The step replaces the bias. It should add up over thousands of batches, or no lead "
            "larger than one step can ever be made up for.",
            lambda bias, load, speed: stepped(lambda x: (x.mean() - x).sign())(
                0 * bias, load, speed
            ),
        ),
        Mistake(
            "compared with the median",
            "Half of the experts lie above the median even if they lie there by a hair. The fair "
            "share is the mean.",
            stepped(lambda load: (load.quantile(0.5) - load).sign()),
        ),
    ),
    (
        "Three cases: above the fair share, below it, exactly on it.",
        "`sign` gives −1, 0 or 1. Of which difference, so that a busy expert goes down?",
        "Old bias, plus speed times the direction; loads are whole numbers, the bias is not.",
    ),
)

# 11.3 how_often


def choices(generator: torch.Generator) -> Iterator[Case]:
    """Chosen experts of several sequences; some experts are never chosen."""
    for b, s, e, k in ((1, 3, 4, 1), (1, 5, 6, 2), (2, 4, 5, 3), (3, 7, 8, 2)):
        expert = torch.rand(b, s, e, generator=generator).topk(k).indices  # [b s k]
        yield Case((expert, of_shape(e, k, 1, 1)), f"b={b} s={s} e={e} k={k}")


def visits(expert: Tensor, cfg: ModelConfig) -> Tensor:
    """[b s k] → [b e] float32"""
    return torch.stack([count_visits(row, cfg.n_routed_experts) for row in expert]).float()


def of_the_batch(expert: Tensor, cfg: ModelConfig) -> Tensor:
    return how_often(rearrange(expert, "b s k -> 1 (b s) k"), cfg).expand(len(expert), -1)


OFTEN = Exercise(
    "11.3",
    "how_often",
    "visits per expert and sequence, 1 if fair",
    how_often,
    choices,
    (
        Mistake(
            "share of the visits",
            "These shares sum to 1, so fair is 1/e and depends on the number of experts. The loss "
            "is scaled so that fair means 1.",
            lambda expert, cfg: visits(expert, cfg) / (expert.shape[1] * expert.shape[2]),
        ),
        Mistake(
            "k left out of the fair share",
            "A token makes k visits, so k times as many are fair.",
            lambda expert, cfg: visits(expert, cfg) * (cfg.n_routed_experts / expert.shape[1]),
        ),
        Mistake(
            "counted over the whole batch",
            "The loss is sequence-wise: an expert must not be over-used within one text, even if "
            "another text makes up for it.",
            of_the_batch,
        ),
        Mistake(
            "only the first choice counts",
            "All k chosen experts work for the token, not only the best one.",
            lambda expert, cfg: (
                visits(expert[..., :1], cfg)
                * (cfg.n_routed_experts / (expert.shape[1] * expert.shape[2]))
            ),
        ),
        Mistake(
            "visited at all",
            "Whether an expert was visited is not how often.",
            lambda expert, cfg: (visits(expert, cfg) > 0).float(),
        ),
    ),
    (
        "Count first: how many visits did each expert get in each sequence?",
        "A sequence makes s·k visits; spread evenly over e experts, each gets how many?",
        "Zeros [b e], `scatter_add` of ones along the experts, divided by the fair number.",
    ),
)

# 11.4 v3_balance_loss


def routings(generator: torch.Generator) -> Iterator[Case]:
    """Routings whose choice was moved by a bias, so that it is not that of the affinity."""
    for b, s, e, k in ((1, 4, 4, 1), (2, 3, 5, 2), (3, 5, 6, 3), (2, 8, 8, 2)):
        cfg = of_shape(e, k, 1, 1, aux_loss_alpha=0.25)
        affinity = torch.randn(b * s, e, generator=generator).sigmoid()  # [T e]
        expert = largest(affinity + 0.5 * torch.randn(e, generator=generator), k)  # [T k]
        gate = weigh(affinity.gather(-1, expert), cfg)  # [T k]
        routing = Routing(expert, gate, affinity, count_visits(expert, e))
        yield Case((routing, b, cfg), f"b={b} s={s} e={e} k={k}")


def call_with_slope(answer, case: Case) -> dict[str, Tensor]:
    """The loss, and which way it pulls the affinity."""
    routing, b, cfg = case.args
    affinity = routing.affinity.clone().requires_grad_()
    loss = answer(routing._replace(affinity=affinity), b, cfg)
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        return {"loss": loss, "gradient": torch.zeros_like(affinity)}
    slope = torch.autograd.grad(loss.sum(), affinity, allow_unused=True)[0]
    return {"loss": loss, "gradient": torch.zeros_like(affinity) if slope is None else slope}


def balance(
    *, biased=False, normalise=True, together=False, of_p: Callable[..., Tensor] = torch.mean,
    alpha=True, detach=False,
):  # fmt: skip
    """v3_balance_loss with one thing done otherwise."""

    def answer(routing: Routing, b: int, cfg: ModelConfig) -> Tensor:
        n = 1 if together else b
        affinity = rearrange(routing.affinity, "(b s) e -> b s e", b=n)
        chosen = rearrange(routing.expert, "(b s) k -> b s k", b=n)
        best = chosen if biased else affinity.topk(cfg.num_experts_per_tok, dim=-1).indices
        total = affinity.sum(-1, keepdim=True) + 1e-20
        share = affinity / total if normalise else affinity
        p = of_p(share.detach() if detach else share, dim=1)
        loss = (how_often(best, cfg) * p).sum(-1).expand(b)
        return cfg.aux_loss_alpha * loss if alpha else loss

    return answer


LOSS = Exercise(
    "11.4",
    "v3_balance_loss",
    "no expert over-used within one sequence",
    v3_balance_loss,
    routings,
    (
        Mistake(
            "counted with the biased choice",
            "The bias has evened out the choice already. The loss asks what the scores alone "
            "would do: there the skew still shows.",
            balance(biased=True),
        ),
        Mistake(
            "scores not made shares",
            "Sigmoids do not sum to one. Left so, the loss falls when all scores shrink, and "
            "nothing has become more even.",
            balance(normalise=False),
        ),
        Mistake(
            "over the whole batch",
            "The loss is per sequence. Two one-sided texts that make up for each other would "
            "look balanced.",
            balance(together=True),
        ),
        Mistake(
            "sum over tokens",
            "P is the mean share over the tokens. A sum makes long texts count more and the loss "
            "no longer comparable.",
            balance(of_p=torch.sum),
        ),
        Mistake(
            "α left out",
            "V3 takes 0.0001 of it. At full size the loss would tear at the scores harder than "
            "the text does.",
            balance(alpha=False),
        ),
        Mistake(
            "no gradient to the scores",
            "Counts have no gradient; the mean shares carry it. Cut off, the loss is a number "
            "that nothing listens to.",
            balance(detach=True),
        ),
    ),
    (
        "Two numbers per expert and sequence: how often it is among the best, how much it gets.",
        "Best means: by affinity alone. `how_often` turns the k best of each token into f.",
        "Divide each token's affinities by their sum, average over the sequence: P. Then f times "
        "P, summed over experts, times α.",
    ),
    call=call_with_slope,
)

EXERCISES = (VIOLATION, UPDATE, OFTEN, LOSS)

PREDICTIONS = (
    Prediction(
        "11.a",
        "Nothing balances 16 experts: how many fair shares does the busiest carry in the end?",
        "fair shares",
        1.5,
        1.0,
        8.0,
    ),
)
