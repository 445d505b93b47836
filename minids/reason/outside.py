"""Judges that others wrote, kept at a distance: a process of its own, a time limit, no trust.

`reasoning-gym` scores answers of its data sets, `math-verify` compares mathematical expressions;
both parse what a policy wrote with tools that can be made to run for ever or to use all memory.
So they judge in a process that is killed when it takes too long, and whatever is not surely right
is paid nothing: a time-out is the answer's fault, a failure the judge's.
One line of JSON to the judge, one back. The extra `rl` brings both packages.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from minids.errors import UserError
from minids.reason.verify import LONGEST, Verdict

PATIENCE_S = 3.0  # for one verdict
START_S = 60.0  # for the first: the packages are loaded
MEMORY = 4 << 30  # bytes of address space
RIGHT = 1 - 1e-6  # partial credit of a data set is no right answer
EXTRA = "pip install 'minids[rl]' brings it"


class Judge:
    """A process that answers questions one by one; started when asked, killed when late."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.patience_s, self.process, self.rest = patience_s, None, b""

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer as JSON. Raises TimeoutError, or OSError if the judge ended."""
        limit = self.patience_s
        if self.process is None or self.process.poll() is not None:
            self.start()
            limit = START_S
        assert self.process is not None and self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            line = self.line(self.process.stdout.fileno(), time.monotonic() + limit)
            return json.loads(line)
        except (OSError, ValueError):
            self.stop()
            raise

    def start(self) -> None:
        """A fresh process."""
        self.rest = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minids.reason.outside"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def line(self, source: int, deadline: float) -> bytes:
        """One line, before the deadline."""
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                raise TimeoutError
            part = os.read(source, 1 << 16)
            if not part:
                raise OSError("the judge ended")
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def stop(self) -> None:
        """End the process at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe:
                    pipe.close()
        self.process = None


JUDGE = Judge()


def verdict(question: dict[str, Any], text: str, judge: Judge = JUDGE) -> Verdict:
    """What the judge says about an answer; fails closed."""
    if len(text) > LONGEST:
        return Verdict("too_big", f"{len(text):,} characters, at most {LONGEST:,}")
    if not text.strip():
        return Verdict("malformed", "nothing is no answer")
    try:
        found = judge.ask(question | {"text": text})
    except TimeoutError:
        return Verdict("too_big", f"no verdict within {judge.patience_s:g} s")
    except (OSError, ValueError):
        return Verdict("unscorable", "the judge ended")
    if "missing" in found:
        raise missing(found["missing"])
    if "error" in found:
        return Verdict("unscorable", f"the judge failed: {found['error']}")
    score = found["score"]
    if score >= RIGHT:
        return Verdict("correct", "is right, says the judge")
    return Verdict("wrong_value", f"scores {score:.2f}")


def missing(package: str) -> UserError:
    """The one line for a package that is not here."""
    return UserError("task", f"needs {package}, which is not installed", "", hint=EXTRA)


# In the process


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """A score between 0 and 1, or what went wrong."""
    try:
        rule = {"gym": score_gym, "math": score_math}[question["rule"]]
        score = float(rule(question))
        return {"score": score if 0 <= score <= 1 else 0.0}
    except ImportError as error:
        return {"missing": (error.name or "the package").replace("_", "-")}
    except Exception as error:
        return {"error": type(error).__name__}


def score_gym(question: dict[str, Any]) -> float:
    """By the data set's own rule; the entry is made again from its seed."""
    import reasoning_gym  # pyright: ignore[reportMissingImports]

    data = reasoning_gym.create_dataset(question["name"], size=1, seed=question["seed"])
    return data.score_answer(question["text"].strip(), data[0])


def score_math(question: dict[str, Any]) -> float:
    """Equal as mathematics: 1/2, 0.5 and \\frac{1}{2} are one answer."""
    from math_verify import parse, verify  # pyright: ignore[reportMissingImports]

    expected, got = (
        parse(f"${question[key]}$", parsing_timeout=None) for key in ("answer", "text")
    )  # the time is watched from outside
    return bool(expected and got) and verify(expected, got, timeout_seconds=None)


def serve() -> None:
    """Lines in, lines out, until the other end closes. What a package prints goes nowhere."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # a system without such limits still has the time limit
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        out.write(json.dumps(answer(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    serve()
