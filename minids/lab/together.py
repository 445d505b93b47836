"""Several processes for a cell of a lesson: each calls the same function of the library, all talk.

A notebook's own functions cannot travel to another process, their text can: what a student wrote is
put in place of the library's own inside every process, if it has passed its check.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minids.errors import UserError

LIMIT_S = 120


def together(
    task: str, world: int, *, yours: dict[str, Callable[..., Any]] | None = None, **given: Any
) -> list[Any]:
    """`task` ("module:function") in `world` processes over gloo → what each returned, by rank.

    yours: {"module:name": function}, replaced by text. All that is given or returned is JSON.
    Raises UserError, code 1, if a process fails or they have not ended in time.
    """
    replaced = {name: [f.__name__, text_of(f)] for name, f in (yours or {}).items()}
    order = {"task": task, "given": given, "replaced": replaced}
    with tempfile.TemporaryDirectory() as place:
        Path(place, "order.json").write_text(json.dumps(order), encoding="utf-8")
        command = [sys.executable, "-m", "minids.lab.together", place, str(world)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        ranks = [subprocess.Popen([*command, str(r)], **pipes) for r in range(world)]
        try:
            return [json.loads(answer_of(r, process)) for r, process in enumerate(ranks)]
        finally:
            for process in ranks:
                process.kill()


def text_of(function: Callable[..., Any]) -> str:
    """A function's source."""
    return textwrap.dedent(inspect.getsource(function))


def answer_of(rank: int, process: subprocess.Popen) -> str:
    """What a process printed. Raises UserError if it failed or hangs."""
    try:
        out, complaint = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise UserError("processes", f"rank {rank} has not ended", code=1) from None
    if process.returncode:
        last = (complaint.strip().splitlines() or ["no message"])[-1]
        raise UserError("processes", f"rank {rank} stopped: {last[:160]}", code=1)
    return out.strip().splitlines()[-1]


def replace(place: str, own_name: str, text: str) -> None:
    """Define a function from its text among the names of a module, in place of one of it."""
    from minids.lab.notebook import holders

    module, name = place.split(":")
    owner = importlib.import_module(module)
    original = getattr(owner, name)
    names = dict(vars(owner))
    exec(compile(text, f"<{name}>", "exec"), names)
    for holder, attribute in holders(original):
        setattr(holder, attribute, names[own_name])


def main(place: str, world: int, rank: int) -> None:
    """One process: meet, replace, call, print."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    order = json.loads(Path(place, "order.json").read_text(encoding="utf-8"))
    module, name = order["task"].split(":")
    task = getattr(importlib.import_module(module), name)
    for what, (own_name, text) in order["replaced"].items():
        replace(what, own_name, text)
    store = dist.FileStore(str(Path(place, "store")), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    found = task(**order["given"])
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
