"""Lesson 09, MLA II: the same function in another order, when it pays, what it costs."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_09_absorb import ABSORBED
from minids.lab.exercises.lesson_09_bill import CORE, PAYS

EXERCISES = (ABSORBED, CORE, PAYS)

PREDICTIONS = (
    Prediction(
        "09.a",
        "With 1,024 tokens kept, how many times faster than expanded is absorbed attention for "
        "one new token?",
        "times",
        4.0,
        1e-3,
        1e4,
    ),
    Prediction(
        "09.b",
        "With 1,024 tokens kept, up to how many new tokens at once is absorbed faster?",
        "tokens",
        16.0,
        1.0,
        1e6,
    ),
)
