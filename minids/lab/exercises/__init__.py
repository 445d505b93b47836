"""The exercises, one file per lesson, each imported only when its lesson is asked for.

`lesson_07.py` holds EXERCISES and PREDICTIONS; ids begin with the lesson's two digits. A course of
your own: MINIDS_LESSONS names a folder with masters (NN-name.ipynb) and lesson_NN.py beside them.
"""

from __future__ import annotations

import importlib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from minids.errors import UserError
from minids.lab.exercise import Exercise, Prediction

if own := os.environ.get("MINIDS_LESSONS"):
    __path__.append(own)


def lessons() -> list[int]:
    """Numbers of the lessons that have exercises."""
    files = (file for place in __path__ for file in Path(place).glob("lesson_[0-9][0-9].py"))
    return sorted({int(file.stem.removeprefix("lesson_")) for file in files})


def of_lesson(number: int) -> tuple[Exercise, ...]:
    """Exercises of one lesson, in order; none if it has none."""
    return getattr(lesson(number), "EXERCISES", ())


def predictions_of(number: int) -> tuple[Prediction, ...]:
    """Predictions of one lesson, in order."""
    return getattr(lesson(number), "PREDICTIONS", ())


def all_exercises() -> list[Exercise]:
    """Every exercise of the course. Imports all lessons."""
    return [exercise for number in lessons() for exercise in of_lesson(number)]


def all_predictions() -> list[Prediction]:
    """Every prediction of the course. Imports all lessons."""
    return [prediction for number in lessons() for prediction in predictions_of(number)]


def find(exercise: str) -> Exercise:
    """The exercise "07.2". Raises UserError with the ids that exist."""
    return pick("exercise", exercise, of_lesson(number_of("exercise", exercise, r"\d+")))


def find_prediction(prediction: str) -> Prediction:
    """The prediction "07.a". Raises UserError with the ids that exist."""
    return pick(
        "prediction", prediction, predictions_of(number_of("prediction", prediction, "[a-z]"))
    )


def number_of(kind: str, name: object, tail: str) -> int:
    """The lesson in an id, 7 of "07.2"."""
    example = "07.a" if kind == "prediction" else "07.2"
    if not isinstance(name, str) or not re.fullmatch(rf"\d\d\.{tail}", name):
        raise UserError(kind, f"{name!r} is not the name of one", f'a text like "{example}"')
    return int(name[:2])


def pick(kind: str, name: str, among: tuple) -> Any:
    """The one of that id."""
    for one in among:
        if one.id == name:
            return one
    number = int(name[:2])
    has = ", ".join(one.id for one in among) or "none"
    if number in lessons():
        raise UserError(kind, f"{name} does not exist", f"of lesson {number:02d}: {has}")
    known = ", ".join(f"{n:02d}" for n in lessons()) or "none"
    raise UserError(kind, f"{name}: lesson {number:02d} has no {kind}s", f"lessons {known}")


def lesson(number: int) -> ModuleType | None:
    """The module of a lesson, None if it has none."""
    name = f"{__name__}.lesson_{number:02d}"
    return importlib.import_module(name) if find_spec(name) else None
