"""One-thread worker processes: each trains on its rows of every batch, gradients are summed.

    python -m minids.train.workers      reads one line of JSON from its parent, then runs the loop

The parent is rank 0 and alone writes, prints and decides when to stop. Workers start before the
parent has read its data, so that their imports cost nothing. If one dies, the others fail at the
next sum; if the parent dies, so do they.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from minids.train.comm import Gloo, Solo


class Crew:
    """The worker processes of a run, as their parent sees them."""

    def __init__(self, world: int) -> None:
        self.world = world
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "minids.train.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=Path.cwd(),
            )
            for _ in range(1, world)
        ]

    def begin(self, folder: Path, resume_from: Path | None, faults: str) -> Solo:
        """Tell every worker what to run, then meet them."""
        if self.world == 1:
            return Solo()
        self.place = tempfile.TemporaryDirectory(prefix="minids-")
        meeting = Path(self.place.name) / "meeting"
        for rank, process in enumerate(self.processes, start=1):
            order = {
                "folder": str(folder.absolute()),
                "resume_from": str(resume_from.absolute()) if resume_from else None,
                "faults": faults,
                "rank": rank,
                "world": self.world,
                "meeting": str(meeting),
            }
            assert process.stdin is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return Gloo(0, self.world, meeting)

    def dismiss(self) -> None:
        """End all workers, whatever they do."""
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
        if hasattr(self, "place"):
            self.place.cleanup()


def main() -> int:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when all stop
    from minids.train import loop

    line = sys.stdin.readline()
    if not line:
        return 0
    order = json.loads(line)
    comm = Gloo(order["rank"], order["world"], Path(order["meeting"]))
    loop.work(order, comm)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
