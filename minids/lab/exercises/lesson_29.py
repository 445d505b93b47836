"""Lesson 29: experts as files hold them, text that stops in time, a difference over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minids.ablate.card import STUDENT, Paired, paired
from minids.hub.names import STACKED, Part, in_memory, parts
from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.serve.request import sendable

if TYPE_CHECKING:
    import torch

# 29.1 parts


def weights(generator: torch.Generator) -> Iterator[Case]:
    """Weights with and without experts, in layers and in MTP modules."""
    import torch

    e, f, d = torch.randperm(4, generator=generator)[:3].add(2).tolist()
    layer = int(torch.randint(1, 3, (), generator=generator))
    for name, shape in (
        ("norm.weight", (d,)),
        ("layers.0.self_attn.o_proj.weight", (d, f)),
        (f"layers.{layer}.mlp.experts.gate_up_proj", (e, 2 * f, d)),
        (f"layers.{layer}.mlp.experts.down_proj", (e, d, f)),
        ("mtp.0.mlp.experts.gate_up_proj", (e, 2 * f, d)),
        ("lm_head.weight", (d, f)),
    ):
        yield Case((name, shape, 3), f"{name} {list(shape)}")


def filled(answer: Any, case: Case) -> dict[str, torch.Tensor]:
    """What a file holds: each part cut from a weight whose numbers say where they came from."""
    import torch

    name, shape, n_layers = case.args
    weight = torch.arange(math.prod(shape)).reshape(shape)  # the weight's own shape
    found = answer(name, shape, n_layers)
    for name, where, size in found:
        cut = weight[where or ...]
        if tuple(cut.shape) != tuple(size):
            raise ValueError(f"{name}: where gives {list(cut.shape)}, shape says {list(size)}")
    return {name: weight[where or ...] for name, where, _ in found}


def changed(name, shape, n_layers, change):
    """`parts`, each part of a stack of experts changed."""
    found = parts(name, shape, n_layers)
    return [change(part) for part in found] if STACKED.fullmatch(name) else found


def up_first(name, shape, n_layers):
    def swap(part):
        if "down" in part.name:
            return part
        old, new = ("gate", "up") if "gate_proj" in part.name else ("up", "gate")
        return part._replace(name=part.name.replace(f"{old}_proj", f"{new}_proj"))

    return changed(name, shape, n_layers, swap)


def every_other_row(name, shape, n_layers):
    def alternate(part):
        if "down" in part.name:
            return part
        rows = slice(0 if "gate_proj" in part.name else 1, None, 2)
        return part._replace(where=(part.where[0], rows))

    return changed(name, shape, n_layers, alternate)


def from_one(name, shape, n_layers):
    def count(part):
        e = part.where[0]
        return part._replace(name=part.name.replace(f"experts.{e}.", f"experts.{e + 1}."))

    return changed(name, shape, n_layers, count)


def fused(name, shape, n_layers):
    stacked = STACKED.fullmatch(name)
    if not stacked or stacked[2] == "down_proj":
        return parts(name, shape, n_layers)
    experts = in_memory(stacked[1], n_layers)
    return [Part(f"{experts}.{e}.gate_up_proj.weight", (e,), shape[1:]) for e in range(shape[0])]


def whole_stack(name, shape, n_layers):
    return [Part(in_memory(name, n_layers), (), shape)]


def own_names(name, shape, n_layers):
    stacked = STACKED.fullmatch(name)
    theirs, mine = (in_memory(name, n_layers), name)
    if stacked:
        theirs, mine = in_memory(stacked[1], n_layers), stacked[1]
    return [
        part._replace(name=part.name.replace(theirs, mine, 1))
        for part in parts(name, shape, n_layers)
    ]


PARTS = Exercise(
    "29.1",
    "parts",
    "a stack of experts, file by file",
    parts,
    weights,
    (
        Mistake(
            "gate and up swapped",
            "The first half of the rows is the gate. Swapped, SiLU is applied to the wrong half: "
            "every key fits, every shape fits, and the model talks nonsense.",
            up_first,
        ),
        Mistake(
            "every other row",
            "Gate and up lie one after the other, not row by row in turn.",
            every_other_row,
        ),
        Mistake(
            "experts counted from one",
            "The names count from 0. From 1, the loader misses expert 0 and finds one too many.",
            from_one,
        ),
        Mistake(
            "gate and up in one tensor",
            "Released files hold gate_proj and up_proj apart; only memory holds them together.",
            fused,
        ),
        Mistake(
            "the stack as one tensor",
            "Experts are 3-D in memory only. On disk each is a tensor of its own, so that a rank "
            "can read its own experts and no others.",
            whole_stack,
        ),
        Mistake(
            "names without the prefix",
            "In files a layer is model.layers.N, and an MTP module is one more layer. in_memory "
            "spells both.",
            own_names,
        ),
    ),
    (
        "What is no stack of experts is one part: the whole weight under the name of in_memory.",
        "STACKED splits the name: what stands before experts, and which of the two stacks it is. A "
        "stack has shape[0] experts.",
        "down_proj: one part per expert. gate_up_proj: two, the first half of the rows and the "
        "second; where is (expert, slice of rows).",
    ),
    filled,
    atol=0.0,
    rtol=0.0,
)

# 29.2 sendable

TEXTS = (
    ("one END two", ["END"]),
    ("one EN", ["END"]),
    ("one", ["END"]),
    ("a stop b END", ["END", "stop"]),
    ("aaa", ["aab"]),
    ("E", ["END"]),
    ("END END", ["END"]),
    ("cab", ["bc", "ab"]),
    ("no stop given", []),
    ("", ["x"]),
    ("x EEN", ["END"]),
)


def growing(generator: torch.Generator) -> Iterator[Case]:
    """Texts with a stop string, with the beginning of one, with neither; random letters."""
    import torch

    for held, stop in TEXTS:
        yield Case((held, stop), f"{held!r}, stop {stop}")
    for _ in range(20):
        letters = ["ab"[i] for i in torch.randint(2, (11,), generator=generator).tolist()]
        held, stop = "".join(letters[:6]), ["".join(letters[6:9]), "".join(letters[9:])]
        yield Case((held, stop), f"{held!r}, stop {stop}")


def found_in(held: str, stop: list[str]) -> list[int]:
    return [place for s in stop if (place := held.find(s)) >= 0]


def nothing_held(held, stop):
    met = found_in(held, stop)
    return (min(met), True) if met else (len(held), False)


def always_held(held, stop):
    met = found_in(held, stop)
    longest = max((len(s) for s in stop), default=1) - 1
    return (min(met), True) if met else (max(0, len(held) - longest), False)


def first_named(held, stop):
    met = found_in(held, stop)
    return (met[0], True) if met else sendable(held, stop)


def stop_sent_too(held, stop):
    met = [(held.find(s), s) for s in stop if s in held]
    return (min(met)[0] + len(min(met)[1]), True) if met else sendable(held, stop)


def last_one(held, stop):
    met = [held.rfind(s) for s in stop if s in held]
    return (max(met), True) if met else sendable(held, stop)


def shortest_doubt(held, stop):
    met = found_in(held, stop)
    if met:
        return min(met), True
    for start in range(len(held) - 1, -1, -1):
        if any(s.startswith(held[start:]) for s in stop):
            return start, False
    return len(held), False


SENDABLE = Exercise(
    "29.2",
    "sendable",
    "how much of a growing text may go out",
    sendable,
    growing,
    (
        Mistake(
            "stop string sent in halves",
            "'EN' went out before 'D' came. What may still become a stop string must wait.",
            nothing_held,
        ),
        Mistake(
            "held back without need",
            "The text always lags by the length of a stop string, also where its end is the "
            "beginning of none.",
            always_held,
        ),
        Mistake(
            "first in the list",
            "The earliest in the text counts, not the first one asked for.",
            first_named,
        ),
        Mistake(
            "stop string sent too",
            "The text ends before the stop string; the client asked not to see it.",
            stop_sent_too,
        ),
        Mistake(
            "the last one counts",
            "What stands behind the first stop string must never be seen.",
            last_one,
        ),
        Mistake(
            "too little held back",
            "Of several ends that may begin a stop string the longest must wait, else its first "
            "letters are gone.",
            shortest_doubt,
        ),
    ),
    (
        "Two cases: a stop string is there, or it is not. The first has a short answer.",
        "str.find says where. Without a hit: does some end of the text begin a stop string?",
        "Try the ends from the longest to the shortest; the first that some stop string starts "
        "with must wait, and everything before it may go.",
    ),
    atol=0.0,
    rtol=0.0,
)

# 29.3 paired


def seeds(generator: torch.Generator) -> Iterator[Case]:
    """Losses of two arms whose seeds differ more than the arms do."""
    import torch

    for n in (2, 3, 5, 1):
        level = 1 + 0.3 * torch.rand(n, generator=generator).double()  # [n]
        gain = 0.01 + 0.02 * torch.randn(n, generator=generator).double()  # [n]
        yield Case(((level * (1 + gain)).tolist(), level.tolist()), f"{n} seeds")


def interval(apart, *, quantile=None, down=1, of_mean=True, centre=None) -> Paired:
    """`paired` with one thing done otherwise."""
    n, mean = len(apart), sum(apart) / len(apart)
    if n == 1:
        return Paired(mean, -math.inf, math.inf, apart)
    spread = math.sqrt(sum((x - mean) ** 2 for x in apart) / (n - down))
    half = (quantile or STUDENT[n - 2]) * spread / (math.sqrt(n) if of_mean else 1)
    centre = mean if centre is None else centre
    return Paired(centre, centre - half, centre + half, apart)


def shares(mine, first) -> list[float]:
    return [a / b - 1 for a, b in zip(mine, first, strict=True)]


def unpaired(mine, first):
    base = sum(first) / len(first)
    apart = [a / base - 1 for a in mine]
    return interval(apart)


def in_bits(mine, first):
    return interval([a - b for a, b in zip(mine, first, strict=True)])


def other_way(mine, first):
    return interval(shares(first, mine))


PAIRED = Exercise(
    "29.3",
    "paired",
    "a difference over seeds, with its interval",
    paired,
    seeds,
    (
        Mistake(
            "seeds not paired",
            "Each run belongs to the one of its own seed. Against the mean of the others, what "
            "seeds do to both arms counts as a difference between the arms.",
            unpaired,
        ),
        Mistake(
            "1.96 for any number of seeds",
            "1.96 is for very many. With three seeds the spread itself is a guess, and Student's "
            "factor is 4.3.",
            lambda mine, first: interval(shares(mine, first), quantile=1.96),
        ),
        Mistake(
            "spread of seeds, not of the mean",
            "The mean of n is surer than one: its error is smaller by the square root of n.",
            lambda mine, first: interval(shares(mine, first), of_mean=False),
        ),
        Mistake(
            "divided by n",
            "The mean was taken from the same numbers: n − 1 are free, and three seeds need that.",
            lambda mine, first: interval(shares(mine, first), down=0),
        ),
        Mistake(
            "bits, not shares",
            "A difference in bits means little beside another text. It is to be a share of the "
            "first arm's bits.",
            in_bits,
        ),
        Mistake(
            "the wrong way round",
            "The share is that of the first arm; turned round, the better one looks worse.",
            other_way,
        ),
    ),
    (
        "First one number per seed: by what share does mine exceed first?",
        "Their mean, their standard deviation with n − 1, and how much less the mean varies.",
        "Half the interval is Student's factor for n − 1 degrees, times the deviation, over the "
        "root of n. One seed has no deviation: its interval is everything.",
    ),
    atol=1e-12,
    rtol=1e-9,
)

EXERCISES = (PARTS, SENDABLE, PAIRED)

PREDICTIONS = (
    Prediction(
        "29.a",
        "Eight clients ask at the same moment. How many times as long as a single one does the "
        "last of them wait?",
        "times",
        3.0,
        1.0,
        100.0,
    ),
    Prediction(
        "29.b",
        "Take the MTP module out of a small model: by what share does the loss of the next token "
        "rise?",
        "%",
        2.0,
        -20.0,
        20.0,
    ),
)
