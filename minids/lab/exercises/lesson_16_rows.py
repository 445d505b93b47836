"""Lesson 16: several examples in a row, and who may see whom in it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.attention import visible
from minids.nn.loss import IGNORE
from minids.reason.chat import Example
from minids.reason.packed import pack
from minids.reason.sft import own_segment

PAD = 7


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One of low … high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def made(generator: torch.Generator, n: int) -> Example:
    """n tokens; the first is never learned, one later always."""
    tokens = torch.randint(10, 90, (n,), generator=generator).tolist()
    learn = (torch.rand(n, generator=generator) < 0.5).tolist()
    learn[0] = False
    if n > 2:
        learn[1], learn[2] = False, True
    return Example(tokens, learn)


# 16.2 pack


def filled(generator: torch.Generator) -> Iterator[Case]:
    """Full rows, rows with room, an empty one."""
    one = made(generator, 4)
    yield Case(([[one]], 4, PAD), "one example, a full row")
    yield Case(([[one, made(generator, 5)]], 12, PAD), "two examples and padding")
    for b, context in ((2, 16), (3, 21)):
        rows = [[made(generator, whole(generator, 2, 6)) for _ in range(3)] for _ in range(b)]
        yield Case(([*rows, []], context, PAD), f"{b} rows and an empty one")


def changed(part, how):
    """pack, with one of its four tables made otherwise."""

    def answer(rows, context, pad):
        found = pack(rows, context, pad)
        return found._replace(**{part: how(rows, found, pad)})

    return answer


def placed(rows, found):
    """row, first place, number and example of everything packed."""
    for row, examples in enumerate(rows):
        start = 0
        for number, example in enumerate(examples, start=1):
            yield row, start, number, example
            start += len(example.tokens)
    assert len(found.tokens) == len(rows)


def all_learned(rows, found, pad):  # noqa: ARG001
    labels = torch.full_like(found.tokens, IGNORE)
    for row, start, _, example in placed(rows, found):
        n = len(example.tokens)
        labels[row, start : start + n - 1] = torch.tensor(example.tokens[1:])
    return labels


def own_token(rows, found, pad):  # noqa: ARG001
    labels = torch.full_like(found.tokens, IGNORE)
    for row, start, _, example in placed(rows, found):
        ids, learn = torch.tensor(example.tokens), torch.tensor(example.learn)
        labels[row, start : start + len(ids)] = ids.where(learn, IGNORE)
    return labels


def mask_behind(rows, found, pad):  # noqa: ARG001
    labels = torch.full_like(found.tokens, IGNORE)
    for row, start, _, example in placed(rows, found):
        ids, learn = torch.tensor(example.tokens), torch.tensor(example.learn)
        labels[row, start : start + len(ids) - 1] = ids[1:].where(learn[:-1], IGNORE)
    return labels


def padding_learned(rows, found, pad):  # noqa: ARG001
    return found.labels.masked_fill(found.segment == 0, pad)


def running(rows, found, pad):  # noqa: ARG001
    return torch.arange(found.tokens.shape[1]).expand_as(found.tokens).clone()


def running_in_the_row(rows, found, pad):
    return running(rows, found, pad) * (found.segment > 0)


def one_number(rows, found, pad):  # noqa: ARG001
    return (found.segment > 0).long()


def from_zero(rows, found, pad):  # noqa: ARG001
    return (found.segment - 1).clamp(min=0)


ROWS = Exercise(
    id="16.2",
    name="pack",
    title="several examples in a row",
    reference=pack,
    cases=filled,
    mistakes=(
        Mistake(
            "prompt tokens in the loss",
            "Every next token of an example is a target, whatever its `learn` says: questions "
            "are learned like answers.",
            changed("labels", all_learned),
        ),
        Mistake(
            "labels not shifted",
            "A position's label is the token it has just read. The loss falls to nothing at "
            "once, and the model has learned to repeat.",
            changed("labels", own_token),
        ),
        Mistake(
            "labels shifted but not the mask",
            "`learn` speaks of the token that is foretold, not of the one that was read. One "
            "place off, the first word of every answer is lost.",
            changed("labels", mask_behind),
        ),
        Mistake(
            "padding is learned",
            "Behind the examples the label is the padding token. A batch with much room then "
            "teaches mostly to pad.",
            changed("labels", padding_learned),
        ),
        Mistake(
            "positions run on",
            "The second example begins at the position where the first ended: it is not the "
            "text it would be alone.",
            changed("positions", running_in_the_row),
        ),
        Mistake(
            "positions of padding too",
            "The positions are those of the row, through examples and padding. Each example "
            "has positions of its own.",
            changed("positions", running),
        ),
        Mistake(
            "one number for the row",
            "All examples of a row carry the same number, so each may look at those before "
            "it: the leak that packing is feared for.",
            changed("segment", one_number),
        ),
        Mistake(
            "numbers begin at zero",
            "Zero means padding. The first example of every row is treated as if it were none.",
            changed("segment", from_zero),
        ),
    ),
    hints=(
        "Four tables of one shape. What stands in each where no example lies?",
        "Fill the four tables with their padding first, then write one example after the other "
        "into a slice of its row.",
        "An example of n tokens fills n places of three tables and n − 1 of the labels: place i "
        "gets token i + 1 where that one is learned.",
    ),
)


# 16.3 own_segment


def numbered(generator: torch.Generator) -> Iterator[Case]:
    """Examples and padding in rows; several rows that differ."""
    yield Case((torch.tensor([[1, 1, 2]]),), "two examples")
    yield Case((torch.tensor([[1, 2, 2, 0, 0]]),), "two examples and padding")
    for b, s in ((2, 6), (3, 9)):
        steps = torch.rand(b, s, generator=generator) < 0.35  # [b s]
        segment = steps.cumsum(-1) + 1  # [b s]
        segment[0, -2:] = 0
        segment[1, : s // 2], segment[1, s // 2 :] = 1, 2
        yield Case((segment,), f"b={b} s={s}")


def same(segment):
    return (segment[:, :, None] == segment[:, None, :])[:, None]


def real_and_past(segment):
    s = segment.shape[1]
    return visible(s, s, segment > 0, segment.device)


def ahead(segment):
    return same(segment) & (segment > 0)[:, None, None]


def padding_seen(segment):
    s = segment.shape[1]
    return same(segment) & visible(s, s, None, segment.device)


def forward(segment):
    return ahead(segment).triu()


def first_row(segment):
    return own_segment(segment)[:1].expand(len(segment), -1, -1, -1)


def not_itself(segment):
    return own_segment(segment).tril(-1)


MASK = Exercise(
    id="16.3",
    name="own_segment",
    title="who may look at whom in a row",
    reference=own_segment,
    cases=numbered,
    mistakes=(
        Mistake(
            "neighbours in the row are seen",
            "Each example looks at those before it in the row. Its answer then depends on who "
            "happened to be packed beside it.",
            real_and_past,
        ),
        Mistake(
            "the future is seen",
            "Inside an example everything is open, the answer included. The loss falls, and "
            "sampling has nothing of it.",
            ahead,
        ),
        Mistake(
            "padding is looked at",
            "Places of padding see one another. Nothing is learned there, but experts are kept "
            "busy by it and every average over keys is wrong.",
            padding_seen,
        ),
        Mistake(
            "forward instead of back",
            "Each place sees itself and what follows: the mask is turned round.",
            forward,
        ),
        Mistake(
            "one mask for all rows",
            "The borders of the first row are used everywhere, though each row is packed "
            "otherwise.",
            first_row,
        ),
        Mistake(
            "a place does not see itself",
            "The token just read is hidden, and the first of every example sees nothing.",
            not_itself,
        ),
    ),
    hints=(
        "Draw the table for the numbers 1 1 2 2 0 with pencil: who sees whom?",
        "Three conditions hold at once: the same number, not ahead, no padding.",
        "Compare the numbers as a column with the numbers as a row. visible(s, s, real, device) "
        "knows the other two conditions.",
    ),
)
