"""Lesson 07, the KV cache hurts: keep keys and values, share them among heads, count the bytes."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_07_cache import CACHE
from minids.lab.exercises.lesson_07_groups import GROUPED
from minids.lab.exercises.lesson_07_work import DECODE

EXERCISES = (CACHE, GROUPED, DECODE)

PREDICTIONS = (
    Prediction(
        "07.a",
        "How many times faster does one token attend to 4,096 others when 16 query heads share "
        "one key head?",
        "times",
        16.0,
        0.1,
        1e4,
    ),
    Prediction(
        "07.b",
        "At V3's size with plain MHA, how many GB would one conversation of 128K tokens keep?",
        "GB",
        50.0,
        1e-3,
        1e6,
    ),
)
