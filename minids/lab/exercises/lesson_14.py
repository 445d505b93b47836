"""Lesson 14, train in FP8: three products, the tiles of each, and sums that are too short."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_14_linear import BACKWARD, FORWARD
from minids.lab.exercises.lesson_14_sum import LIMITED

EXERCISES = (FORWARD, BACKWARD, LIMITED)

PREDICTIONS = (
    Prediction(
        "14.a",
        "4,096 products are added with 14 bits, as Hopper's FP8 units do: how large is the largest "
        "error, in % of a typical result?",
        "%",
        0.01,
        0.0,
        100.0,
    ),
    Prediction(
        "14.b",
        "By how many percent will the training loss in V3's FP8 differ from that in bfloat16?",
        "%",
        5.0,
        0.0,
        100.0,
    ),
)
