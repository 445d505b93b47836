"""For graders that score a cell by whether it raises, as nbgrader does."""

from __future__ import annotations

from typing import Any

from minids.lab import exercises
from minids.lab.check import judge


def must_be_right(name: str, answer: Any) -> None:
    """Raise AssertionError, with the mistake's name, unless the answer is right."""
    verdict = judge(exercises.find(name), answer)
    if not verdict.right:
        raise AssertionError(verdict.line)
