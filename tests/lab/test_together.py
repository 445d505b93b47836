"""Processes of a cell: all answer, a student's text counts, a failure is one line."""

import pytest

from minids.dist import expert as library
from minids.errors import UserError
from minids.lab.together import together

SPREAD = "minids.lab.many_experts:spread"
SIZES = {"T": 24, "e": 8, "k": 3, "d": 8, "f": 6, "groups": 4, "kept": 2}


def departures(expert, own, ranks):
    raise ArithmeticError("as the student wrote it")


def test_experts_on_two_ranks_answer_as_in_one_and_no_token_is_lost():
    found = together(
        SPREAD, 2, yours={"minids.dist.expert:departures": library.departures}, **SIZES
    )
    assert all(rank["error"] < 1e-12 for rank in found)
    assert found[0]["sent"][1] == found[1]["arrived"][0]
    assert sum(sum(r["sent"]) for r in found) == sum(sum(r["arrived"]) for r in found)


def test_the_text_of_a_function_is_used_and_its_failure_is_told():
    with pytest.raises(UserError, match=r"rank . stopped: .*as the student wrote it"):
        together(SPREAD, 1, yours={"minids.dist.expert:departures": departures}, **SIZES)
