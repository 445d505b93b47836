"""Lesson 10, experts I: run the chosen, reach few groups, choose by bias and weigh by affinity."""

from minids.lab.exercise import Prediction
from minids.lab.exercises.lesson_10_experts import GATHER, LOOP
from minids.lab.exercises.lesson_10_route import GROUPS, ROUTE

EXERCISES = (LOOP, GATHER, GROUPS, ROUTE)

PREDICTIONS = (
    Prediction(
        "10.a",
        "Eight sequences decode together, each token asks 4 of 32 experts: what share is asked?",
        "%",
        100.0,
        0.0,
        100.0,
    ),
    Prediction(
        "10.b",
        "256 experts on 8 nodes, a token asks 8 without any limit: how many nodes does it reach?",
        "nodes",
        8.0,
        1.0,
        8.0,
    ),
)
