"""What a student handed in: its parameters, its code, and where in it an error arose."""

from __future__ import annotations

import inspect
from typing import Any

BLANK = "NotImplementedError"


def parameters(answer: Any) -> list[str]:
    """Names of what it takes; none if that cannot be known."""
    try:
        return [p.name for p in inspect.signature(answer).parameters.values()]
    except (TypeError, ValueError):
        return []


def codes(answer: Any) -> list[Any]:
    """Code objects of a function, or of the methods of a class."""
    answer = inspect.unwrap(answer) if callable(answer) else answer
    if inspect.isclass(answer):
        members = [inspect.unwrap(m) for m in vars(answer).values() if callable(m)]
        return [m.__code__ for m in members if hasattr(m, "__code__")]
    function: Any = getattr(answer, "__func__", answer)
    if not hasattr(function, "__code__"):
        function = vars(type(answer)).get("__call__")
    return [function.__code__] if hasattr(function, "__code__") else []


def is_blank(answer: Any) -> bool:
    """Whether it still says NotImplementedError."""
    return any(BLANK in code.co_names for code in codes(answer))


def lines_of(error: BaseException, answer: Any) -> tuple[str, ...]:
    """The steps of a traceback that lie in the answer's own code: "line 3: q = q @ k"."""
    files = {code.co_filename for code in codes(answer)}
    if error.__traceback__ is None:
        return ()
    shown = []
    for frame in inspect.getinnerframes(error.__traceback__):
        if frame.filename in files or "ipykernel" in frame.filename:
            source = (frame.code_context or [""])[0].strip()
            shown.append(f"line {frame.lineno} of {frame.function}: {source}".rstrip(": "))
    return tuple(shown[-4:])


def first_lines(text: str, n: int) -> str:
    """The first n lines of a message that may be long."""
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
    return "\n".join([*lines[:n], *(["…"] if len(lines) > n else [])])
