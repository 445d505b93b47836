"""Tasks with numbers: addition, sums of three, Countdown; each with the way to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import combinations
from random import Random

from minids.reason.tasks import Problem
from minids.reason.verify import verify_expression, verify_integer

ARITHMETIC = "0123456789+-*/()=, c"


def addition(generator: Random, level: int) -> Problem:
    """Two numbers of up to `level` digits."""
    a, b = (number(generator, level) for _ in range(2))
    return Problem(
        "addition",
        f"{a}+{b}",
        column_sum(a, b),
        str(a + b),
        partial(verify_integer, target=a + b),
        ARITHMETIC,
    )


def sums(generator: Random, level: int) -> Problem:
    """Three numbers of up to `level` digits, added or taken away, never below zero."""
    a, b = (number(generator, level) for _ in range(2))
    minus = generator.random() < 0.5 and b <= a
    middle = a - b if minus else a + b
    c = number(generator, level)
    minus_too = generator.random() < 0.5 and c <= middle
    end = middle - c if minus_too else middle + c
    steps = [(column_difference if minus else column_sum)(a, b)]
    steps.append((column_difference if minus_too else column_sum)(middle, c))
    prompt = f"{a}{'-' if minus else '+'}{b}{'-' if minus_too else '+'}{c}"
    verify = partial(verify_integer, target=end)
    return Problem("sums", prompt, ",".join(steps), str(end), verify, ARITHMETIC)


def number(generator: Random, digits: int) -> int:
    """1 to `digits` digits, each length equally likely, except that one digit is rarer."""
    length = max(generator.randint(1, digits), generator.randint(1, digits))
    return generator.randrange(10 ** (length - 1) if length > 1 else 0, 10**length)


def column_sum(a: int, b: int) -> str:
    """From the right, digit by digit: 7+5=12 4+8+1=13 =132; a third number is the carry."""
    steps, carry = [], 0
    for x, y in columns(a, b):
        digit_sum = x + y + carry
        steps.append(f"{x}+{y}+{carry}={digit_sum}" if carry else f"{x}+{y}={digit_sum}")
        carry = digit_sum // 10
    return " ".join([*steps, f"={a + b}"])


def column_difference(a: int, b: int) -> str:
    """From the right with borrowing: 12-9=3 3-2-1=0 =3; the minuend shows that it borrowed."""
    steps, borrowed = [], 0
    for x, y in columns(a, b):
        borrows = x - y - borrowed < 0
        left = x + 10 * borrows
        digit = left - y - borrowed
        steps.append(f"{left}-{y}-{borrowed}={digit}" if borrowed else f"{left}-{y}={digit}")
        borrowed = int(borrows)
    return " ".join([*steps, f"={a - b}"])


def columns(a: int, b: int) -> list[tuple[int, int]]:
    """Pairs of digits from the right, zeros where one number has ended."""
    width = max(len(str(a)), len(str(b)))
    return [
        (int(x), int(y))
        for x, y in zip(str(a).zfill(width)[::-1], str(b).zfill(width)[::-1], strict=True)
    ]


def countdown(generator: Random, level: int) -> Problem:
    """Reach the target with each number once: level + 1 numbers, at most six of them."""
    count, largest = min(level + 1, 6), 9 if level < 3 else 25
    while True:
        numbers = [generator.randint(1, largest) for _ in range(count)]
        expression, value = random_expression(generator, numbers)
        if value.denominator == 1 and 0 < value <= 100:
            break
    target = int(value)
    prompt = f"{target} from {' '.join(map(str, numbers))}"
    return Problem(
        "countdown",
        prompt,
        attempts(generator, numbers, target, expression),
        expression,
        partial(verify_expression, numbers=numbers, target=target),
        ARITHMETIC,
    )


def random_expression(generator: Random, numbers: Sequence[int]) -> tuple[str, Fraction]:
    """Join two parts until one is left; a division must come out whole."""
    parts = [(str(n), Fraction(n)) for n in numbers]
    while len(parts) > 1:
        (left, x), (right, y) = (
            parts.pop(generator.randrange(len(parts))),
            parts.pop(generator.randrange(len(parts))),
        )
        operators = ["+", "-", "*"] + ["/"] * (y != 0 and (x / y).denominator == 1 if y else False)
        operator = generator.choice(operators)
        value = apply(operator, x, y)
        text = f"{left}{operator}{right}"
        parts.append((f"({text})" if parts else text, value))
    return parts[0]


def apply(operator: str, x: Fraction, y: Fraction) -> Fraction:
    """One operation."""
    if operator == "+":
        return x + y
    if operator == "-":
        return x - y
    return x * y if operator == "*" else x / y


def attempts(generator: Random, numbers: Sequence[int], target: int, solution: str) -> str:
    """Up to two tries that fail, then the one that works: search written down."""
    lines = []
    for _ in range(generator.randrange(3)):
        expression, value = random_expression(generator, numbers)
        if value != target and value.denominator == 1:
            lines.append(f"{expression}={value}")
    return ", ".join([*lines, f"{solution}={target}"])


def solve_countdown(numbers: Sequence[int], target: int) -> str | None:
    """An expression that reaches the target, or None if there is none: all pairs, all operators."""
    return search([(Fraction(n), str(n)) for n in numbers], Fraction(target))


def search(parts: list[tuple[Fraction, str]], target: Fraction) -> str | None:
    """Join every pair in every way and go on with what is left."""
    if len(parts) == 1:
        return parts[0][1] if parts[0][0] == target else None
    for i, j in combinations(range(len(parts)), 2):
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        for (x, left), (y, right) in ((parts[i], parts[j]), (parts[j], parts[i])):
            for operator in "+-*/" if y else "+-*":
                joined = (apply(operator, x, y), f"({left}{operator}{right})")
                if (found := search([*rest, joined], target)) is not None:
                    return found
    return None
