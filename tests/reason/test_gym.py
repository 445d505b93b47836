"""Judges of others: fail closed, in time, in a process of their own; a stand-in for absent ones."""

import importlib.util

import pytest

from minids.errors import UserError
from minids.reason import gym, outside
from minids.reason.settings import parse_tasks
from minids.reason.tasks import problem

HERE = importlib.util.find_spec("reasoning_gym") and importlib.util.find_spec("math_verify")
real = pytest.mark.skipif(not HERE, reason="needs the extra rl")
STAND_IN = """
import time
class Data:
    def __getitem__(self, i): return {"question": "2 + 2 =", "answer": "4", "metadata": {}}
    def score_answer(self, text, entry):
        print("noise")
        if text == "slow":
            while True: pass
        if text == "boom": raise RuntimeError("boom")
        if text == "exit": __import__("os")._exit(0)
        return {"4": 1.0, "four": 0.5, "nan": float("nan"), "much": 7.0}.get(text, 0.0)
def create_dataset(name, size, seed): return Data()
"""


@pytest.fixture
def judge(tmp_path, monkeypatch):
    (tmp_path / "reasoning_gym.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = outside.Judge(0.5)
    yield made
    made.stop()


def test_a_judge_is_believed_only_when_it_is_sure(judge):
    question = {"rule": "gym", "name": "sum", "seed": 1}
    wanted = {
        "4": "correct", " 4 ": "correct", "four": "wrong_value", "5": "wrong_value",
        "nan": "wrong_value", "much": "wrong_value", "boom": "unscorable", "slow": "too_big",
        "exit": "unscorable", "": "malformed", "4" * 300: "too_big",
    }  # fmt: skip
    for text, kind in wanted.items():
        assert outside.verdict(question, text, judge).kind == kind, text
    assert outside.verdict(question, "4", judge).right  # a new process after one was lost


@pytest.mark.skipif(bool(HERE), reason="the package is here")
def test_a_missing_package_is_one_line():
    with pytest.raises(UserError, match="needs reasoning-gym"):
        parse_tasks("gym:chain_sum")


@real
def test_a_data_set_is_a_task():
    assert parse_tasks("gym:chain_sum,addition:2") == [("gym:chain_sum", 1), ("addition", 2)]
    one = problem("gym:chain_sum", 1, 1, 0)
    assert one == one._replace()
    assert one.prompt == problem("gym:chain_sum", 1, 1, 0).prompt
    assert not one.held_out
    assert one.verify(one.answer).right
    assert not one.verify(one.answer + "1").right
    for bad in ("gym:chain_sun", "gym:chain_sum:2"):
        with pytest.raises(UserError):
            parse_tasks(bad)


@real
def test_mathematics_is_compared_as_such():
    half = problem("addition", 1, 1, 0)._replace(answer="\\frac{1}{2}")
    assert gym.same_mathematics(half, "1/2").right
    assert gym.same_mathematics(half, "0.5").right
    assert not gym.same_mathematics(half, "0.51").right
    assert not gym.same_mathematics(half, "2").right
