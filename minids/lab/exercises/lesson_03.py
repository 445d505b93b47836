"""Lesson 03, attention, three ways: who sees whom, softmax over those, einsum, batched products."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_03_mask import SOFTMAX, VISIBLE
from minids.lab.exercises.lesson_03_product import BY_HAND, SHORT

EXERCISES = (VISIBLE, SOFTMAX, BY_HAND, SHORT)

PREDICTIONS = (
    Prediction(
        "03.a",
        "The text becomes four times as long. How many times more memory does attention by "
        "einsum take?",
        "times",
        4.0,
        0.1,
        1e4,
    ),
    Prediction(
        "03.b",
        "And how many times more does the fused kernel take?",
        "times",
        8.0,
        0.1,
        1e4,
    ),
)
