"""Lesson 18: thinking that is closed from outside, and thinking that is opened again."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minids.data.tokenizer import Tokenizer
from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.exercises.lesson_18_tries import whole
from minids.reason.budget import WAIT, closed, reopened

TEXTS = Tokenizer.of_characters("0123456789+= wait")
BEGIN, END, ANSWER = (TEXTS.specials[t] for t in ("<think>", "</think>", "<answer>"))
EOS = TEXTS.eos


def thought(generator: torch.Generator, n: int) -> list[int]:
    """The beginning of thinking and n digits of it."""
    return [BEGIN, *TEXTS.encode("".join(str(whole(generator, 0, 9)) for _ in range(n)))]


# 18.4 closed


def thoughts(generator: torch.Generator) -> Iterator[Case]:
    """Open and closed, below, at and beyond the budget; ended without an end of thinking."""
    one, few, many = (thought(generator, n) for n in (1, 4, 9))
    yield Case((TEXTS, [BEGIN], 3), "not begun")
    yield Case((TEXTS, one, 0), "no budget at all")
    yield Case((TEXTS, many, 4), "longer than its budget")
    yield Case((TEXTS, few, 4), "as long as its budget")
    yield Case((TEXTS, few, 20), "shorter, still open")
    yield Case((TEXTS, [*few, END], 20), "ended by itself")
    yield Case((TEXTS, [*few, END, ANSWER, *one[1:]], 20), "an answer begun")
    yield Case((TEXTS, [*many, END, ANSWER], 4), "ended, but too late")
    yield Case((TEXTS, [*few, EOS], 20), "the text ended")
    yield Case((TEXTS, [*few, EOS, *many[1:]], 6), "the text ended within its budget")


def closing(*, first=1, cut_own=True, begin=True, eos=False, rest=False, end=True):
    """closed, with a part of it otherwise."""

    def answer(tokenizer, said, budget):
        own = said[: said.index(END)] if END in said else said[: budget + first]
        if cut_own or END not in said:
            own = own[: budget + first]
        own = [i for i in own if eos or i != tokenizer.eos]
        if rest and END in said:
            return said
        return [*own, *[END] * end, *[ANSWER] * begin]

    return answer


CLOSE = Exercise(
    id="18.4",
    name="closed",
    title="thinking closed within its budget",
    reference=closed,
    cases=thoughts,
    mistakes=(
        Mistake(
            "<think> is counted",
            "The tag that begins it uses up a token of the budget. Counted is what is thought.",
            closing(first=0),
        ),
        Mistake(
            "its own end is not cut",
            "Thinking that ended by itself is kept whole, however late it ended.",
            closing(cut_own=False),
        ),
        Mistake(
            "the answer is not begun",
            "Behind the end of thinking the model is free to write anything. Told to answer, it "
            "must.",
            closing(begin=False),
        ),
        Mistake(
            "the end of text is kept",
            "A completion that stopped inside its thinking still holds the end token. What "
            "follows would be read as another document.",
            closing(eos=True),
        ),
        Mistake(
            "what follows its end is kept",
            "An answer that was begun stays, and the model cannot be asked for it again.",
            closing(rest=True),
        ),
        Mistake(
            "cut, but not closed",
            "The end of thinking is missing: the model does not know that it is to answer.",
            closing(end=False),
        ),
    ),
    hints=(
        "Where does the thinking end: at its own end, or at the budget? What stands behind it?",
        "Take what comes before </think>, if that is there; then no more than the budget; the "
        "first token is <think> itself.",
        "The end of text has no place inside. Two tags close it: that which ends thinking and "
        "that which begins an answer.",
    ),
)


# 18.5 reopened


def ended(generator: torch.Generator) -> Iterator[Case]:
    """With room, with too little, and exactly as much as the word takes."""
    word = len(TEXTS.encode(WAIT))
    for n in (1, 5):
        said = [*thought(generator, n), END, ANSWER]
        yield Case((TEXTS, said, 60), f"{n} tokens, much room")
        yield Case((TEXTS, said, n + 1 + word), "just enough room")
        yield Case((TEXTS, said, n + word), "one token short")
        yield Case((TEXTS, said, n), "no room")
    yield Case((TEXTS, [BEGIN, END, ANSWER], 60), "nothing thought")


def opening(build, fits=lambda own, longer, budget: len(longer) <= budget):  # noqa: ARG005
    """reopened, made otherwise."""

    def answer(tokenizer, said, budget):
        own = said[: said.index(END)]
        longer = build(own, said, tokenizer.encode(WAIT))
        return longer if fits(own, own + tokenizer.encode(WAIT), budget) else said

    return answer


REOPEN = Exercise(
    id="18.5",
    name="reopened",
    title="thinking opened again",
    reference=reopened,
    cases=ended,
    mistakes=(
        Mistake(
            "the word stands behind the end",
            "The thinking stays closed and the word comes after it, where an answer is due.",
            opening(lambda own, said, word: said + word),  # noqa: ARG005
        ),
        Mistake(
            "the end stays",
            "</think> stands before the word: to the model the thinking is over.",
            opening(lambda own, said, word: [*own, END, *word]),  # noqa: ARG005
        ),
        Mistake(
            "opened without a word",
            "Nothing is put in place of the end. The model has just decided to stop here, and "
            "will again.",
            opening(lambda own, said, word: own),  # noqa: ARG005
        ),
        Mistake(
            "the budget is forgotten",
            "It is opened however little is left, and would be cut inside the word.",
            opening(lambda own, said, word: own + word, lambda own, longer, budget: True),  # noqa: ARG005
        ),
        Mistake(
            "the word is not counted",
            "The thinking fits its budget, the thinking with the word does not.",
            opening(
                lambda own, said, word: own + word,  # noqa: ARG005
                lambda own, longer, budget: len(own) <= budget,  # noqa: ARG005
            ),
        ),
        Mistake(
            "everything begins anew",
            "The first thoughts are thrown away, and with them what there was to reconsider.",
            opening(lambda own, said, word: [BEGIN, *word]),  # noqa: ARG005
        ),
    ),
    hints=(
        "What must the model not see any more, and what stands there instead?",
        "Thinking up to its end, then WAIT as tokens; if that is longer than the budget, `said` "
        "comes back as it was.",
        "Cut at the place of </think>, put encode(WAIT) behind, and compare the length of all "
        "of it, <think> and word included.",
    ),
)
