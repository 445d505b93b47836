"""Lesson 17: the rule of Countdown, and where in a completion the answer stands."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.exercises.lesson_17_read import whole
from minids.reason.rewards import TAGS, split_completion
from minids.reason.tasks_numbers import random_expression
from minids.reason.verify import (
    LONGEST_COMPLETION,
    Parser,
    Refused,
    Verdict,
    evaluate,
    read_tokens,
    verify_expression,
)

# 17.3 verify_expression

GAMES = (  # text, numbers, target, what it tries
    ("2+3*4", [2, 3, 4], 14, "right"), ("8/(3-8/3)", [8, 3, 8, 3], 24, "right, by fractions"),
    ("5-8", [8, 5], -3, "right, below zero"), ("2+3", [2, 3], 6, "another value"),
    ("5-8", [5, 8], 3, "the sign forgotten"), ("5+5", [5, 3], 10, "a number used twice"),
    ("4*4", [4, 2], 16, "used twice, the other left out"), ("7", [7, 3], 7, "a number left out"),
    ("7*1", [7], 7, "one too many"), ("12", [1, 2], 12, "two glued together"),
    ("3+4", [4, 3], 7, "another order"), ("3*3", [3, 3], 9, "given twice, used twice"),
    ("7/2", [7, 2], 3, "rounded down"), ("11/4", [11, 4], 3, "rounded"),
    ("99999/33334", [99999, 33334], 3, "very near"), ("4/(2-2)", [4, 2, 2], 0, "by zero"),
    ("0/0", [0, 0], 0, "zero by zero"), ("1/0", [1], 0, "by zero, other numbers"),
    ("2**3", [2, 3], 8, "a power"), ("7//2", [7, 2], 3, "a whole division"),
    ("1.5*4", [1, 5, 4], 6, "a point"), ("-2+5", [2, 5], 3, "a sign before a number"),
    ("3+4\n", [3, 4], 7, "a line feed"), ("04+1", [4, 1], 5, "a leading zero"),
    ("3+4=7", [3, 4, 7], 7, "an equation"), ("(3+4", [3, 4], 7, "half a parenthesis"),
    ("2(3)", [2, 3], 6, "no sign"), ("", [], 0, "nothing"), ("()", [], 0, "an empty pair"),
    ("abc", [3], 3, "letters"), ("(" * 20 + "5" + ")" * 20, [5], 5, "very deep"),
)  # fmt: skip


def games(generator: torch.Generator) -> Iterator[Case]:
    """Every trap, then random expressions that are right, or near it."""
    for text, numbers, target, label in GAMES:
        yield Case((text, numbers, target), label)
    chance = Random(whole(generator, 0, 10**6))
    for i in range(6):
        numbers = [chance.randint(1, 9) for _ in range(4)]
        text, value = random_expression(chance, numbers)
        yield Case((text, numbers, int(value) + i % 2), "at random")


def kind_of(answer: Any, case: Case) -> Any:
    """Only the kind of the verdict is asked for."""
    found = answer(*case.args)
    return found.kind if isinstance(found, Verdict) else f"no Verdict: {found!r}"


def judging(
    *,
    numbers_fit=lambda used, given: Counter(used) == Counter(given),
    hits=lambda value, target: value == target,
    failed=lambda refused: refused.verdict,
):
    """verify_expression, with a part of it otherwise."""

    def answer(text, numbers, target):
        try:
            tree, used = Parser(read_tokens(text)).whole()
            if not numbers_fit(used, numbers):
                return Verdict("wrong_numbers", "not those given")
            value = evaluate(tree)
        except Refused as refused:
            return failed(refused)
        return Verdict("correct" if hits(value, target) else "wrong_value", "")

    return answer


def filtered_eval(text, numbers, target):
    """Digits, signs and blanks let through, the rest left to Python."""
    if not re.fullmatch(r"[\d\s+\-*/().]+", text):
        return Verdict("malformed", "other characters")
    if sorted(map(int, re.findall(r"\d+", text))) != sorted(numbers):
        return Verdict("wrong_numbers", "not those given")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 2(3)
            value = eval(text)  # noqa: S307  the mistake itself, on texts of our own
    except ZeroDivisionError:
        return Verdict("undefined", "divides by zero")
    except Exception:
        return Verdict("malformed", "no expression")
    near = isinstance(value, (int, float)) and abs(value - target) < 1e-6
    return Verdict("correct" if near else "wrong_value", "")


def zero_if_undefined(text, numbers, target):
    found = verify_expression(text, numbers, target)
    if found.kind != "undefined":
        return found
    return Verdict("correct" if target == 0 else "wrong_value", "")


JUDGE = Exercise(
    id="17.3",
    name="verify_expression",
    title="the rule of Countdown",
    reference=verify_expression,
    cases=games,
    mistakes=(
        Mistake(
            "eval behind a filter",
            "The filter lets powers, whole divisions, points and line feeds through, and the "
            "value is computed in floats. 9**9**9 passes it and never comes back.",
            filtered_eval,
        ),
        Mistake(
            "numbers are not looked at",
            "The value alone decides. Writing down the target is then always right.",
            judging(numbers_fit=lambda used, given: True),  # noqa: ARG005
        ),
        Mistake(
            "a number may be used twice",
            "Compared as sets, 4*4 uses only given numbers. How often counts as well.",
            judging(numbers_fit=lambda used, given: set(used) <= set(given)),
        ),
        Mistake(
            "numbers may be left out",
            "Given numbers stay unused, and hard problems become easy ones.",
            judging(numbers_fit=lambda used, given: Counter(used) <= Counter(given)),
        ),
        Mistake(
            "numbers in the order given",
            "The order of the numbers is free; here half of all right answers are called wrong.",
            judging(numbers_fit=lambda used, given: used == given),
        ),
        Mistake(
            "near the target is enough",
            "A tolerance that is made for floats pays answers that miss. The value is exact, so "
            "the comparison can be.",
            judging(hits=lambda value, target: abs(float(value) - target) < 1e-3),
        ),
        Mistake(
            "rounded to the target",
            "7/2 counts as 3 or as 4, whichever is asked for.",
            judging(hits=lambda value, target: round(value) == target),
        ),
        Mistake(
            "the sign is forgotten",
            "5-8 counts as 3: a difference taken the wrong way round is paid.",
            judging(hits=lambda value, target: abs(value) == abs(target)),
        ),
        Mistake(
            "undefined counts as zero",
            "A division by zero is paid where the target is 0.",
            zero_if_undefined,
        ),
        Mistake(
            "a refusal is paid",
            "What cannot be read is called right. Whatever is not surely right must earn "
            "nothing: a rule fails closed.",
            judging(failed=lambda _: Verdict("correct", "")),
        ),
    ),
    hints=(
        "Four things in order: read, parse, are these the given numbers, is this the value.",
        "Parser(tokens).whole() gives the tree and the numbers it used. How often each occurs "
        "counts, their order does not.",
        "Counter compares how often. Numbers are judged before the value is computed; a Refused "
        "from any step carries its verdict, and that is what goes back.",
    ),
    call=kind_of,
)


# 17.4 split_completion

GOOD = "<think>1+1</think><answer>2</answer>"


def completions(generator: torch.Generator) -> Iterator[Case]:
    """The form itself, and every way around it."""
    middle = whole(generator, 10, 99)
    texts = {
        GOOD: "as asked for",
        f" <think>\n{middle}\n</think>\n <answer> {middle} </answer>\n": "blanks between",
        "<think></think><answer></answer>": "empty",
        "<answer>2</answer>": "no thinking",
        f"<think>1+1</think>{middle}": "no answer",
        "": "nothing",
        f"{GOOD}<answer>3</answer>": "a second answer",
        f"<think>1</think><answer>{middle}<answer>2</answer>": "an answer not closed",
        f"{GOOD}{GOOD}": "everything twice",
        f"<think>is it <answer>{middle}</answer>?</think><answer>2</answer>": "one in thought",
        f"so: {GOOD}": "text before",
        f"<think>1</think>so<answer>{middle}</answer>": "text between",
        f"{GOOD} or {middle}": "text behind",
        f"{GOOD}.": "a point behind",
        f"<think>{middle}</think>.<answer>2</answer>": "a point between",
        f"?{GOOD}": "a mark before",
        "<answer>2</answer><think>1+1</think>": "the answer first",
        "</think>1+1<think><answer>2</answer>": "tags turned round",
        "<think>1+1<answer>2</think></answer>": "tags crossed",
        "<think><think>1</think></think><answer>2</answer>": "thoughts nested",
        "<think>1</think></answer>2<answer>": "the answer turned round",
        f"<think>{'x' * (LONGEST_COMPLETION - len(GOOD) + 3)}</think><answer>2</answer>": "longest",
        f"<think>{'x' * (LONGEST_COMPLETION - len(GOOD) + 4)}</think><answer>2</answer>": "longer",
    }
    for text, label in texts.items():
        yield Case((text,), label)


def parts_of(answer: Any, case: Case) -> Any:
    """(thinking, answer), or the kind of the refusal: the reason is free."""
    found = answer(*case.args)
    return ("refused", found.kind) if isinstance(found, Verdict) else found


def between(text, opening, closing, last=False):
    """What stands between two tags, the first or the last such pair; None if there is none."""
    found = re.findall(f"{re.escape(opening)}(.*?){re.escape(closing)}", text, re.DOTALL)
    return (found[-1] if last else found[0]) if found else None


def picking(last, thought=True):
    """split_completion, with a pattern for each pair of tags."""

    def answer(text):
        if len(text) > LONGEST_COMPLETION:
            return Verdict("too_big", "too long")
        thinking = between(text, "<think>", "</think>")
        found = between(text, "<answer>", "</answer>", last)
        if found is None or (thought and thinking is None):
            return Verdict("malformed", "a tag is missing")
        return thinking or "", found

    return answer


def greedy(text):
    if len(text) > LONGEST_COMPLETION:
        return Verdict("too_big", "too long")
    found = re.fullmatch(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", text, re.DOTALL)
    return found.groups() if found else Verdict("malformed", "not the form")


def loose(text):
    if len(text) > LONGEST_COMPLETION:
        return Verdict("too_big", "too long")
    if any(text.count(tag) != 1 for tag in TAGS):
        return Verdict("malformed", "not once")
    a, b, c, d = (text.index(tag) for tag in TAGS)
    if not a < b < c < d:
        return Verdict("malformed", "order")
    return text[a + len("<think>") : b], text[c + len("<answer>") : d]


def any_order(text):
    if len(text) > LONGEST_COMPLETION:
        return Verdict("too_big", "too long")
    if any(text.count(tag) != 1 for tag in TAGS):
        return Verdict("malformed", "not once")
    a, b, c, d = (text.index(tag) for tag in TAGS)
    return text[a + len("<think>") : b], text[c + len("<answer>") : d]


def unbounded(text):
    if len(text) <= LONGEST_COMPLETION:
        return split_completion(text)
    return between(text, "<think>", "</think>"), between(text, "<answer>", "</answer>")


SPLIT = Exercise(
    id="17.4",
    name="split_completion",
    title="the thinking and the one answer",
    reference=split_completion,
    cases=completions,
    mistakes=(
        Mistake(
            "the first answer counts",
            "A second answer is overlooked. Whoever reads the last one by another rule sees "
            "another answer than the one that was paid.",
            picking(last=False),
        ),
        Mistake(
            "the last answer counts",
            "Several answers are several tries. An answer tried in thought, or behind the first "
            "one, is paid as if it were the only one.",
            picking(last=True),
        ),
        Mistake(
            "thinking is not asked for",
            "Without its tags the completion is accepted too, so the form earns nothing and "
            "will not be kept.",
            picking(last=True, thought=False),
        ),
        Mistake(
            "a pattern that reaches too far",
            "The pattern takes everything from the first tag to the last, tags inside included. "
            "Only one of each may stand there at all.",
            greedy,
        ),
        Mistake(
            "text outside the tags",
            "Something stands before, between or behind. A policy that may add text there will "
            "use it, if only to answer twice.",
            loose,
        ),
        Mistake(
            "tags in any order",
            "Each tag is there once, but turned round or crossed, and what stands between them "
            "is not what it seems.",
            any_order,
        ),
        Mistake(
            "length is not limited",
            "A completion of any length is searched. The limit comes before the first look.",
            unbounded,
        ),
    ),
    hints=(
        "What must be true of the whole text, before you look for the answer in it?",
        "Each of the four tags once, in their order, and nothing but blanks outside.",
        "Count each of TAGS, find the four places, ask whether they rise, and strip the three "
        "pieces that lie outside: all must be empty.",
    ),
    call=parts_of,
)
