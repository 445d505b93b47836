"""The process that a submission runs in: runs cells, calls answers, sends back what they returned.

It judges nothing: whoever changes everything in here changes only his own results, which the grader
compares with its own. Cells run by exec in one namespace, not in a Jupyter kernel: one process to
limit and to kill, no ports, half a second less; magics do nothing. Requests come in on stdin,
replies leave on stdout; cells get an empty stdin, and a stdout that ends in the grader's log.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import time
import traceback
import types
from typing import Any, BinaryIO

from minids.lab.needed import without_magics

LIMIT_S = 10.0  # for all cases of an exercise; in a notebook it is 2, but a class is graded at once


def main() -> None:
    """Answer requests until the grader is gone."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    hello = receive(inbox)
    limit(hello)
    bench = Bench(hello["exercises"])
    limit_memory(hello)
    token = bytes.fromhex(hello["token"])
    reply(outbox, token, bench.wire.dump({"ready": True}))
    while request := receive(inbox):
        reply(outbox, token, bench.answer(request))


def receive(inbox: BinaryIO) -> dict[str, Any]:
    """The next request, {} at the end."""
    import json

    line = inbox.readline()
    return json.loads(line) if line else {}


def reply(outbox: BinaryIO, token: bytes, data: bytes) -> None:
    """One message, marked as ours."""
    outbox.write(token + len(data).to_bytes(8, "big") + data)
    outbox.flush()


def limit(hello: dict[str, Any]) -> None:
    """What the system itself can hold back, where it can; the grader watches besides."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: end with the grader
    with contextlib.suppress(ImportError):
        import resource

        for name, amount in (
            ("RLIMIT_CPU", hello["cpu_s"]),
            ("RLIMIT_FSIZE", hello["file_bytes"]),
            ("RLIMIT_CORE", 0),
        ):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(getattr(resource, name), (amount, amount))


def limit_memory(hello: dict[str, Any]) -> None:
    """Beyond what the libraries take. Linux only: elsewhere address space says little."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    with open("/proc/self/statm") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
    amount = now + hello["memory_bytes"]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (amount, amount))


class Bench:
    """One namespace, and everything taken hold of before the first cell runs."""

    def __init__(self, exercises: list[str]) -> None:
        import torch

        import minids.lab.check  # noqa: F401 (the name minids.lab.check is also a function)
        from minids.lab import exercises as known
        from minids.lab import wire

        self.torch, self.wire = torch, wire
        self.check = types.SimpleNamespace(**vars(sys.modules["minids.lab.check"]))
        self.exercises = {name: known.find(name) for name in exercises}
        self.library = {name: e.reference for name, e in self.exercises.items()}
        notebook = types.ModuleType("__main__")
        notebook.__dict__["display"] = lambda *_, **__: None
        sys.modules["__main__"] = notebook
        self.namespace = notebook.__dict__

    def answer(self, request: dict[str, Any]) -> bytes:
        """Do what was asked; whatever goes wrong is the submission's and becomes the reply."""
        tensors: dict[str, Any] = {}
        try:
            if request["do"] == "cell":
                result = self.cell(request["number"], request["source"])
            elif request["do"] == "library":
                name = request["exercise"]
                self.namespace[self.exercises[name].name] = self.library[name]
                result = {}
            else:
                result = self.observe(request["exercise"], request["seed"], tensors)
            data = self.wire.dump(result, tensors)
            if len(data) <= self.wire.LARGEST:
                return data
            return self.wire.dump({"failed": f"returned {len(data):,} bytes"})
        except BaseException as error:
            return self.wire.dump({"failed": f"{type(error).__name__}: {error}"[:2000]})

    def cell(self, number: int, source: str) -> dict[str, Any]:
        """Run one cell → its error, if it has one."""
        name = f"<cell {number}>"
        try:
            source = without_magics(source)
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), self.namespace)
        except BaseException as error:
            lines = [
                f"line {step.lineno} of cell {number}: {step.line}"
                for step in traceback.extract_tb(error.__traceback__)
                if step.filename.startswith("<cell ")
            ]
            return {
                "error": type(error).__name__,
                "text": str(error)[:2000],
                "lines": lines[-4:],
            }
        return {}

    def observe(self, name: str, seed: int, tensors: dict[str, Any]) -> dict[str, Any]:
        """Call the answer on the cases of the seed → what it returned, or why it did not."""
        exercise, check, torch = self.exercises[name], self.check, self.torch
        if exercise.name not in self.namespace:
            return {"missing": exercise.name}
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("cpu")
        answer = self.namespace[exercise.name]
        if problem := check.uncallable(exercise, answer):
            return {"verdict": {"kind": "callable", "says": problem}}
        printed = check.Printed()
        judging = check.Judging(exercise, answer, seed, time.monotonic(), LIMIT_S, printed)
        judging.cases = list(exercise.cases(torch.Generator().manual_seed(seed)))
        given = judging.answer_within(LIMIT_S)
        facts = {
            "parameters": check.parameters(answer),
            "library": str(getattr(answer, "__module__", "")).startswith("minids."),
            "printed": list(check.said(printed)),
        }
        if isinstance(given, check.Verdict):
            verdict = {"kind": given.kind, "says": given.says, "case": given.case}
            return facts | {"verdict": verdict}
        outcomes = []
        for outcome in given:
            error = outcome.error or outcome.gradient_error
            lines = check.lines_of(error, answer) if error else ()
            outcomes.append(self.wire.pack_outcome(outcome, lines, tensors))
        return facts | {"outcomes": outcomes}


if __name__ == "__main__":
    main()
