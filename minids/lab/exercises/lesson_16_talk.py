"""Lesson 16: a conversation as tokens, and the mean over what is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.data.tokenizer import Tokenizer
from minids.lab.exercise import Case, Exercise, Mistake
from minids.nn.loss import IGNORE
from minids.reason.chat import Example, Turn, conversation, encode_tagged

WORDS = ("", "2+2", "why?", "a b", "<think>x</think>", "<|eos|> 7", "</answer>", "<|user|>")
ANSWERS = ("4", "<think>2+2</think><answer>4</answer>", "so <|eos|>", "<answer>no</answer>")


@cache
def letters() -> Tokenizer:
    """A small vocabulary: copied for every attempt."""
    return Tokenizer.of_characters(["".join(map(chr, range(32, 127)))])


# 16.1 conversation


def talks(generator: torch.Generator) -> Iterator[Case]:
    """One turn each, then more; tags on both sides."""
    yield Case((letters(), turns("2+2", "4")), "one question")
    yield Case((letters(), turns("a b", "<think>c</think>d")), "the answer thinks")
    yield Case((letters(), turns("<answer>7<|eos|>", "no")), "the user types tags")
    for n in (2, 3):
        said = [pick(generator, group) for _ in range(n) for group in (WORDS, ANSWERS)]
        yield Case((letters(), turns(*said)), f"{n} questions")


def pick(generator: torch.Generator, group: Sequence[str]) -> str:
    return group[int(torch.randint(len(group), (), generator=generator))]


def turns(*said: str) -> list[Turn]:
    return [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(said)]


def with_rule(
    *, ends=("assistant",), read=None, learned=None, plain=False, start=True
):  # fmt: skip
    """conversation with a part of it otherwise: who ends, who may think, what is learned."""

    def answer(tokenizer, turns):
        tokens, learn = ([tokenizer.bos], [False]) if start else ([], [])
        for turn in turns:
            own, name = turn.role == "assistant", f"<|{turn.role}|>"
            tagged = own if read is None else read
            ids = encode_tagged(tokenizer, turn.text) if tagged else tokenizer.encode(turn.text)
            end = [tokenizer.eos] if turn.role in ends else []
            role = tokenizer.encode(name) if plain else [tokenizer.specials[name]]
            tokens += [*role, *ids, *end]
            parts = len(role), len(ids), len(end)
            flags = (False, own, own) if learned is None else learned(own)
            learn += [f for flag, n in zip(flags, parts, strict=True) for f in [flag] * n]
        return Example(tokens, learn)

    return answer


def of_the_next(tokenizer, turns):
    found = conversation(tokenizer, turns)
    return Example(found.tokens, [*found.learn[1:], False])


TALK = Exercise(
    id="16.1",
    name="conversation",
    title="a conversation as tokens",
    reference=conversation,
    cases=talks,
    mistakes=(
        Mistake(
            "prompt tokens in the loss",
            "What the user says is learned as well. The model is paid for asking questions, "
            "and in a long prompt the answer becomes a small part of the loss.",
            with_rule(learned=lambda _: (True, True, True)),
        ),
        Mistake(
            "the end is not learned",
            "The answer is learned but not that it ends there. Such a model goes on talking "
            "until its limit.",
            with_rule(learned=lambda own: (False, own, False)),
        ),
        Mistake(
            "no end of turn",
            "Nothing stands behind the assistant's words, so nothing can teach it to stop.",
            with_rule(ends=()),
        ),
        Mistake(
            "the user's turn ends too",
            "An end behind the user's words tells the model that the document is over before "
            "it has answered. The next role's token is end enough.",
            with_rule(ends=("user", "assistant")),
        ),
        Mistake(
            "the role is learned",
            "The assistant's token is put there by the program that asks. Learned, it costs "
            "targets that the model is never asked to foretell.",
            with_rule(learned=lambda own: (own, own, own)),
        ),
        Mistake(
            "roles written as text",
            "The name of a role becomes letters. Anybody can type those, and then the user "
            "speaks as the assistant.",
            with_rule(plain=True),
        ),
        Mistake(
            "the user may type tags",
            "A tag that the user writes becomes the special token itself: a question can "
            "close the thinking and give the answer.",
            with_rule(read=True),
        ),
        Mistake(
            "tags of the answer as letters",
            "The assistant's tags stay letters, so thinking costs eight tokens for a tag and "
            "no rule can find it by its id.",
            with_rule(read=False),
        ),
        Mistake(
            "learned one place early",
            "`learn` belongs to the token itself. The shift to the place that foretells it "
            "comes once, when rows are packed.",
            of_the_next,
        ),
        Mistake(
            "no beginning of document",
            "Every document of the base began with BOS; without it the first position is one "
            "that the model has never seen.",
            with_rule(start=False),
        ),
    ),
    hints=(
        "Write down one question with its answer token by token, and below it what is learned.",
        "Three parts make a turn: the token of the role, the text, an end for the assistant "
        "alone. Which of them does the model have to say by itself?",
        "Collect two lists in a loop over the turns, both begun by BOS. Text of the assistant "
        "goes through encode_tagged, text of the user through the tokenizer alone.",
    ),
)


# 16.4 completion_loss


def scored(generator: torch.Generator) -> Iterator[Case]:
    """Rows with few and many targets, one with none at all, both dtypes."""
    for i, (b, s, size) in enumerate(((1, 2, 3), (1, 5, 4), (2, 6, 5), (3, 9, 7))):
        logits = 2 * torch.randn(b, s, size, generator=generator)  # [b s V]
        labels = torch.randint(1, size, (b, s), generator=generator)  # [b s]
        labels[torch.rand(b, s, generator=generator) < 0.5] = IGNORE
        labels[:, 0], labels[:, -1] = IGNORE, 1
        labels[0, : s - 1] = IGNORE
        yield Case((logits.double() if i % 2 else logits, labels), f"b={b} s={s}")
    yield Case((torch.randn(1, 3, 4, generator=generator), torch.full((1, 3), IGNORE)), "none")


def completion_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Nats per learned token; 0 where nothing is to learn.  logits [b s V], labels [b s]"""
    total = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (labels != IGNORE).sum().clamp(min=1)


def nats(logits, labels):
    """−ln p of each label, 0 where there is none.  → [b s]"""
    real = labels != IGNORE
    logp = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return -logp * real


def over_everything(logits, labels):
    return nats(logits, labels).mean()


def mean_of_means(logits, labels):
    n = (labels != IGNORE).sum(-1).clamp(min=1)
    return (nats(logits, labels).sum(-1) / n).mean()


def ignored_are_tokens(logits, labels):
    return completion_loss(logits, labels.clamp(min=0))


def shifted_again(logits, labels):
    return completion_loss(logits[:, :-1], labels[:, 1:])


def summed(logits, labels):
    return nats(logits, labels).sum()


def empty_is_nan(logits, labels):
    return nats(logits, labels).sum() / (labels != IGNORE).sum()


LOSS = Exercise(
    id="16.4",
    name="completion_loss",
    title="the mean over what is learned",
    reference=completion_loss,
    cases=scored,
    mistakes=(
        Mistake(
            "mean over padding",
            "Every position is counted below the line, prompts and padding too. A batch with "
            "short answers then learns at a smaller rate than one with long answers.",
            over_everything,
        ),
        Mistake(
            "mean of means",
            "Each row is averaged first, so a token in a row with few targets weighs more than "
            "one in a full row, and packing differently changes the gradient.",
            mean_of_means,
        ),
        Mistake(
            "ignored labels are token 0",
            "Where nothing is to learn, the model is paid for saying token 0.",
            ignored_are_tokens,
        ),
        Mistake(
            "shifted a second time",
            "The labels are next tokens already. Shifted again the model learns to foretell "
            "the token after the next, and looks mediocre at everything.",
            shifted_again,
        ),
        Mistake(
            "a sum instead of a mean",
            "The sum grows with the batch, and with it the gradient. The library keeps sums, "
            "but it divides once before the step.",
            summed,
        ),
        Mistake(
            "nothing to learn is NaN",
            "A batch without a target divides zero by zero, and one such batch makes every "
            "weight NaN.",
            empty_is_nan,
        ),
    ),
    hints=(
        "How many numbers are added up, and how many of them are there to learn from?",
        "Add up −ln p over the real targets of all rows together, then divide once.",
        "cross_entropy has ignore_index and can give the sum. Count the targets yourself, and "
        "think of a batch that has none.",
    ),
    gradients=True,
)
