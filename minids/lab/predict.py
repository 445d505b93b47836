"""A number guessed before the run, kept, and held against what was measured.

The first guess counts: after the measurement it cannot be changed. Where nobody guesses, the
stated default stands in, and says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from minids.lab import exercises, progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minids.lab.exercise import Prediction


class Guess(NamedTuple):
    """What was predicted, by whom, and what came out."""

    prediction: Prediction
    value: float
    own: bool  # the student's, made before the measurement; else the default's, or too late
    measured: float | None

    @property
    def who(self) -> str:
        """Whose number it is."""
        return "your guess" if self.own else "default guess" if self.default else "late guess"

    @property
    def default(self) -> bool:
        """Whether it is the stated default."""
        return not self.own and self.value == self.prediction.default


def guess_of(name: str) -> Guess:
    """The guess in force."""
    prediction = exercises.find_prediction(name)
    stored = progress.entry("predictions", name)
    value = stored.get("predicted", prediction.default)
    own = "predicted" in stored and not stored.get("late")
    return Guess(prediction, float(value), own, stored.get("measured"))


def number(prediction: Prediction, value: Any) -> tuple[float | None, str]:
    """The guess as a number, or why it is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None, f"{value!r} is not a number; the {prediction.unit or 'ratio'} alone goes in"
    if not math.isfinite(found):
        return None, f"{found} is not a finite number"
    if not prediction.low <= found <= prediction.high:
        unit = f" {prediction.unit}" if prediction.unit else ""
        span = f"{amount(prediction.low)} to {amount(prediction.high)}{unit}"
        return None, f"{amount(found)} lies outside {span}; is it in that unit?"
    return found, ""


def compared(value: float, measured: float) -> str:
    """How far off, in words: by percent, by a factor, or by a difference."""
    if value == measured:
        return "exactly"
    if value > 0 and measured > 0:
        ratio = max(value / measured, measured / value)
        side = "too high" if value > measured else "too low"
        if ratio < 2:
            return f"{abs(value / measured - 1):.1%} {side}"
        return f"{ratio:.3g} times {side}"
    return f"off by {amount(abs(value - measured))}"


def amount(value: float) -> str:
    """A number for people: 4,608 · 0.0312 · 2.5e+12."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"


def draw(ax: Axes, name: str, *, axis: str = "y", scale: float = 1.0) -> None:
    """Mark the guess on a plot: a dashed line with its name, across `axis`, times `scale`."""
    from minids.plot import COLOUR

    guess, colour = guess_of(name), COLOUR["guess"]
    at = guess.value * scale
    text = f"{guess.who} {amount(guess.value)}"
    style = {"color": colour, "linestyle": (0, (4, 2)), "linewidth": 2, "zorder": 3}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    label = {"color": "#9C4A77", "fontsize": 12, "fontweight": "bold", "bbox": box, "zorder": 4}
    if axis == "y":
        ax.axhline(at, **style)
        side = {"xytext": (4, 4), "textcoords": "offset points", "va": "bottom", "ha": "left"}
        ax.annotate(text, (0, at), xycoords=("axes fraction", "data"), **side, **label)
    else:
        ax.axvline(at, **style)
        side = {"xytext": (4, -4), "textcoords": "offset points", "va": "top", "ha": "left"}
        ax.annotate(text, (at, 1), xycoords=("data", "axes fraction"), **side, **label)


def outcomes() -> list[Guess]:
    """All predictions of the course that have been measured, in order of their names."""
    names = sorted(progress.load().get("predictions", {}))
    known = {p.id for p in exercises.all_predictions()}
    return [g for g in map(guess_of, (n for n in names if n in known)) if g.measured is not None]


def calibration() -> Figure:
    """The course's last figure: every guess against what was measured."""
    from minids import plot

    points = outcomes()
    close = sum(within_factor_two(g.value, g.measured or 0.0) for g in points)
    message = f"{close} of {len(points)} guesses were within a factor of two"
    return plot.calibration(
        name=[g.prediction.id for g in points],
        guess=[g.value for g in points],
        measured=[g.measured or 0.0 for g in points],
        own=[g.own for g in points],
        message=message if points else "No prediction has been measured yet",
        source="filled: your own guess, made before the run · hollow: the stated default",
    )


def within_factor_two(value: float, measured: float) -> bool:
    """Of one sign and not further apart."""
    return value == measured or 0.5 <= value / (measured or math.inf) <= 2
