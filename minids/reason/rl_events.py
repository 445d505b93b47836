"""What an RL run tells whoever watches it; the command line draws these, tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from minids.reason.passrate import Attempt


class Stepped(NamedTuple):
    """After each step: its line in metrics.jsonl and one fresh completion."""

    record: dict[str, Any]
    sample: Attempt


class Evaluated(NamedTuple):
    """Held-out pass rates, hits and problems of each task."""

    step: int
    hits: dict[str, tuple[int, int]]
    tokens: float


class Warned(NamedTuple):
    """Something a person should know."""

    step: int
    text: str


class Finished(NamedTuple):
    """The run is over."""

    folder: Path
    step: int
    elapsed_s: float
    weights_sha256: str
    hits: dict[str, tuple[int, int]]
    interrupted: int


Event = Stepped | Evaluated | Warned | Finished
