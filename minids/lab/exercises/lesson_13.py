"""Lesson 13, FP8 by hand: read a byte, round to even, write a byte, give each tile its scale."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_13_codec import DECODE, ENCODE, ROUND
from minids.lab.exercises.lesson_13_scale import TILES

EXERCISES = (DECODE, ROUND, ENCODE, TILES)

PREDICTIONS = (
    Prediction(
        "13.a",
        "Loss of a small model, taken backward: what share of the gradients becomes 0 when cast "
        "to E4M3 as they are?",
        "%",
        5.0,
        0.0,
        100.0,
    ),
    Prediction(
        "13.b",
        "How large must one number be, in standard deviations, to double the error of the other "
        "16,383 that share its FP8 scale?",
        "standard deviations",
        100.0,
        1.0,
        1e7,
    ),
)
