"""Lesson 17: read an answer, compute it exactly, judge it, and find it among the tags."""

from __future__ import annotations

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_17_judge import JUDGE, SPLIT
from minids.lab.exercises.lesson_17_read import READ, VALUE

EXERCISES = (READ, VALUE, JUDGE, SPLIT)

PREDICTIONS = (
    Prediction(
        "17.a",
        "Of 10,000 wrong answers, each a small change of a right one, how many does the filter "
        "with eval pay?",
        "of 10,000",
        20.0,
        0.0,
        10_000.0,
    ),
)
