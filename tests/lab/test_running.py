"""Every lesson, handed in as its own solution: all points; and as a state to start from."""

import json

import pytest

from minids.lab import exercises, folder, grade, submission
from minids.lab import master as masters
from minids.lab.check import judge

LESSONS = [m for path in masters.paths().values() if (m := masters.read(path)).exercises]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_solution_gets_all_points_though_no_experiment_ran(lesson, tmp_path):
    path = tmp_path / "solved.ipynb"
    path.write_text(json.dumps(masters.workbook(lesson, solved=True)))
    (rows,) = grade.grade(submission.find(path), seed=17)
    assert [row.exercise for row in rows] == list(lesson.exercises)
    assert all(row.verdict == "right" and row.points == row.possible for row in rows), rows


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_what_a_later_starter_gets_is_right(lesson):
    names = {"__name__": "given"}
    exec(folder.as_module(lesson), names)
    for name in lesson.exercises:
        exercise = exercises.find(name)
        assert judge(exercise, names[exercise.name]).right, name


def test_all_lessons_together_are_a_small_state(tmp_path, monkeypatch):
    if len(LESSONS) < 2:
        pytest.skip("one lesson has none before it")
    folder.prepare(tmp_path)
    files = folder.catch_up(LESSONS[-1], tmp_path)
    assert sum(file.stat().st_size for file in files) <= folder.LARGEST_STATE
