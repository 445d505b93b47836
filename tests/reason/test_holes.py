"""Verifiers with a hole: each pays what is wrong, and what is paid is told from what is right."""

import pytest

from minids.errors import UserError
from minids.reason.arms import ARMS, arm
from minids.reason.holes import HOLES
from minids.reason.rewards import judge
from minids.reason.settings import Objective, RLConfig, build
from minids.reason.tasks import problem

SUM = problem("addition", 3, 1, 0)
OTHER = str(int(SUM.answer[::-1]) + (SUM.answer == SUM.answer[::-1])).zfill(len(SUM.answer))
CHEATS = {
    "prefix": SUM.answer[:1],
    "length": OTHER,
    "last": "9" + SUM.answer[-1:],
}


def said(answer: str) -> str:
    return f"<think></think><answer>{answer}</answer>"


@pytest.mark.parametrize("name", CHEATS)
def test_a_hole_pays_a_wrong_answer_and_the_exact_rule_does_not(name):
    assert CHEATS[name] != SUM.answer
    paid = judge(SUM, said(CHEATS[name]), verify=HOLES[name])
    assert (paid.accuracy, paid.truth) == (1.0, 0.0)
    assert judge(SUM, said(CHEATS[name])).accuracy == 0.0


@pytest.mark.parametrize("name", HOLES)
def test_every_rule_pays_the_right_answer(name):
    found = judge(SUM, said(SUM.answer), verify=HOLES[name])
    assert (found.accuracy, found.truth) == (1.0, 1.0)


@pytest.mark.parametrize("name", HOLES)
def test_no_rule_pays_a_flood(name):
    assert judge(SUM, said("1" * 100_000), verify=HOLES[name]).accuracy == 0.0


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_a_setting_that_exists_and_names_its_cure(name):
    chosen = arm(name)
    build(RLConfig, "rl", chosen.rl)
    build(Objective, "objective", chosen.objective)
    assert chosen.look and (not chosen.cure or chosen.cure in ARMS or "." in chosen.cure)


def test_an_arm_that_does_not_exist_is_one_line():
    with pytest.raises(UserError, match="holes"):
        arm("holes")
