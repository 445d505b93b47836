"""Verdicts on answers that nobody may trust: read by hand, bounded, exact, never evaluated.

A policy that is paid for right answers will find every hole of the rule that pays it. So: no `eval`
and no parser of anybody else; length, tokens, nesting and literals are bounded before anything is
computed; values are fractions, never floats; whatever is not surely right earns nothing, and the
verdict says why. A whole verdict takes microseconds and cannot be made to take longer.

    expr := term (('+'|'-') term)*   term := atom (('*'|'/') atom)*   atom := NUM | '(' expr ')'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

VERSION = 1  # of the rules, stored with every result
LONGEST = 256  # characters of an answer; checked first, so all else is bounded
MOST_TOKENS = 64
DEEPEST = 16
MOST_DIGITS = 6  # of a literal in an expression
MOST_ANSWER_DIGITS = 18
LONGEST_COMPLETION = 20_000  # characters

DIGITS = "0123456789"
MARKS = "+-*/()"
KINDS = ("correct", "wrong_value", "wrong_numbers", "undefined", "malformed", "too_big")


class Verdict(NamedTuple):
    """What an answer is and why; only `correct` is worth anything."""

    kind: str  # one of KINDS, or "unscorable": the fault of the verifier, not of the answer
    reason: str

    @property
    def right(self) -> bool:
        """Whether the answer is paid."""
        return self.kind == "correct"

    @property
    def well_formed(self) -> bool:
        """Whether it could be read: a condition of any reward for form."""
        return self.kind not in ("malformed", "too_big", "unscorable")


class Refused(Exception):
    """An answer that cannot be read, with its verdict."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.verdict = Verdict(kind, reason)


def verify_expression(text: str, numbers: Sequence[int], target: int) -> Verdict:
    """Countdown's rule: four operators, each given number exactly once, exactly the target."""
    try:
        tokens = read_tokens(text)
        tree, literals = Parser(tokens).whole()
        if Counter(literals) != Counter(numbers):
            return Verdict("wrong_numbers", f"uses {sorted(literals)}, given {sorted(numbers)}")
        value = evaluate(tree)
    except Refused as refused:
        return refused.verdict
    if value != target:
        return Verdict("wrong_value", f"is {shown(value)}, not {target}")
    return Verdict("correct", f"is {target}")


def verify_integer(text: str, target: int) -> Verdict:
    """A whole number written the one usual way; blanks around it do not count."""
    try:
        value = read_integer(text)
    except Refused as refused:
        return refused.verdict
    if value != target:
        return Verdict("wrong_value", f"is {value}, not {target}")
    return Verdict("correct", f"is {target}")


def verify_words(text: str, target: Sequence[str]) -> Verdict:
    """Words (letters or digits) with single blanks between them, in exactly this order."""
    try:
        within(text, LONGEST)
        words = text.strip(" ").split(" ")
        for word in words:
            if not word or not all(c in DIGITS or "a" <= c <= "z" or "A" <= c <= "Z" for c in word):
                raise Refused("malformed", f"{word[:20]!r} is no word")
    except Refused as refused:
        return refused.verdict
    if Counter(words) != Counter(target):
        return Verdict("wrong_numbers", f"{len(words)} words, not those asked for")
    if words != list(target):
        return Verdict("wrong_value", "the right words in another order")
    return Verdict("correct", "in order")


def guarded(verify: Callable[[str], Verdict], text: str) -> Verdict:
    """A verifier that fails pays nothing and is counted: its fault must not stop or teach a run."""
    try:
        return verify(text)
    except Exception as error:
        return Verdict("unscorable", f"the verifier failed: {type(error).__name__}")


# Reading


def within(text: str, longest: int) -> None:
    """Refuse what is too long before looking at it."""
    if len(text) > longest:
        raise Refused("too_big", f"{len(text):,} characters, at most {longest:,}")


def read_tokens(text: str) -> list[str]:
    """Literals and marks; ASCII digits only, the only blank is U+0020."""
    within(text, LONGEST)
    tokens, at = [], 0
    while at < len(text):
        c = text[at]
        if c == " ":
            at += 1
        elif c in MARKS:
            tokens.append(c)
            at += 1
        elif c in DIGITS:
            end = at
            while end < len(text) and text[end] in DIGITS:
                end += 1
            tokens.append(check_literal(text[at:end]))
            at = end
        else:
            raise Refused("malformed", f"{c!r} at {at} is no digit, operator or blank")
    if len(tokens) > MOST_TOKENS:
        raise Refused("too_big", f"{len(tokens)} tokens, at most {MOST_TOKENS}")
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if depth > DEEPEST:
            raise Refused("too_big", f"nested deeper than {DEEPEST}")
    return tokens


def check_literal(digits: str) -> str:
    """No leading zeros, no endless numbers."""
    if len(digits) > MOST_DIGITS:
        raise Refused("too_big", f"a number of {len(digits)} digits, at most {MOST_DIGITS}")
    if digits[0] == "0" and len(digits) > 1:
        raise Refused("malformed", f"{digits} begins with zero")
    return digits


def read_integer(text: str) -> int:
    """-?(0|[1-9][0-9]*), ASCII."""
    within(text, LONGEST)
    word = text.strip(" ")
    digits = word.removeprefix("-")
    if not digits or any(c not in DIGITS for c in digits):
        raise Refused("malformed", f"{word[:20]!r} is no whole number")
    if digits[0] == "0" and len(digits) > 1:
        raise Refused("malformed", f"{word[:20]} begins with zero")
    if len(digits) > MOST_ANSWER_DIGITS:
        raise Refused("too_big", f"{len(digits)} digits, at most {MOST_ANSWER_DIGITS}")
    return int(word)


Tree = int | tuple[str, "Tree", "Tree"]


class Parser:
    """Tokens → tree and literals, by one function per line of the grammar."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.literals = tokens, 0, []

    def whole(self) -> tuple[Tree, list[int]]:
        """All tokens are one expression."""
        tree = self.chain("+-", lambda: self.chain("*/", self.atom))
        if self.at < len(self.tokens):
            raise Refused("malformed", f"{self.tokens[self.at]!r} follows a whole expression")
        return tree, self.literals

    def chain(self, operators: str, part: Callable[[], Tree]) -> Tree:
        """part (operator part)*, grouped from the left."""
        tree = part()
        while self.at < len(self.tokens) and self.tokens[self.at] in operators:
            operator = self.tokens[self.at]
            self.at += 1
            tree = (operator, tree, part())
        return tree

    def atom(self) -> Tree:
        """A literal or an expression in parentheses."""
        if self.at == len(self.tokens):
            raise Refused("malformed", "ends where a number should stand")
        token = self.tokens[self.at]
        self.at += 1
        if token[0] in DIGITS:
            self.literals.append(int(token))
            return self.literals[-1]
        if token != "(":
            raise Refused("malformed", f"{token!r} stands where a number should")
        tree = self.chain("+-", lambda: self.chain("*/", self.atom))
        if self.at == len(self.tokens) or self.tokens[self.at] != ")":
            raise Refused("malformed", "a parenthesis is not closed")
        self.at += 1
        return tree


def evaluate(tree: Tree) -> Fraction:
    """The exact value; 32 literals of six digits stay far below anything slow."""
    if isinstance(tree, int):
        return Fraction(tree)
    operator, left, right = tree[0], evaluate(tree[1]), evaluate(tree[2])
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if right == 0:
        raise Refused("undefined", "divides by zero")
    return left / right


def shown(value: Fraction) -> str:
    """A value short enough for a line."""
    text = str(value)
    return text if len(text) <= 24 else f"about {float(value):.6g}"
