"""Verdicts on hostile answers, against a table, an independent evaluation and huge inputs."""

import json
import random
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.reason import verify
from minids.reason.verify import guarded, verify_expression, verify_integer, verify_words

SHARED = Path(__file__).parents[3] / "shared" / "hostile-expressions.json"
TABLE = [  # text, numbers, target, verdict
    ("2+3*4", [2, 3, 4], 14, "correct"), ("8/(3-8/3)", [8, 3, 8, 3], 24, "correct"),
    (" ( 2 ) ", [2], 2, "correct"), ("1/7*7", [1, 7, 7], 1, "correct"),
    ("2-9", [2, 9], -7, "correct"), ("(" * 16 + "5" + ")" * 16, [5], 5, "correct"),
    ("8-4-2", [8, 4, 2], 2, "correct"), ("8/4/2", [8, 4, 2], 1, "correct"),
    ("2+3", [2, 3], 6, "wrong_value"), ("4-6", [4, 6], 2, "wrong_value"),
    ("2*2", [2], 4, "wrong_numbers"), ("2", [2, 3], 2, "wrong_numbers"),
    ("23", [2, 3], 23, "wrong_numbers"), ("6+1-1", [6, 1], 6, "wrong_numbers"),
    ("4/(2-2)", [4, 2, 2], 0, "undefined"), ("0/0", [0, 0], 0, "undefined"),
    ("", [], 0, "malformed"), ("()", [], 0, "malformed"), ("(2+3", [2, 3], 5, "malformed"),
    ("2+3)", [2, 3], 5, "malformed"), ("2+", [2], 2, "malformed"), ("*2", [2], 2, "malformed"),
    ("2 3", [2, 3], 23, "malformed"), ("-2+5", [2, 5], 3, "malformed"),
    ("2--3", [2, 3], 5, "malformed"), ("2(3)", [2, 3], 6, "malformed"),
    ("8//3", [8, 3], 2, "malformed"), ("8%3", [8, 3], 2, "malformed"),
    ("2**3", [2, 3], 8, "malformed"), ("7**7**7", [7, 7, 7], 1, "malformed"),
    ("2.5*2", [2, 5, 2], 5, "malformed"), ("1e3", [1, 3], 1000, "malformed"),
    ("0x10", [0, 10], 16, "malformed"), ("2_3", [2, 3], 23, "malformed"),
    ("04+1", [4, 1], 5, "malformed"), ("00", [0], 0, "malformed"),
    ("2+3=5", [2, 3, 5], 5, "malformed"), ("2+3 # 9", [2, 3, 9], 5, "malformed"),
    ("2+3\n", [2, 3], 5, "malformed"), ("2\t+3", [2, 3], 5, "malformed"),
    ("2\u00a0+3", [2, 3], 5, "malformed"), ("2+3\0", [2, 3], 5, "malformed"),
    ("\ufeff2+3", [2, 3], 5, "malformed"), ("\u202e2+3", [2, 3], 5, "malformed"),
    ("2\u22123", [2, 3], -1, "malformed"), ("2\u00d73", [2, 3], 6, "malformed"),
    ("\u0662+\u0663", [2, 3], 5, "malformed"), ("\uff12+\uff13", [2, 3], 5, "malformed"),
    ("\u00b2", [2], 4, "malformed"), ("[2][0]", [2, 0], 2, "malformed"),
    ("(lambda: 2)()", [2], 2, "malformed"), ("__import__('os')", [], 0, "malformed"),
    ("2 if 1 else 3", [2, 1, 3], 2, "malformed"), ("True", [], 1, "malformed"),
    ("nan", [], 0, "malformed"), ("</answer>2", [2], 2, "malformed"),
    ("1234567", [1234567], 1234567, "too_big"), ("(" * 17 + "5" + ")" * 17, [5], 5, "too_big"),
    ("+".join(["1"] * 33), [1] * 33, 33, "too_big"), ("-" * 200 + "5", [5], 5, "too_big"),
    (" " * 300 + "5", [5], 5, "too_big"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "numbers", "target", "kind"), TABLE)
def test_the_table(text, numbers, target, kind):
    assert verify_expression(text, numbers, target).kind == kind


@pytest.mark.skipif(not SHARED.is_file(), reason="the larger collection is not here")
def test_the_shared_collection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases, found = json.loads(SHARED.read_text(encoding="utf-8")), []
    run = lambda: found.extend(  # noqa: E731
        verify_expression(c["text"], c["numbers"], c["target"]).kind for c in cases
    )
    other = threading.Thread(target=run)  # the rule uses no signal, so any thread will do
    other.start()
    other.join()
    assert found == [case["expected"] for case in cases]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("piece", ["(", ")", "-", "9", " ", "1+", "((1)+", "\0", "²"])
@pytest.mark.parametrize("size", [10**3, 10**6])
def test_huge_inputs_are_refused_unread(piece, size):
    assert verify_expression(piece * size, [1], 1).kind == "too_big"
    assert verify_integer(piece * size, 1).kind == "too_big"
    assert verify_words(piece * size, ["1"]).kind == "too_big"


def tree(generator, depth):
    """A random expression and its value by Fractions, None where it divides by zero."""
    if depth == 0 or generator.random() < 0.3:
        n = generator.randrange(30)
        return str(n), Fraction(n), [n]
    (a, x, m), (b, y, n) = tree(generator, depth - 1), tree(generator, depth - 1)
    sign = generator.choice("+-*/")
    text = f"({a}){sign}({b})"
    if x is None or y is None or (sign == "/" and y == 0):
        return text, None, m + n
    value = {"+": x + y, "-": x - y, "*": x * y}[sign] if sign != "/" else x / y
    return text, value, m + n


def test_random_trees_agree_with_an_independent_value():
    kinds = set()
    for seed in range(400):
        generator = random.Random(seed)
        text, value, numbers = tree(generator, 3)
        target = int(value) if value is not None else 0
        expected = "undefined" if value is None else "correct" if value == target else "wrong_value"
        if len(verify.LONGEST * "x") >= len(text) and sum(c not in "0123456789" for c in text) < 40:
            assert verify_expression(text, numbers, target).kind == expected, text
            kinds.add(expected)
    assert kinds == {"undefined", "correct", "wrong_value"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.lists(st.integers(0, 9), max_size=4))
def test_any_text_has_a_verdict(text, numbers):
    assert verify_expression(text, numbers, 10**9 + 7).kind in set(verify.KINDS) - {"correct"}
    assert verify_integer(text, 10**20).kind in verify.KINDS
    assert verify_words(text, ["a", "b"]).kind in verify.KINDS


INTEGERS = [
    ("7", "correct"), (" 7 ", "correct"), ("8", "wrong_value"), ("-7", "wrong_value"),
    ("07", "malformed"), ("+7", "malformed"), ("7.0", "malformed"), ("7 or 8", "malformed"),
    ("seven", "malformed"), ("", "malformed"), ("-", "malformed"), ("7\n", "malformed"),
    ("\u0667", "malformed"), ("1" * 19, "too_big"), ("7,000", "malformed"), ("--7", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), INTEGERS)
def test_integers(text, kind):
    assert verify_integer(text, 7).kind == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [("3 12 40", "correct"), ("12 3 40", "wrong_value"), ("3 12", "wrong_numbers"),
     ("3 12 12 40", "wrong_numbers"), ("3  12 40", "malformed"), ("3,12,40", "malformed"),
     ("", "malformed"), ("3 12 \uff14", "malformed")],
)  # fmt: skip
def test_words(text, kind):
    assert verify_words(text, ["3", "12", "40"]).kind == kind


def test_a_verifier_that_fails_pays_nothing():
    def broken(text):
        raise RecursionError

    assert guarded(broken, "7").kind == "unscorable"
    assert not guarded(broken, "7").right
