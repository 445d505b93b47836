"""Lesson 16: who speaks, rows of several examples, who sees whom, and what is paid for."""

from __future__ import annotations

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_16_rows import MASK, ROWS
from minids.lab.exercises.lesson_16_talk import LOSS, TALK

EXERCISES = (TALK, ROWS, MASK, LOSS)

PREDICTIONS = (
    Prediction(
        "16.a",
        "The base is right on about one addition in eight. After 16 steps of tuning on worked "
        "examples, a few seconds, how many of 100 new additions are right?",
        "%",
        40.0,
        0.0,
        100.0,
    ),
)
