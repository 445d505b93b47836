"""Lesson 04, position by rotation: both layouts, frequencies and YaRN's ramp, the scale."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_04_rotate import HALVES, PAIRS
from minids.lab.exercises.lesson_04_stretch import FREQUENCIES, SCALE

EXERCISES = (PAIRS, HALVES, FREQUENCIES, SCALE)

PREDICTIONS = (
    Prediction(
        "04.a",
        "A trained model is run with the other layout, all weights as they are. What is its loss?",
        "nats per token",
        7.0,
        0.0,
        100.0,
    ),
    Prediction(
        "04.b",
        "How many of V3's 32 pairs turn less than once within the 4,096 tokens of training?",
        "pairs",
        4.0,
        0.0,
        32.0,
    ),
)
