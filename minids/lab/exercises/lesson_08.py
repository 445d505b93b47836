"""Lesson 08, MLA I: one latent per token, keys and values rebuilt from it, a layer with a cache."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_08_expand import EXPANDED
from minids.lab.exercises.lesson_08_layer import FORWARD, LATENTS

EXERCISES = (LATENTS, EXPANDED, FORWARD)

PREDICTIONS = (
    Prediction(
        "08.a",
        "How many times smaller is V3's cache than that of plain MHA at V3's size?",
        "times",
        8.0,
        1.0,
        1e4,
    ),
    Prediction(
        "08.b",
        "A small trained model makes keys and values of 256 channels. What share of their "
        "variance lies in the best 32 directions?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
)
