"""Every task: its own answer passes its own verifier, solvers agree, nothing leaks across."""

import pytest

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason import tasks, tasks_numbers, tasks_order
from minids.reason.rewards import Weights, judge, split_completion
from minids.reason.verify import Verdict, verify_expression

TASKS = sorted(tasks.makers())


@pytest.mark.parametrize("name", TASKS)
def test_reference_answers_are_right_at_every_level(name):
    for level in range(1, 10):
        for index in range(8):
            made = tasks.problem(name, level, 3, index, held_out=index % 4 == 0)
            assert made.verify(made.answer).right, made
            assert judge(made, made.completion).total == pytest.approx(1.1)
            assert set(made.scratchpad) <= set(made.alphabet), made
            assert not made.verify(made.answer + "1").right


@pytest.mark.parametrize("name", TASKS)
def test_a_problem_depends_on_its_seed_and_index_only(name):
    first = [p.prompt for _, p in zip(range(6), tasks.problems(name, 2, 5), strict=False)]
    again = [tasks.problem(name, 2, 5, i).prompt for i in range(6)]
    other = [tasks.problem(name, 2, 6, i).prompt for i in range(6)]
    assert first == again != other


@pytest.mark.parametrize("name", TASKS)
def test_held_out_problems_are_never_trained_on(name):
    train = {tasks.problem(name, 2, seed, i).prompt for seed in (1, 2) for i in range(150)}
    held = {p.prompt for p in tasks.held_out_set(name, 2, 60)}
    assert held and not train & held


def test_column_arithmetic_is_written_right():
    assert tasks_numbers.column_sum(47, 85) == "7+5=12 4+8+1=13 =132"
    assert tasks_numbers.column_sum(9, 203) == "9+3=12 0+0+1=1 0+2=2 =212"
    assert tasks_numbers.column_difference(132, 29) == "12-9=3 3-2-1=0 1-0=1 =103"


def test_countdown_is_solved_by_search():
    for index in range(20):
        made = tasks.problem("countdown", 3, 1, index)
        target, numbers = made.prompt.split(" from ")
        given = [int(n) for n in numbers.split()]
        found = tasks_numbers.solve_countdown(given, int(target))
        assert found and verify_expression(found, given, int(target)).right
    assert tasks_numbers.solve_countdown([1, 1], 5) is None


def test_logic_has_exactly_one_world():
    claims = [(0, 1, False), (1, 0, False)]
    assert tasks_order.all_worlds(claims, 2) == [(True, False), (False, True)]
    assert tasks_order.follow(claims, 0, (True, False)) == "A=T, A:BL B=L"


def test_the_shipped_vocabulary_has_one_token_a_digit():
    tokenizer = Tokenizer.shipped("tales")
    for name in TASKS:
        made = tasks.problem(name, 4, 1, 1)
        for text in (made.prompt, made.scratchpad, made.answer):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == text
            digits = sum(c in "0123456789" for c in text)
            assert sum(tokenizer.decode([i]).strip().isdigit() for i in ids) == digits


def test_an_unknown_task_and_level_are_named():
    with pytest.raises(UserError, match="sums") as error:
        next(tasks.problems("summs", 1, 1))
    assert error.value.hint == "did you mean sums?"
    with pytest.raises(UserError, match="1 … 9"):
        next(tasks.problems("sums", 0, 1))


BAD = [
    "", "12", "<think></think>", "<answer>132</answer>", "<answer>132</answer><think>x</think>",
    "<think>x</think><answer>132</answer><answer>131</answer>",
    "<think>x<think>y</think></think><answer>132</answer>",
    "<think>x</think>so<answer>132</answer>", "<think>x</think><answer>132</answer>.",
    "<think>x</think><answer>132</answer" , "<think>x" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_completion_without_the_form_earns_nothing(text):
    made = tasks.problem("addition", 2, 1, 1)
    assert judge(made, text).total == 0.0
    assert isinstance(split_completion(text), Verdict)


def test_format_pays_only_for_an_answer_that_can_be_read():
    made = tasks.problem("addition", 2, 1, 1)
    wrong = judge(made, "<think>1</think><answer>-1</answer>")
    unread = judge(made, "<think>1</think><answer>one</answer>")
    assert (wrong.total, unread.total) == (0.1, 0.0)
    mixed = judge(made, "<think>1x</think><answer>-1</answer>", Weights(1.0, 0.0, 1.0))
    assert mixed.total == mixed.consistency == 0.5


def test_a_broken_verifier_is_left_out_not_paid():
    def broken(problem, text):
        raise ValueError

    made = tasks.problem("addition", 2, 1, 1)
    judged = judge(made, made.completion, verify=broken)
    assert judged.total == 0.0 and not judged.scorable
