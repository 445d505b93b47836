"""Lesson 06, failure clinic: four instruments that turn a suspicion into a number."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_06_log import HEALTH, SPIKES
from minids.lab.exercises.lesson_06_probe import LEAK, RATIO

EXERCISES = (LEAK, RATIO, HEALTH, SPIKES)

PREDICTIONS = (
    Prediction(
        "06.a",
        "Of eight ill runs, how many end with a training loss at least 5 % above the twin's?",
        "runs",
        6.0,
        0.0,
        8.0,
    ),
)
