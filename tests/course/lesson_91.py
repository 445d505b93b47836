"""A second lesson, to come after the first."""

from minids.lab.exercise import Case, Exercise, Mistake


def third(a, b, c):  # the names are part of the task
    return c


def first(a, b, c):
    return a


def second(a, b, c):
    return b


def everything(a, b, c):
    return a, b, c


EXERCISES = (
    Exercise(
        id="91.1",
        name="third",
        title="the third of three",
        reference=third,
        cases=lambda _generator: [Case((1, 2, 3)), Case((3.5, "a", None)), Case((0, 0, "b"))],
        mistakes=(
            Mistake("first", "that is the first", first),
            Mistake("second", "that is the second", second),
            Mistake("all", "one is asked for", everything),
        ),
        hints=("count", "one two three", "not two"),
    ),
)
