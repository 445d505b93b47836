"""Small changes of the right answers are noticed: at least 95 of 100, the others are explained."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from minids.lab import exercises, master, mutate

ENOUGH = 0.95
EXPLAINED = tomllib.loads(Path(__file__).with_name("survivors.toml").read_text(encoding="utf-8"))
SURVEYS: dict[str, mutate.Survey] = {}


def reasons():
    return {(s["id"], s["mutation"]): s["why"] for s in EXPLAINED.get("survivor", [])}


@pytest.mark.parametrize("number", list(master.paths()))
def test_every_surviving_mutant_is_explained(number, capsys):
    if not exercises.of_lesson(int(number)):
        pytest.skip("no exercises")
    for survey in mutate.of_notebook(master.paths()[number]):
        SURVEYS[survey.id] = survey
        total = len(survey.killed) + len(survey.survived)
        with capsys.disabled():
            rate, took = f"{survey.rate:6.1%}", f"{survey.seconds:.1f} s"
            print(f"\n{survey.id}  killed {rate} of {total} mutants, {took}", end="")  # noqa: T201
        assert total >= 5, "a solution so short that little can be wrong with it"
    unexplained = [
        f"{s.id}: {mutation}"
        for s in SURVEYS.values()
        for mutation in s.survived
        if s.id[:2] == number and (s.id, mutation) not in reasons()
    ]
    assert not unexplained, "\n".join(unexplained)


def test_nearly_all_mutants_die():
    killed = sum(len(s.killed) for s in SURVEYS.values())
    total = killed + sum(len(s.survived) for s in SURVEYS.values())
    assert killed >= ENOUGH * total, f"{killed} of {total}"


def test_explanations_are_sentences_about_mutants_that_live():
    for (name, mutation), why in reasons().items():
        assert len(why) > 10, (name, mutation)
        if name in SURVEYS:
            assert mutation in SURVEYS[name].survived, f"{name}: {mutation} dies"


SOLUTION = '''
### YOUR CODE 07.1
def softmax_of_the_past(score):
    """Softmax."""
    given = 3
    ### BEGIN SOLUTION
    s, t = score.shape[-2:]
    seen = torch.ones(s, t, dtype=torch.bool).tril(t - s)
    attn = score.float().masked_fill(~seen, float("-inf")).softmax(-1)
    return attn.to(score.dtype)
    ### END SOLUTION
'''


def test_mutants_differ_from_the_solution_and_leave_the_rest_alone():
    names = [m.name for m in mutate.mutants(SOLUTION)]
    assert len(names) == len(set(names)) > 20
    assert not [n for n in names if n.startswith("3 →")]
    for part in ("t - s → s - t", "~seen → seen", "-1 → 1", ".tril(t - s) → torch.ones"):
        assert any(part in name for name in names), part


def test_the_toy_kills_what_changes_its_numbers(toy):
    survey = mutate.survey(toy, SOLUTION.replace("float()", "double()"), {"torch": torch})
    assert survey.rate > 0.8 and len(survey.killed) > 20, survey.survived
    assert not [s for s in survey.survived if re.match(r"-1|~|t - s", s)], survey.survived


def test_a_check_that_compares_nothing_is_found(toy):
    blind = type(toy)(**vars(toy) | {"atol": 1e9, "gradients": False})
    survey = mutate.survey(blind, SOLUTION, {"torch": torch})
    assert survey.rate < 0.7
