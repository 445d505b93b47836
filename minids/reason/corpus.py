"""Text for a base model that has seen reasoning, but seldom: what RL can find is already in it.

A base model is no blank page. This corpus is a small, honest copy of that: most answers in it are
hasty or wrong, some are without form, one in ten is worked out step by step and right. So a
base model trained on it answers right about as seldom, and what reward does afterwards is to select
a habit that the text holds; it does not invent one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from minids.data.tokenizer import Tokenizer
from minids.reason.chat import Example, everything, example
from minids.reason.tasks import Problem, problem

STYLES = {  # share of the text · is it right · has it the form that is paid
    "worked": 0.10,  # right · yes: scratchpad and answer in their tags
    "slip": 0.10,  # wrong · yes: the same with one wrong digit, carried into the answer
    "hasty": 0.52,  # wrong · yes: no thinking, a guess
    "bare": 0.28,  # wrong · no: a guess without tags
}


def written(generator: random.Random, made: Problem, style: str) -> str:
    """A completion in one of the styles."""
    if style == "worked":
        return made.completion
    if style == "slip":
        scratchpad = with_slip(generator, made.scratchpad)
        return f"<think>{scratchpad}</think><answer>{guess(generator, made.answer)}</answer>"
    wrong = guess(generator, made.answer)
    return f"<think></think><answer>{wrong}</answer>" if style == "hasty" else wrong


def with_slip(generator: random.Random, text: str) -> str:
    """One digit or letter of a scratchpad replaced by another of its kind."""
    places = [i for i, c in enumerate(text) if c.isalnum()]
    if not places:
        return text
    at = generator.choice(places)
    return text[:at] + other(generator, text[at]) + text[at + 1 :]


def guess(generator: random.Random, answer: str) -> str:
    """An answer of the right look that is not the right one."""
    places = [i for i, c in enumerate(answer) if c.isalnum()]
    found = answer
    while found == answer or leading_zero(found):
        found = answer
        for at in generator.sample(places, min(len(places), generator.randint(1, 2))):
            found = found[:at] + other(generator, found[at]) + found[at + 1 :]
    return found


def leading_zero(text: str) -> bool:
    """Whether a number begins with a zero that nobody writes."""
    return len(text) > 1 and text[0] == "0" and text[1].isdigit()


def other(generator: random.Random, c: str) -> str:
    """Another digit for a digit, another of T and L or A … E for a letter."""
    kind = "0123456789" if c.isdigit() else "TL" if c in "TL" else "ABCDE"
    return generator.choice([x for x in kind if x != c])


def base_text(
    tokenizer: Tokenizer, tasks: Sequence[tuple[str, int]], n: int, seed: int
) -> Iterator[Example]:
    """n documents in all styles, learned from their first token on; no held-out problem."""
    for i in range(n):
        generator = random.Random(f"corpus {seed} {i}")
        name, level = tasks[i % len(tasks)]
        made = problem(name, generator.randint(1, level), seed, i)
        style = generator.choices(list(STYLES), list(STYLES.values()))[0]
        yield everything(example(tokenizer, made.prompt, written(generator, made, style)))


def worked_examples(
    tokenizer: Tokenizer, tasks: Sequence[tuple[str, int]], n: int, seed: int
) -> Iterator[Example]:
    """n reference completions for a cold start, learned from where the assistant begins."""
    for i in range(n):
        name, level = tasks[i % len(tasks)]
        made = problem(name, level, seed, i)
        yield example(tokenizer, made.prompt, made.completion)
