"""What a training run tells whoever watches it; the command line draws these, tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minids.config import RunConfig
from minids.train.probe import Machine


class Started(NamedTuple):
    """Before the first step."""

    cfg: RunConfig
    folder: Path
    machine: Machine
    parameters: int
    step: int  # 0, or where a resumed run goes on
    max_steps: int  # 0: by the clock
    floor_bpb: float | None  # exact entropy of the held-out documents, bits per byte
    bytes_per_token: float
    expected_loss: float  # ln V, what an untrained model should show
    started_loss: float | None  # what it shows


class Step(NamedTuple):
    """After each step."""

    step: int
    loss: float  # nats per token
    mtp_loss: list[float]
    grad_norm: float
    lr: float
    tokens: int  # so far
    tokens_per_s: float
    elapsed_s: float
    progress: float  # 0 … 1
    load: list[list[int]]
    skipped: bool


class Evaluated(NamedTuple):
    """Held-out loss."""

    step: int
    metrics: dict[str, float]  # val_loss, bpb, …


class Sampled(NamedTuple):
    """A text from the model as it is."""

    step: int
    text: str


class Saved(NamedTuple):
    """A checkpoint is on disk."""

    step: int
    folder: Path
    seconds: float


class Warned(NamedTuple):
    """Something a person should know."""

    step: int
    text: str


class RolledBack(NamedTuple):
    """The guard went back."""

    step: int
    to_step: int
    reason: str


class Finished(NamedTuple):
    """The run is over; also the return value of `train`."""

    folder: Path
    step: int
    tokens: int
    elapsed_s: float
    weights_sha256: str
    metrics: dict[str, float]  # last evaluation
    interrupted: int  # 0, or 130 / 143 after a clean save


Event = Started | Step | Evaluated | Sampled | Saved | Warned | RolledBack | Finished
