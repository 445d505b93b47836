"""Lesson 18: what k tries give, by a judge, by a score, by a vote; thinking within a budget."""

from __future__ import annotations

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_18_budget import CLOSE, REOPEN
from minids.lab.exercises.lesson_18_tries import BEST, PASS, VOTE

EXERCISES = (PASS, BEST, VOTE, CLOSE, REOPEN)

PREDICTIONS = (
    Prediction(
        "18.a",
        "The base is right on one addition in eight. It tries each of 100 problems 32 times and "
        "the commonest answer counts, nobody knows the right one. How many of 100 are right?",
        "%",
        13.0,
        0.0,
        100.0,
    ),
    Prediction(
        "18.b",
        "A trained model is right on 98 of 100. When it has finished thinking, its end is "
        "replaced by the word wait, once, and it goes on. How many of 100 are right then?",
        "%",
        98.0,
        0.0,
        100.0,
    ),
)
