"""What a cell may call, without a notebook around it."""

import json

import pytest

import minids.lab
from minids.errors import UserError
from minids.lab import (
    check,
    exercises,
    fast,
    hint,
    library,
    notebook,
    predict,
    progress,
    reveal,
    solution,
    yours,
    yours_inside,
)
from minids.lab.predict import compared, guess_of, outcomes
from minids.nn import attention, mla


def blank(score):
    raise NotImplementedError


def wrong(score):
    return score.softmax(-1)


def right(score):
    return attention.causal_softmax(score)


def stored(folder):
    return json.loads((folder / progress.NAME).read_text(encoding="utf-8"))


def test_check_shows_the_verdict_returns_it_and_counts(toy, student, capsys):
    verdict = check("07.1", wrong)
    said = capsys.readouterr().out
    assert "✗ 07.1  no mask at all" in said and "A query sees what it should predict." in said
    assert verdict.mistake == "no mask at all" and verdict._ipython_display_() is None
    assert stored(student)["exercises"]["07.1"]["mistakes"] == {"no mask at all": 1}
    assert check("07.1", right) and "✓ 07.1  right" in capsys.readouterr().out
    check("07.1", blank)
    assert "○ 07.1  not attempted yet" in capsys.readouterr().out
    assert stored(student)["exercises"]["07.1"]["attempts"] == 2


@pytest.mark.parametrize("name", ["07.9", "99.1", "7.2", "", 7, None])
def test_an_exercise_that_does_not_exist_is_said(toy, student, capsys, name):
    assert check(name, right) is None
    assert "allowed" in capsys.readouterr().out
    with pytest.raises(UserError):
        hint(name)


def test_hints_come_one_by_one_and_the_solution_after_an_attempt(toy, student, capsys):
    solution("07.1")
    assert "first an attempt" in capsys.readouterr().out
    for number, text in enumerate((*toy.hints, toy.hints[-1])):
        hint("07.1")
        said = capsys.readouterr().out
        assert text in said and f"hint {min(number + 1, 3)} of 3" in said
    assert stored(student)["exercises"]["07.1"]["hints"] == 3
    check("07.1", blank)
    capsys.readouterr()
    solution("07.1")
    assert "first an attempt" in capsys.readouterr().out
    check("07.1", wrong)
    capsys.readouterr()
    solution("07.1")
    assert "return causal_softmax(score)" in capsys.readouterr().out


def test_a_prediction_is_kept_compared_and_not_changed_afterwards(toy, student, capsys):
    assert predict("07.a", None) == 512 and "no guess yet" in capsys.readouterr().out
    assert predict("07.a", 1000) == 1000 and "your guess: 1,000 bytes" in capsys.readouterr().out
    assert predict("07.a", 2000) == 2000
    reveal("07.a", 2304)
    assert "13.2% too low" in capsys.readouterr().out
    assert predict("07.a", 2304) == 2000 and "already measured" in capsys.readouterr().out
    reveal("07.a", 2304)
    assert stored(student)["predictions"]["07.a"] == {
        "predicted": 2000.0, "unit": "bytes", "measured": 2304.0,
    }  # fmt: skip
    assert [(g.value, g.measured, g.own) for g in outcomes()] == [(2000.0, 2304.0, True)]


def test_a_guess_after_the_measurement_does_not_count(toy, student, capsys):
    predict("07.a", None)
    reveal("07.a", 2304)
    capsys.readouterr()
    predict("07.a", 2304)
    assert "will not count" in capsys.readouterr().out
    assert not guess_of("07.a").own


@pytest.mark.parametrize("value", ["many", [1], float("nan"), float("inf"), -1, 1e9])
def test_a_guess_that_is_no_number_or_in_another_unit_is_not_taken(toy, student, capsys, value):
    assert predict("07.a", value) == 512
    assert "not taken: " in capsys.readouterr().out
    assert not (student / progress.NAME).exists()


def test_distances_read_well():
    assert compared(5, 5) == "exactly"
    assert compared(5, 6) == "16.7% too low"
    assert compared(60, 6) == "10 times too high"
    assert compared(0, 0.25) == "off by 0.25"


def test_guesses_are_drawn_on_plots_and_into_the_last_figure(toy, student):
    from minids.lab.predict import draw
    from minids.plot import panel, png

    assert png(minids.lab.calibration())[:4] == b"\x89PNG"
    predict("07.a", 900)
    reveal("07.a", 2304)
    figure, ax = panel("m", x="x", y="y", source="s")
    ax.plot([0, 1], [0, 2000])
    draw(ax, "07.a")
    draw(ax, "07.a", axis="x", scale=1 / 1800)
    assert [t.get_text() for t in ax.texts] == ["your guess 900", "your guess 900"]
    assert ax.lines[1].get_ydata()[0] == 900 and ax.lines[2].get_xdata()[0] == 0.5
    figure = minids.lab.calibration()
    assert "07.a" in [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert "0 of 1" in figure.get_suptitle()


def test_the_library_is_shown_with_its_place(capsys):
    library(attention.attend_by_hand)
    said = capsys.readouterr().out
    assert "minids/nn/attention.py, lines " in said and "causal_softmax(score, mask)" in said
    library(mla)
    assert "minids/nn/mla.py, lines 1 to" in capsys.readouterr().out


def test_the_library_runs_the_students_function_for_as_long_as_the_block(student, capsys):
    original = attention.attend
    with pytest.raises(ZeroDivisionError), yours_inside(attention, attend=right):
        assert attention.attend is right and mla.attend is right  # wherever it was imported
        1 / 0  # noqa: B018
    assert attention.attend is original and mla.attend is original
    with yours_inside("minids.nn.attention", attend=blank):
        assert attention.attend is original
    assert "attend is still blank" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no atend"), yours_inside(attention, atend=right):
        raise AssertionError


def test_later_cells_use_the_students_only_if_it_is_right(toy, student):
    assert yours(right, toy.reference) is toy.reference
    check("07.1", right)
    assert yours(right, toy.reference) is right
    check("07.1", wrong)
    assert yours(wrong, toy.reference) is toy.reference


def test_fast_chooses_by_the_environment(monkeypatch):
    monkeypatch.delenv("MINIDS_FAST", raising=False)
    assert fast(1000, 10) == 1000
    monkeypatch.setenv("MINIDS_FAST", "1")
    assert fast(1000, 10) == 10


def test_only_the_lesson_that_is_asked_for_is_imported(monkeypatch):
    asked = []
    monkeypatch.setattr(exercises, "find_spec", lambda name: asked.append(name))
    assert exercises.of_lesson(7) == ()
    assert asked == ["minids.lab.exercises.lesson_07"]


def test_cells_are_found_by_their_mark():
    from minids.lab.cells import calls_check, exercise_in

    assert exercise_in("### YOUR CODE 07.2\ndef f(): ...") == "07.2"
    assert exercise_in("x = 1  ### YOUR CODE 07.2") is None
    assert calls_check('f()\ncheck("07.2", f)') and not calls_check('# check("07.2", f)')


def test_a_cell_is_checked_after_it_ran_and_the_check_below_only_confirms(toy, student, capsys):
    cell = "### YOUR CODE 07.1\ndef softmax_of_the_past(score): ..."
    notebook.after_cell({"softmax_of_the_past": wrong}.get, cell)
    assert "A query sees" in capsys.readouterr().out
    check("07.1", wrong)
    said = capsys.readouterr().out
    assert "no mask at all (as shown above)" in said and "A query sees" not in said
    check("07.1", wrong)
    assert "A query sees" in capsys.readouterr().out
    notebook.after_cell({"softmax_of_the_past": blank}.get, cell)
    notebook.after_cell({"softmax_of_the_past": wrong}.get, cell + '\ncheck("07.1", f)')
    notebook.after_cell({}.get, cell)
    notebook.after_cell({"f": wrong}.get, "### YOUR CODE 99.1")
    assert capsys.readouterr().out == ""


def test_the_calibration_curve_counts_own_guesses_and_clips_what_is_far_off():
    from minids.plot import calibration

    sides = {"guess": [1.0, 4.0, -1.0, 0.0], "measured": [1.0, 2.0, 5.0, 0.0]}
    figure = calibration(
        name=list("abcd"), own=[True, True, True, False], message="m", source="s", **sides
    )
    rows, curve = figure.axes
    points = [line.get_xdata()[0] for line in rows.lines if line.get_marker() == "o"]
    assert points == [1.0, 2.0, 0.01, 1.0]
    assert list(curve.lines[0].get_xdata()) == [1, 1.0, 2.0, 100.0, 100]
    assert [round(y) for y in curve.lines[0].get_ydata()] == [0, 33, 67, 100, 100]
    assert curve.get_ylabel() == "own guesses, %"
