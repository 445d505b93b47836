"""Lesson 19: from REINFORCE to GRPO, a step each, and what a token counts in the family."""

from __future__ import annotations

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_19_clip import CLIP, K3, SHARE
from minids.lab.exercises.lesson_19_group import ADVANTAGE, REINFORCE

EXERCISES = (REINFORCE, ADVANTAGE, CLIP, K3, SHARE)

PREDICTIONS = (
    Prediction(
        "19.a",
        "A right answer is paid 11 and a wrong one 10, instead of 1 and 0. The expected gradient "
        "is the same. How many times as noisy is its estimate?",
        "",
        1.0,
        0.0,
        10_000.0,
    ),
)
