"""A schedule carried out by real processes: small stages, real messages, times of every action.

The timetable of `play` is arithmetic; this is the proof that ranks which only know their own order
and wait for what they need finish, in that order, with the gradients of one process. Each stage is
one matrix and a tanh; what a stage of a large model would compute is slept through, so that four
ranks fit on two cores and still wait for each other as they would.
Axes: b rows of a micro-batch, d width.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from minids.dist.schedules import Action, Durations, Event, Schedule, Timetable, parts, play
from minids.errors import UserError

ROWS, WIDTH = 4, 16
LIMIT_S = 120
Place = tuple[int, int]  # stage, micro-batch


class Performance(NamedTuple):
    """What the processes did."""

    table: Timetable  # measured, in units
    error: float  # of all gradients, largest difference to one process over the largest value


def weight_of(stage: int) -> Tensor:
    """The matrix of a stage, the same wherever it lives.  → [d d]"""
    generator = torch.Generator().manual_seed(100 + stage)
    return torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) / WIDTH**0.5


def input_of(micro: int) -> Tensor:
    """A micro-batch.  → [b d]"""
    generator = torch.Generator().manual_seed(10_000 + micro)
    return torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)


def alone(stages: int, micro_batches: int) -> list[Tensor]:
    """The gradients of every stage in one process, the loss being the sum of all last squares."""
    weights = [weight_of(s).requires_grad_() for s in range(stages)]
    loss = torch.zeros((), dtype=torch.float64)  # []
    for micro in range(micro_batches):
        x = input_of(micro)
        for weight in weights:
            x = torch.tanh(x @ weight)
        loss = loss + x.square().sum()
    return [*torch.autograd.grad(loss, weights)]


class Rank:
    """One process: its stages, what it keeps for the backward pass, its messages."""

    def __init__(self, schedule: Schedule, rank: int, durations: Durations, unit_s: float) -> None:
        self.schedule, self.rank = schedule, rank
        self.durations, self.unit_s = durations, unit_s
        self.home = {
            (stage, micro): r
            for r, order in enumerate(schedule.orders)
            for action in order
            for kind, stage, micro in parts(action)
            if kind == "F"
        }
        mine = {stage for (stage, _), r in self.home.items() if r == rank}
        self.weight = {s: weight_of(s).requires_grad_() for s in mine}
        self.grad = {s: torch.zeros(WIDTH, WIDTH, dtype=torch.float64) for s in mine}
        self.inputs: dict[Place, Tensor] = {}
        self.outputs: dict[Place, Tensor] = {}
        self.behind: dict[Place, Tensor] = {}  # gradients that wait for their weight part
        self.local: dict[int, Tensor] = {}  # messages to oneself, by tag
        self.sent: list[tuple[dist.Work | None, Tensor]] = []

    def run(self) -> list[Event]:
        """All actions in order; times in seconds."""
        events = []
        for action in self.schedule.orders[self.rank]:
            ready = [self.wait_for(*part) for part in parts(action)]
            start = time.monotonic()
            out = [
                self.compute(*part, given) for part, given in zip(parts(action), ready, strict=True)
            ]
            left = start + self.unit_s * self.durations.of(action.kind) - time.monotonic()
            time.sleep(max(0.0, left))
            events.append(Event(self.rank, action, start, time.monotonic()))
            for (kind, stage, micro), message in zip(parts(action), out, strict=True):
                self.send(kind, stage, micro, message)
        for work, _ in self.sent:
            if work is not None:
                work.wait()
        return events

    def tag(self, kind: str, stage: int, micro: int) -> int:
        """A number of its own for every message."""
        return ((kind != "F") * self.schedule.stages + stage) * self.schedule.micro_batches + micro

    def wait_for(self, kind: str, stage: int, micro: int) -> Tensor | None:
        """What another stage has made for this action.  → [b d], None if nothing is needed"""
        last = stage == self.schedule.stages - 1
        if kind == "W" or (kind == "F" and stage == 0) or (kind != "F" and last):
            return None
        before = stage - 1 if kind == "F" else stage + 1
        tag, home = self.tag(kind, before, micro), self.home[before, micro]
        if home == self.rank:
            return self.local.pop(tag)
        got = torch.empty(ROWS, WIDTH, dtype=torch.float64)
        dist.recv(got, home, tag=tag)
        return got

    def compute(self, kind: str, stage: int, micro: int, given: Tensor | None) -> Tensor | None:
        """The arithmetic of one action → what the next stage needs, [b d] or None."""
        place, weight = (stage, micro), self.weight[stage]
        if kind == "F":
            x = (input_of(micro) if given is None else given).requires_grad_()
            self.inputs[place], self.outputs[place] = x, torch.tanh(x @ weight)
            return self.outputs[place].detach()
        x, y = self.inputs[place], self.outputs[place]
        if kind == "W":
            self.grad[stage] += torch.autograd.grad(y, weight, self.behind.pop(place))[0]
            self.forget(place)
            return None
        grad = 2 * y.detach() if given is None else given
        if kind == "I":
            self.behind[place] = grad
            return torch.autograd.grad(y, x, grad, retain_graph=True)[0]
        into, own = torch.autograd.grad(y, (x, weight), grad)
        self.grad[stage] += own
        self.forget(place)
        return into

    def forget(self, place: Place) -> None:
        """The activations of a place are not needed any more."""
        del self.inputs[place], self.outputs[place]

    def send(self, kind: str, stage: int, micro: int, message: Tensor | None) -> None:
        """Hand a result to the rank that waits for it; nobody waits for the ends and for W."""
        after = stage + 1 if kind == "F" else stage - 1
        if message is None or not 0 <= after < self.schedule.stages:
            return
        tag, home = self.tag(kind, stage, micro), self.home[after, micro]
        if home == self.rank:
            self.local[tag] = message
        else:
            self.sent.append((dist.isend(message.contiguous(), home, tag=tag), message))


def perform(
    schedules: Sequence[Schedule], *, durations: Durations | None = None, unit_s: float = 0.02
) -> list[Performance]:
    """Start one process for each rank, let them carry out every schedule, collect the times.

    All schedules have the same number of ranks. Raises UserError, code 1, if a process fails or
    they have not ended in time.
    """
    world, durations = len(schedules[0].orders), durations or Durations()
    for schedule in schedules:
        play(schedule)  # ranks that would wait for each other for ever are not started
    asked = {"durations": durations, "unit_s": unit_s, "schedules": schedules}
    with tempfile.TemporaryDirectory() as place:
        order = Path(place, "order.json")
        order.write_text(json.dumps(asked), encoding="utf-8")
        command = [sys.executable, "-m", "minids.dist.perform", place, str(world)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        ranks = [subprocess.Popen([*command, str(r)], **pipes) for r in range(world)]
        try:
            said = [answer_of(r, process) for r, process in enumerate(ranks)]
        finally:
            for process in ranks:
                process.kill()
    return [
        collected(schedule, [json.loads(text)[i] for text in said], unit_s)
        for i, schedule in enumerate(schedules)
    ]


def answer_of(rank: int, process: subprocess.Popen) -> str:
    """What a process printed. Raises UserError if it failed or hangs."""
    try:
        out, complaint = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise UserError("schedule", f"rank {rank} is still waiting", code=1) from None
    if process.returncode:
        last = (complaint.strip().splitlines() or ["no message"])[-1]
        raise UserError("schedule", f"rank {rank} stopped: {last[:160]}", code=1)
    return out


def collected(schedule: Schedule, said: list[dict], unit_s: float) -> Performance:
    """All ranks' times from the first start on, in units; their gradients against one process."""
    first = min(start for rank in said for start, _ in rank["times"])
    events = [
        Event(r, action, (start - first) / unit_s, (end - first) / unit_s)
        for r, order in enumerate(schedule.orders)
        for action, (start, end) in zip(order, said[r]["times"], strict=True)
    ]
    busy = [sum(e.end - e.start for e in events if e.rank == r) for r in range(len(said))]
    ordered = tuple(sorted(events, key=lambda event: (event.start, event.rank)))
    table = Timetable(schedule, ordered, max(event.end for event in events), tuple(busy))
    wanted = torch.stack(alone(schedule.stages, schedule.micro_batches))  # [stages d d]
    got = torch.zeros_like(wanted)
    for rank in said:
        for stage, grad in rank["grads"].items():
            got[int(stage)] += torch.tensor(grad, dtype=torch.float64)
    return Performance(table, ((got - wanted).abs().max() / wanted.abs().max()).item())


def main(place: str, world: int, rank: int) -> None:
    """One process: meet, carry out, print times and gradients as JSON."""
    torch.set_num_threads(1)
    asked = json.loads(Path(place, "order.json").read_text(encoding="utf-8"))
    store = dist.FileStore(str(Path(place, "store")), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    weight = weight_of(0).requires_grad_()  # [d d]
    torch.autograd.grad(weight.tanh(), weight, weight.detach())  # the first call loads modules
    found = []
    for name, orders, *numbers in asked["schedules"]:
        actions = tuple(tuple(Action(*action) for action in order) for order in orders)
        mine = Rank(
            Schedule(name, actions, *numbers), rank, Durations(*asked["durations"]), asked["unit_s"]
        )
        dist.barrier()
        times = [(event.start, event.end) for event in mine.run()]
        found.append({"times": times, "grads": {s: g.tolist() for s, g in mine.grad.items()}})
    sys.stdout.write(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
