"""Lesson 05, train it: one gradient from many micro-batches, clipping, AdamW, Muon, the rate."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_05_adamw import ADAMW
from minids.lab.exercises.lesson_05_muon import ORTHOGONALIZE
from minids.lab.exercises.lesson_05_rate import SCHEDULE
from minids.lab.exercises.lesson_05_step import ACCUMULATE, CLIP

EXERCISES = (ACCUMULATE, CLIP, ADAMW, ORTHOGONALIZE, SCHEDULE)

PREDICTIONS = (
    Prediction(
        "05.a",
        "After what share of the steps does Muon have the loss that AdamW ends with?",
        "%",
        80.0,
        1.0,
        100.0,
    ),
    Prediction(
        "05.b",
        "Largest over median singular value in the gradient of a trained weight matrix?",
        "",
        3.0,
        1.0,
        1e9,
    ),
)
