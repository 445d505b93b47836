"""What a lesson's first cell imports. From then on cells with `### YOUR CODE` are checked."""

from minids.lab import offline
from minids.lab.notebook import (
    calibration,
    check,
    fast,
    hint,
    library,
    predict,
    reveal,
    solution,
    yours,
    yours_inside,
)

__all__ = [
    "calibration",
    "check",
    "fast",
    "hint",
    "library",
    "predict",
    "reveal",
    "solution",
    "yours",
    "yours_inside",
]

offline.switch_off()
