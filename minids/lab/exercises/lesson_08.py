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
        "Keys and values of 1,024 channels are rebuilt from a latent of 64, in a trained model. "
        "What share of their variance survives?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
)
