"""Lesson 02: what a position must guess, how wrong a guess is, counting pairs, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.lab.exercises.lesson_00 import whole
from minids.nn import loss
from minids.nn.loss import IGNORE

BOS, EOS, PAD = 7, 8, 9  # special tokens of the cases, behind 7 ordinary ones


# 02.1 next_tokens


def next_tokens(tokens: Tensor, eos: int, pad: int) -> Tensor:
    """labels[i] = tokens[i + 1] inside a document, IGNORE elsewhere.  tokens [b s] → [b s]"""
    labels = torch.full_like(tokens, IGNORE)  # [b s]
    labels[:, :-1] = tokens[:, 1:]
    return labels.masked_fill((tokens == eos) | (tokens == pad), IGNORE)


def rows(generator: torch.Generator) -> Iterator[Case]:
    """Whole documents in rows, the rest padded; the last document may go on beyond the row."""
    yield Case((torch.tensor([[BOS, 3, 1, 4, EOS]]), EOS, PAD), "one document, no padding")
    yield Case((torch.tensor([[BOS, 3, EOS, BOS, 1, EOS, PAD, PAD]]), EOS, PAD), "two, padded")
    open_end = torch.tensor([[BOS, 3, 1, 4, 2], [BOS, 5, EOS, BOS, 6]])
    yield Case((open_end, EOS, PAD), "the last document goes on behind the row")
    for _ in range(3):
        s, row = whole(generator, 9, 17), []
        for _ in range(whole(generator, 2, 4)):
            one: list[int] = []
            while len(one) < s - 2 and (not one or whole(generator, 0, 3)):
                inside = torch.randint(0, BOS, (whole(generator, 1, 4),), generator=generator)
                one += [BOS, *inside.tolist(), EOS]
            row.append((one + [PAD] * s)[:s])
        yield Case((torch.tensor(row), EOS, PAD))


def wrong_way(tokens: Tensor, eos: int, pad: int) -> Tensor:
    labels = torch.full_like(tokens, IGNORE)  # [b s]
    labels[:, 1:] = tokens[:, :-1]
    return labels.masked_fill((tokens == eos) | (tokens == pad), IGNORE)


def wraps_around(tokens: Tensor, eos: int, pad: int) -> Tensor:
    labels = tokens.roll(-1, dims=-1)  # [b s]
    return labels.masked_fill((tokens == eos) | (tokens == pad), IGNORE)


def into_next_document(tokens: Tensor, eos: int, pad: int) -> Tensor:
    del eos
    labels = torch.full_like(tokens, IGNORE)  # [b s]
    labels[:, :-1] = tokens[:, 1:]
    return labels.masked_fill(labels == pad, IGNORE)


def end_not_learned(tokens: Tensor, eos: int, pad: int) -> Tensor:
    labels = next_tokens(tokens, eos, pad)  # [b s]
    return labels.masked_fill(labels == eos, IGNORE)


def padding_learned(tokens: Tensor, eos: int, pad: int) -> Tensor:
    del pad
    labels = torch.full_like(tokens, IGNORE)  # [b s]
    labels[:, :-1] = tokens[:, 1:]
    return labels.masked_fill(tokens == eos, IGNORE)


# 02.2 cross_entropy


def guesses(generator: torch.Generator) -> Iterator[Case]:
    """Few tokens, some without a target, then scores so large that exp overflows."""
    kinds = [(1, 2, 3, 1.0), (4, 5, 7, 1.0), (6, 3, 11, 1.0), (5, 4, 9, 30.0), (7, 6, 5, 1.0)]
    for i, (n, d, size, scale) in enumerate(kinds):
        dtype = torch.float64 if i == 2 else torch.float32
        state = scale * torch.randn(n, d, generator=generator, dtype=dtype)  # [T d]
        head = math.sqrt(scale) * torch.randn(size, d, generator=generator, dtype=dtype)  # [V d]
        labels = torch.randint(0, size, (n,), generator=generator)  # [T]
        if i:
            labels[whole(generator, 0, n - 1)] = IGNORE
        label = f"T={n} d={d} V={size}"
        label += ", one without target" * (i > 0) + ", large scores" * (scale > 1)
        yield Case((state, head, labels), label)


def of_logits(state: Tensor, head: Tensor, labels: Tensor, **how: Any) -> Tensor:
    """torch's loss of the logits."""
    settings: dict[str, Any] = {"reduction": "sum"} | how
    return F.cross_entropy(state @ head.T, labels, **settings)


def padding_counted(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    return of_logits(state, head, labels.clamp(min=0))


def no_maximum(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    size = (state @ head.T).exp()  # [T V]
    logp = (size / size.sum(-1, keepdim=True)).log()  # [T V]
    real = labels != IGNORE
    return -logp[real].gather(-1, labels[real, None]).sum()


def softmax_twice(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy((state @ head.T).softmax(-1), labels, reduction="sum")


def logits_for_logp(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    real = labels != IGNORE
    return -(state @ head.T)[real].gather(-1, labels[real, None]).sum()


# 02.3 bigram


def bigram(tokens: Tensor, labels: Tensor, size: int, alpha: float) -> Tensor:
    """ln p(next | token) from counts, alpha added to each.  tokens, labels [b s] → [V V]"""
    real = labels != IGNORE
    count = torch.full((size, size), alpha)  # [V V]
    pairs = (tokens[real], labels[real])
    count.index_put_(pairs, torch.ones(()), accumulate=True)
    return (count / count.sum(-1, keepdim=True)).log()


def pairs(generator: torch.Generator) -> Iterator[Case]:
    """Few tokens, so that pairs repeat."""
    tokens, labels = torch.tensor([[0, 0, 1, 0]]), torch.tensor([[0, 1, 0, IGNORE]])
    yield Case((tokens, labels, 2, 1.0), "tokens 0 0 1 0")
    for b, s, size in [(1, 9, 3), (2, 11, 4), (3, 20, 5), (2, 30, 7)]:
        tokens = torch.randint(0, size, (b, s), generator=generator)  # [b s]
        labels = torch.full_like(tokens, IGNORE)  # [b s]
        labels[:, :-1] = tokens[:, 1:]
        labels[:, whole(generator, 1, s - 2)] = IGNORE
        alpha = whole(generator, 1, 8) / 4
        yield Case((tokens, labels, size, alpha), f"b={b} s={s} V={size}, alpha {alpha:g}")


def counted(tokens: Tensor, labels: Tensor, size: int) -> Tensor:
    """Counts only."""
    real = labels != IGNORE
    flat = (tokens[real] * size + labels[real]).bincount(minlength=size * size)
    return flat.reshape(size, size).float()


def shares(count: Tensor, axis: int | tuple[int, int] = -1) -> Tensor:
    """ln of each count's share of its row, column, or table."""
    return (count / count.sum(axis, keepdim=True)).log()


def smoothed_above_only(tokens: Tensor, labels: Tensor, size: int, alpha: float) -> Tensor:
    count = counted(tokens, labels, size)  # [V V]
    return ((count + alpha) / count.sum(-1, keepdim=True)).log()


# 02.4 bits_per_byte


def bits_per_byte(nats: Tensor, n_bytes: Tensor) -> float:
    """Σ bits / Σ bytes over all documents."""
    return (nats.sum() / math.log(2) / n_bytes.sum()).item()


def scores(generator: torch.Generator) -> Iterator[Case]:
    """Documents of very different lengths."""
    yield Case((torch.tensor([math.log(2)]), torch.tensor([1])), "one byte, a fair coin")
    for n in (2, 3, 5, 8):
        n_bytes = torch.randint(5, 400, (n,), generator=generator)  # [n]
        nats = n_bytes * (0.3 + torch.rand(n, generator=generator))  # [n]
        yield Case((nats, n_bytes), f"{n} documents")


EXERCISES = (
    Exercise(
        id="02.1",
        name="next_tokens",
        title="the label of every position",
        reference=next_tokens,
        cases=rows,
        mistakes=(
            Mistake(
                "no shift",
                "Each position is asked for the token it is given. The loss falls to zero within "
                "a few steps, and the model has learned to copy.",
                lambda tokens, eos, pad: tokens.masked_fill(
                    (tokens == eos) | (tokens == pad), IGNORE
                ),
            ),
            Mistake(
                "shifted the wrong way",
                "Each position is asked for the token before it, which attention has seen.",
                wrong_way,
            ),
            Mistake(
                "the row wraps around",
                "What follows the last token of a row is not known; `roll` brings the first one.",
                wraps_around,
            ),
            Mistake(
                "guesses the next document",
                "Behind EOS another document begins, chosen at random. That is noise: nobody can "
                "guess it, and every loss is too high by the same amount.",
                into_next_document,
            ),
            Mistake(
                "padding is a target",
                "A model learns at once that padding follows padding. These easy targets pull the "
                "mean loss down, the more the shorter the documents are.",
                padding_learned,
            ),
            Mistake(
                "the end is never learned",
                "EOS is a token to be predicted like any other, or the model never stops. It is "
                "behind EOS that nothing is left to predict.",
                end_not_learned,
            ),
        ),
        hints=(
            "Write one row and its labels below each other on paper.",
            "Three kinds of position have no target: the last of the row, EOS, and padding.",
            "Start with a tensor full of IGNORE, copy the row shifted by one into it, and look at "
            "`tokens`, not at the labels, to see where nothing follows.",
        ),
    ),
    Exercise(
        id="02.2",
        name="cross_entropy",
        title="the summed surprise, in nats",
        reference=loss.cross_entropy,
        cases=guesses,
        mistakes=(
            Mistake(
                "mean instead of sum",
                "Means of batches with different numbers of targets cannot be averaged: a token "
                "in a short batch would count more. We keep sums and divide once, at the end.",
                lambda state, head, labels: of_logits(state, head, labels, reduction="mean"),
            ),
            Mistake(
                "positions without target counted",
                "IGNORE marks positions that have nothing to predict; their loss is not there.",
                padding_counted,
            ),
            Mistake(
                "log2 instead of ln",
                "That is bits. torch, the papers and the gradients use nats; bits come in when "
                "we compare with bytes, by one division.",
                lambda state, head, labels: of_logits(state, head, labels) / math.log(2),
            ),
            Mistake(
                "exp before the maximum is gone",
                "exp(89) is beyond float32. Softmax does not change when a number is subtracted "
                "from all logits, so subtract the largest before exp.",
                no_maximum,
            ),
            Mistake(
                "softmax twice",
                "Logits are turned into probabilities, and these once more. The loss can then "
                "hardly fall below ln V, whatever the model learns.",
                softmax_twice,
            ),
            Mistake(
                "logits taken for log-probabilities",
                "A logit is only relative. Without the logarithm of the sum of all exps, the loss "
                "falls for ever by making every logit larger.",
                logits_for_logp,
            ),
            Mistake(
                "the sign is missing",
                "ln p is negative; surprise is −ln p.",
                lambda state, head, labels: -of_logits(state, head, labels),
            ),
        ),
        hints=(
            "First the logits: each state with each row of the head.",
            "ln softmax is the logit minus the logarithm of a sum; torch has it as one function "
            "that is safe for large logits. Which entry of each row is wanted?",
            "Throw the positions without target away before you gather: −100 is no index. Then "
            "gather along the last axis, change the sign, add up.",
        ),
        gradients=True,
    ),
    Exercise(
        id="02.3",
        name="bigram",
        title="a model by counting: ln p(next | token)",
        reference=bigram,
        cases=pairs,
        mistakes=(
            Mistake(
                "repeated pairs are lost",
                "`count[a, b] += 1` with index tensors writes each place once, however often the "
                "pair occurs. Adding needs accumulation.",
                lambda tokens, labels, size, alpha: shares(
                    (counted(tokens, labels, size) > 0) + alpha
                ),
            ),
            Mistake(
                "columns add up to one",
                "A row is the distribution of what follows one token: each row must sum to one.",
                lambda tokens, labels, size, alpha: shares(
                    counted(tokens, labels, size) + alpha, 0
                ),
            ),
            Mistake(
                "the whole table adds up to one",
                "That is the probability of a pair. A guess is made when the first token is known.",
                lambda tokens, labels, size, alpha: shares(
                    counted(tokens, labels, size) + alpha, (0, 1)
                ),
            ),
            Mistake(
                "smoothed above, not below",
                "What is added to the counts belongs into their sum too, or the probabilities of "
                "a row add up to more than one and the loss is too good to be true.",
                smoothed_above_only,
            ),
            Mistake(
                "predicts backwards",
                "Rows and columns are exchanged: this is what came before a token.",
                lambda tokens, labels, size, alpha: shares(counted(tokens, labels, size).T + alpha),
            ),
            Mistake(
                "positions without target counted",
                "IGNORE is no token; as an index, −100 is an error at best.",
                lambda tokens, labels, size, alpha: bigram(
                    tokens, labels.where(labels != IGNORE, 0), size, alpha
                ),
            ),
        ),
        hints=(
            "Two steps: a table of counts, then each row divided by its sum.",
            "`index_put_(…, accumulate=True)`, or `bincount` of token · V + label, counts repeats.",
            "Add alpha to the counts before you sum the row; leave out what is IGNORE; return "
            "logarithms.",
        ),
    ),
    Exercise(
        id="02.4",
        name="bits_per_byte",
        title="nats of documents to bits per byte",
        reference=bits_per_byte,
        cases=scores,
        mistakes=(
            Mistake(
                "mean of means",
                "The mean of ratios lets a short document count as much as a long one. A corpus "
                "is one long message: all bits over all bytes.",
                lambda nats, n_bytes: (nats / math.log(2) / n_bytes).mean().item(),
            ),
            Mistake(
                "nats per byte",
                "ln was not turned into log2. The number looks 31 % better than it is.",
                lambda nats, n_bytes: (nats.sum() / n_bytes.sum()).item(),
            ),
            Mistake(
                "multiplied by ln 2",
                "A bit is the smaller unit (0.69 nats), so there are more bits than nats.",
                lambda nats, n_bytes: (nats.sum() * math.log(2) / n_bytes.sum()).item(),
            ),
            Mistake(
                "bits per document",
                "That depends on how long the documents are. Bytes are what everybody shares.",
                lambda nats, n_bytes: (nats.sum() / math.log(2) / len(n_bytes)).item(),
            ),
        ),
        hints=(
            "How many bits is a nat? p = 1/2 is one bit, and −ln p of it is 0.693.",
            "Treat all documents as one: total bits over total bytes.",
            "Two sums, one division by the other, one more by ln 2.",
        ),
    ),
)

PREDICTIONS = (
    Prediction(
        "02.a",
        "What is the loss of a model with fresh weights on its first batch of tales?",
        "nats per token",
        2.0,
        0.0,
        50.0,
    ),
    Prediction(
        "02.b",
        "A uniform guess costs so many bits per byte of tales. What share of them does the best "
        "possible model still need?",
        "%",
        50.0,
        0.1,
        100.0,
    ),
)
