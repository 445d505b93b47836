"""What judge says to every kind of answer, right and wrong."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from minids.lab.answer import is_blank
from minids.lab.check import judge
from minids.lab.exercise import Case, Exercise, Mistake
from minids.lab.limits import KEPT_CHARACTERS, Printed
from minids.nn.attention import causal_softmax


def forgets_to_return(score):
    causal_softmax(score)


def loops(score):
    while True:
        try:
            for _ in range(1000):
                score = score * 1
        except:  # noqa: E722
            continue


def test_the_right_answer_is_right_whatever_the_seed(toy):
    for seed in range(5):
        verdict = judge(toy, lambda score: causal_softmax(score), seed)
        assert verdict.right and verdict and "5 cases" in verdict.says


def test_every_mistake_is_called_by_its_name(toy):
    for mistake in toy.mistakes:
        for seed in range(5):
            verdict = judge(toy, mistake.answer, seed)
            assert (verdict.kind, verdict.mistake) == ("mistake", mistake.name)
            assert verdict.says == mistake.says and not verdict


def test_the_mistake_that_explains_most_wins_and_less_than_half_is_none(toy):
    def nothing(score):
        return score * 0

    def nothing_in(heads):
        return lambda score: nothing(score) if score.shape[1] in heads else causal_softmax(score)

    part = Mistake("one or two heads", "", nothing_in((1, 2)))
    whole = Mistake("all heads", "", nothing)
    assert judge(replace(toy, mistakes=(part, whole)), nothing).mistake == "all heads"
    assert judge(replace(toy, mistakes=(whole, part)), part.answer).mistake == "one or two heads"
    assert judge(replace(toy, mistakes=(part,)), nothing).mistake == "one or two heads"
    assert (
        judge(
            replace(toy, mistakes=(whole,)),
            lambda score: part.answer(score) + (score.shape[1] == 3),
        ).mistake
        is None
    )  # parts from the mistake where it shows
    rare = Mistake("three heads", "", nothing_in((3,)))
    assert judge(replace(toy, mistakes=(rare,)), nothing).mistake is None


def test_other_errors_show_the_smallest_case_and_both_sides(toy):
    verdict = judge(toy, lambda score: causal_softmax(score) + 0.01 * (score.shape[1] == 3))
    assert verdict.kind == "different" and verdict.mistake is None
    assert verdict.case.startswith("5 queries, 5 keys: score [1 3 5 5] float32")
    assert verdict.expected.startswith("[0, 0,") and verdict.expected != verdict.got
    assert "75 of 75 numbers differ" in verdict.notes[0] and "0.01" in verdict.notes[0]


@pytest.mark.parametrize(
    ("answer", "says", "expected", "got"),
    [
        (lambda score: causal_softmax(score).double(), "wrong dtype", "float32", "float64"),
        (lambda score: causal_softmax(score)[0], "wrong shape", "[1 1 1 1]", "[1 1 1]"),
        (lambda score: causal_softmax(score).to("meta"), "wrong device", "cpu", "meta"),
        (lambda score: causal_softmax(score) * float("nan"), "NaN", "[[[[1]]]]", "[[[[nan]]]]"),
        (forgets_to_return, "is None", "a tensor [1 1 1 1]", "None"),
        (lambda score: causal_softmax(score).tolist(), "a list", "a tensor", "a list of 1"),
        (lambda score: causal_softmax(score.detach()), "no gradient reaches score", "", "zero"),
        (lambda score: causal_softmax(score) + score.add_(1) * 0, "changes its input", "", ""),
    ],
)
def test_each_kind_of_difference_has_its_words(toy, answer, says, expected, got):
    verdict = judge(replace(toy, gradients="gradient" in says), answer)
    assert not verdict.right and says in verdict.says, verdict
    assert expected in verdict.expected and got in verdict.got


def test_short_lists_are_shown_whole_and_long_or_nested_ones_by_their_part():
    def exercise(result):
        return Exercise(
            "07.8",
            "f",
            "",
            lambda: result,
            lambda generator: [Case(())] * bool(generator),
            (),
            ("",) * 3,
        )

    found = judge(exercise([1, 2.5, "a"]), lambda: [1, 2.5])
    assert (found.expected, found.got) == ("[1, 2.5, 'a']", "[1, 2.5]")
    found = judge(exercise({"a": {"b": 1}, "c": 2}), lambda: {"c": 2, "a": {"b": 3}})
    assert found.got == "{'c': 2, 'a': {'b': 3}}" and "'a'" in found.says
    found = judge(exercise(list(range(100))), lambda: [*range(99), 5])
    assert (found.expected, found.got, found.says) == ("99", "5", "output 100 is wrong")
    found = judge(exercise((torch.zeros(2), [1.0, 2.0])), lambda: (torch.zeros(2), [1.0, 3.0]))
    assert (found.expected, found.got) == ("[1, 2]", "[1, 3]")
    assert judge(exercise([1, float("nan")]), lambda: (1.0, torch.tensor(float("nan")))).right
    assert not judge(exercise(1), lambda: True) and not judge(exercise(True), lambda: 1)
    assert not judge(exercise("a"), lambda: None) and judge(exercise(None), lambda: None).right


def test_gradients_are_compared_where_they_matter(toy):
    def half_the_gradient(score):
        return causal_softmax(score.detach() / 2 + score / 2)

    def nothing_to_go_back_to(score):
        grown = causal_softmax(score).exp()
        return grown.mul_(1).log()

    assert judge(toy, nothing_to_go_back_to).error.startswith("RuntimeError")
    wrong_too = judge(toy, lambda score: nothing_to_go_back_to(score) + 1)
    assert wrong_too.kind == "different" and wrong_too.says == "the result is wrong"
    assert "gradient of score is wrong" in judge(toy, half_the_gradient).says
    assert judge(replace(toy, gradients=False), half_the_gradient).right


def test_inputs_may_change_where_that_is_the_task():
    def add_one(x):
        x.add_(1)

    def add_two(x):
        x.add_(2)

    def make(generator):
        yield Case((torch.randn(3, generator=generator),))

    in_place = Exercise(
        "07.9", "add_one", "", add_one, make, (Mistake("two", "", add_two),), ("", "", ""),
        may_change_inputs=True,
    )  # fmt: skip
    assert judge(in_place, lambda x: add_one(x)).right
    assert judge(in_place, add_two).mistake == "two"
    assert judge(in_place, lambda x: x.add(1)).kind == "different"


def test_a_blank_is_not_attempted_and_nothing_is_raised(toy):
    def softmax_of_the_past(score):
        raise NotImplementedError("your code")

    def leans_on_it(score):
        return softmax_of_the_past(score)

    class Blank:
        def __init__(self, score):
            raise NotImplementedError

    verdict = judge(toy, softmax_of_the_past)
    assert (verdict.kind, verdict.attempted) == ("blank", False)
    assert "calls softmax_of_the_past, which is still blank" in judge(toy, leans_on_it).says
    assert judge(toy, Blank).kind == "blank"
    assert is_blank(softmax_of_the_past) and not is_blank(leans_on_it)


def test_torch_saying_not_implemented_is_an_error_and_no_blank(toy):
    def unsupported(score):
        return score.to("meta").cpu()

    verdict = judge(toy, unsupported)
    assert verdict.kind == "error" and verdict.error.startswith("NotImplementedError: Cannot copy")


def test_exceptions_are_the_students_with_their_line(toy):
    def stops(score):
        weights = score.softmax(-1)
        return weights @ torch.ones(99)

    verdict = judge(toy, stops)
    assert verdict.kind == "error" and verdict.error.startswith("RuntimeError")
    assert verdict.trace[-1].endswith("of stops: return weights @ torch.ones(99)")
    assert all("attempt.py" not in line for line in verdict.trace)


@pytest.mark.parametrize(
    "error", [SystemExit(0), RecursionError(), MemoryError(), AssertionError()]
)
def test_no_exception_comes_through(toy, error):
    def stops(score):
        raise error

    assert judge(toy, stops).kind == "error"


def test_the_students_stop_button_works(toy):
    def interrupted(score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(toy, interrupted)


def test_an_endless_loop_ends_even_if_it_swallows_everything(toy):
    start = time.process_time()
    verdict = judge(toy, loops)
    assert verdict.kind == "time" and "never ends" in verdict.says
    assert time.process_time() - start < 10  # ends in about one; on a busy machine, later


def test_an_endless_loop_ends_outside_the_main_thread(toy):
    def loops_plainly(score):
        while True:
            try:
                score = score * 1
            except Exception:
                continue

    found, before = [], threading.active_count()
    thread = threading.Thread(target=lambda: found.append(judge(toy, loops_plainly, limit=0.4)))
    thread.start()
    thread.join(5)
    assert found[0].kind == "time" and threading.active_count() == before


def test_an_alarm_that_was_running_before_still_rings(toy):
    import signal

    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    before = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        assert judge(toy, loops, limit=0.2).kind == "time"
        time.sleep(0.4)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_prints_are_kept_apart_and_cut(toy, capsys):
    def talks(score):
        for i in range(1000):
            print("line", i)  # noqa: T201
        return causal_softmax(score)

    verdict = judge(toy, talks)
    assert verdict.right and capsys.readouterr().out == ""
    assert verdict.notes[-1].startswith("your code printed 10000 lines, the first 5:\nline 0\n")
    assert len(verdict.notes[-1]) < 300


def test_prints_without_end_fill_no_memory():
    printed = Printed()
    for _ in range(100):
        printed.write("x" * 10_000 + "\n")
    assert len(printed.text) == KEPT_CHARACTERS and printed.lines == 100


@pytest.mark.parametrize("answer", [None, 3, "f", torch.ones(2), [1]])
def test_what_is_no_function_is_told_how_to_hand_it_in(toy, answer):
    verdict = judge(toy, answer)
    assert verdict.kind == "callable" and 'check("07.1", softmax_of_the_past)' in verdict.says


def test_another_signature_is_shown_beside_the_right_one(toy):
    verdict = judge(toy, lambda score, scale: score * scale)
    assert verdict.kind == "signature"
    assert verdict.expected == "softmax_of_the_past(score)"
    assert verdict.got == "softmax_of_the_past(score, scale)"
    pair = Case((torch.ones(1), torch.ones(1)))
    two = replace(
        toy, reference=lambda q, k: q - k, cases=lambda generator: [pair] * bool(generator)
    )
    assert judge(two, lambda k, q: q - k).kind == "signature"
    assert judge(two, lambda a, b: a - b).right  # other names are no error


def test_the_students_randomness_is_left_alone(toy):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    judge(toy, lambda score: causal_softmax(score) + 0 * torch.randn(1).to(score.dtype))
    assert torch.equal(before, torch.get_rng_state())


def test_answers_under_no_grad_are_judged_as_well(toy):
    with torch.no_grad():
        assert judge(toy, lambda score: causal_softmax(score)).right
