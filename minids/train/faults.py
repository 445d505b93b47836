"""Faults on purpose: to see what the guard and the checkpoints do, in class and in tests.

    nan-grad@7                the gradient of step 7 is NaN (inf-grad@7: infinite)
    spike@12                  loss and gradient of step 12 count ten times
    exit@step:13              the process dies before step 13
    exit@save:before-manifest:20  … inside the save of step 20
    slow-save=2s              every save takes 2 s longer
    nan-grad@7:rank1          any of these on one rank of several alone

A fault happens once, at its step, and is written into the checkpoints of the run.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field

from minids.errors import UserError

STAGES = ("before-files", "before-manifest", "before-rename", "after-rename")
ALLOWED = (
    "nan-grad@STEP, inf-grad@STEP, spike@STEP, exit@step:STEP, slow-save=SECONDSs, "
    f"exit@save:STAGE:STEP with STAGE one of {', '.join(STAGES)}; behind each :rankN"
)
PATTERN = re.compile(
    r"(?:(?P<kind>nan-grad|inf-grad|spike)@(?P<at>\d{1,9})"
    r"|exit@step:(?P<exit>\d{1,9})"
    rf"|exit@save:(?P<stage>{'|'.join(STAGES)}):(?P<save>\d{{1,9}})"
    r"|slow-save=(?P<seconds>\d{1,3}(\.\d{1,3})?)s)(:rank(?P<rank>\d{1,6}))?"
)


@dataclass
class Faults:
    """The faults of one run."""

    text: str = ""
    at_step: dict[tuple[str, int], bool] = field(default_factory=dict)  # not yet happened
    at_save: set[tuple[str, int]] = field(default_factory=set)
    slow_save_s: float = 0.0

    def happens(self, kind: str, step: int) -> bool:
        """Whether this fault is due, once."""
        return self.at_step.pop((kind, step), False)

    def before_step(self, step: int) -> None:
        """Die here if told to, as a power cut would."""
        if self.happens("exit", step):
            os._exit(137)

    def during_save(self, stage: str, step: int) -> None:
        """Wait or die at a stage of a save."""
        if stage == "before-manifest" and self.slow_save_s:
            time.sleep(self.slow_save_s)
        if (stage, step) in self.at_save:
            os._exit(137)


def parse(text: str, rank: int = 0) -> Faults:
    """`nan-grad@7,spike@12,…` → Faults of one rank; UserError for anything else."""
    faults = Faults(text)
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = PATTERN.fullmatch(part)
        if not found:
            raise UserError("--inject", f"{part!r} is no fault", ALLOWED)
        if found["rank"] is not None and int(found["rank"]) != rank:
            continue
        if found["kind"]:
            faults.at_step[found["kind"], int(found["at"])] = True
        elif found["exit"]:
            faults.at_step["exit", int(found["exit"])] = True
        elif found["stage"]:
            faults.at_save.add((found["stage"], int(found["save"])))
        else:
            faults.slow_save_s = float(found["seconds"])
    return faults
