"""Lesson 17: an answer that nobody may trust, read into tokens; its exact value."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch

from minids.lab.exercise import Case, Exercise, Mistake
from minids.reason.verify import (
    DEEPEST,
    DIGITS,
    LONGEST,
    MARKS,
    MOST_TOKENS,
    Parser,
    Refused,
    check_literal,
    evaluate,
    read_tokens,
    within,
)


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One of low … high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def or_refusal(answer: Any, case: Case) -> Any:
    """What comes out, a refusal as its kind: the reason is free."""
    try:
        return answer(*case.args)
    except Refused as refused:
        return "refused", refused.verdict.kind


# 17.1 read_tokens

STRINGS = {
    "2+3": "plain", "12*(3-1)/4": "numbers of two digits", " 8 - 5 ": "blanks",
    "": "nothing", "1 2": "two numbers", "٣+٤": "digits of another script",
    "²": "a raised digit", "3\t+4": "a tab", "3+4\n": "a line feed", "3\u00a0+4": "a hard blank",
    "3+4#5": "a comment", "x+1": "a letter", "1.5*4": "a point", "1_2": "an underscore",
    "04+1": "a leading zero", "0*7": "zero alone", "1234567": "seven digits",
    "999999": "six digits", ")(": "parentheses the wrong way", "2**3": "a double sign",
    "(" * DEEPEST + "5" + ")" * DEEPEST: "as deep as allowed",
    "(" * (DEEPEST + 1) + "5" + ")" * (DEEPEST + 1): "one deeper",
    "()" * (DEEPEST + 2): "many, but not deep", "+" * MOST_TOKENS: "as many as allowed",
    "1+" * (MOST_TOKENS // 2) + "1": "one token more", "9 " * 40: "eighty characters",
    "5" + " " * (LONGEST - 1): "as long as allowed", "5" + " " * LONGEST: "one longer",
}  # fmt: skip


def readings(generator: torch.Generator) -> Iterator[Case]:
    """Every trap, then random texts of legal characters and a few others."""
    for text, label in STRINGS.items():
        yield Case((text,), label)
    for _ in range(6):
        letters = [DIGITS + MARKS + " " + ". x"[: whole(generator, 0, 1)]] * whole(generator, 3, 30)
        text = "".join(group[whole(generator, 0, len(group) - 1)] for group in letters)
        yield Case((text,), "at random")


def reading(
    *,
    digit=lambda c: c in DIGITS,
    blank=lambda c: c == " ",
    literal=check_literal,
    longest=within,
    most=MOST_TOKENS,
    deepest=DEEPEST,
    one=False,
):
    """read_tokens, with a part of it otherwise."""

    def answer(text):
        longest(text, LONGEST)
        tokens, at, depth = [], 0, 0
        while at < len(text):
            c, end = text[at], at + 1
            if digit(c):
                while not one and end < len(text) and digit(text[end]):
                    end += 1
                tokens.append(literal(text[at:end]))
            elif c in MARKS:
                tokens.append(c)
            elif not blank(c):
                raise Refused("malformed", "no such character")
            at = end
        if len(tokens) > most:
            raise Refused("too_big", "too many tokens")
        for token in tokens:
            depth += (token == "(") - (token == ")")
            if depth > deepest:
                raise Refused("too_big", "too deep")
        return tokens

    return answer


def found_by_pattern(text):
    within(text, LONGEST)
    return re.findall(r"[0-9]+|[-+*/()]", text)


def joined_first(text):
    return read_tokens(text.replace(" ", ""))


READ = Exercise(
    id="17.1",
    name="read_tokens",
    title="characters into tokens, nothing else let through",
    reference=read_tokens,
    cases=readings,
    mistakes=(
        Mistake(
            "digits of every script",
            "isdigit says yes to ٣ and ². int reads the one and stops at the other: an answer "
            "that no reader of the game would call one is paid, or the rule crashes.",
            reading(digit=str.isdigit),
        ),
        Mistake(
            "every blank is let through",
            "Tabs, line feeds and hard blanks pass as blanks. Whoever reads the answer later by "
            "another rule sees something else.",
            reading(blank=str.isspace),
        ),
        Mistake(
            "unknown characters are skipped",
            "A pattern picks what it knows and is silent about the rest: 1.5 becomes 1 and 5, a "
            "comment smuggles in a number.",
            found_by_pattern,
        ),
        Mistake(
            "anything else is a blank",
            "What is neither digit nor sign is passed over instead of refused.",
            reading(blank=lambda _: True),
        ),
        Mistake(
            "a digit is a number",
            "12 becomes 1 and 2: two legal small numbers from one that was not given.",
            reading(one=True),
        ),
        Mistake(
            "blanks are taken out first",
            "Without its blank, 1 2 becomes 12: two numbers are glued into a third.",
            joined_first,
        ),
        Mistake(
            "leading zeros are read",
            "007 is accepted. Numbers need one way to be written, and no end of digits.",
            reading(literal=lambda digits: digits),
        ),
        Mistake(
            "length is not limited",
            "A million characters are read before anyone says no.",
            reading(longest=lambda *_: None),
        ),
        Mistake(
            "depth is not limited",
            "Each parenthesis is a call of the parser. A deep enough answer ends the program.",
            reading(deepest=10**9),
        ),
        Mistake(
            "tokens are not counted",
            "A long chain of small numbers is more work than any answer of the game needs.",
            reading(most=10**9),
        ),
    ),
    hints=(
        "Bound the length first. Then go from character to character: there are four kinds.",
        "A digit begins a number that reaches as far as digits do; a sign stands for itself; a "
        "blank is passed over; everything else is refused. `in DIGITS` asks the right question.",
        "In a loop with a position: find where the piece ends, hand digits to check_literal, "
        "and at the end count tokens and the depth of parentheses.",
    ),
    call=or_refusal,
)


# 17.2 evaluate

WRITTEN = (
    "7", "2+3", "5-8", "2*3", "8/4", "8/3", "1/3*3", "6/(1-3/4)", "0/5", "5/0", "0/0", "4/(2-2)",
    "1/(1/3-1/3)", "8-4-2", "8/4/2", "999999*999999/999999", "2-9/2",
)  # fmt: skip


def trees(generator: torch.Generator) -> Iterator[Case]:
    """Trees of the game's size, some divisions by zero."""
    for text in WRITTEN:
        yield Case((Parser(read_tokens(text)).whole()[0],), text)
    for _ in range(10):
        yield Case((grown(generator, 3),), "at random")


def grown(generator: torch.Generator, depth: int) -> Any:
    """A random tree."""
    if depth == 0 or whole(generator, 0, 3) == 0:
        return whole(generator, 0, 12)
    sign = "+-*/"[whole(generator, 0, 3)]
    return sign, grown(generator, depth - 1), grown(generator, depth - 1)


def exactly(answer: Any, case: Case) -> Any:
    """The value written out: a whole number and a fraction of the same worth are the same."""
    value = or_refusal(answer, case)
    exact = isinstance(value, (int, Fraction)) and not isinstance(value, bool)
    return str(Fraction(value)) if exact else value


def computing(divide, leaf: Any = Fraction, minus=operator.sub):
    """evaluate, with another division."""
    rules = {"+": operator.add, "-": minus, "*": operator.mul, "/": divide}

    def answer(tree):
        if isinstance(tree, int):
            return leaf(tree)
        sign, left, right = tree
        return rules[sign](answer(left), answer(right))

    return answer


def refusing(divide):
    def rule(left, right):
        if right == 0:
            raise Refused("undefined", "divides by zero")
        return divide(left, right)

    return rule


VALUE = Exercise(
    id="17.2",
    name="evaluate",
    title="the exact value",
    reference=evaluate,
    cases=trees,
    mistakes=(
        Mistake(
            "floats instead of fractions",
            "1/3*3 may miss 1 by a hair, and with a tolerance wrong answers come near enough. "
            "Fractions are exact and need no tolerance.",
            computing(refusing(operator.truediv), leaf=float),
        ),
        Mistake(
            "division loses the rest",
            "7/2 becomes 3: an answer that misses is paid, and 6/(1-3/4) is called wrong.",
            computing(refusing(operator.floordiv)),
        ),
        Mistake(
            "by zero is zero",
            "4/(2-2) counts as 0. With the target 0 that is paid, and a policy will find it.",
            computing(lambda a, b: a / b if b else Fraction(0)),
        ),
        Mistake(
            "zero stops the program",
            "A division by zero raises Python's own error. One such answer ends the run of RL "
            "that asked.",
            computing(operator.truediv),
        ),
        Mistake(
            "subtraction the wrong way",
            "The right side is reduced by the left: signs of all differences are turned.",
            computing(refusing(operator.truediv), minus=lambda a, b: b - a),
        ),
    ),
    hints=(
        "A tree is a whole number, or a sign with two trees. What does each of them give?",
        "The function calls itself for both sides; a leaf becomes a Fraction.",
        "After both sides are known, four signs have four results, and one of them first looks "
        "at its right side: zero there is Refused as undefined.",
    ),
    call=exactly,
)
