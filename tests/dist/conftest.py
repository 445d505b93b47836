"""Processes that find each other as torchrun's do."""

import os
import socket
import subprocess
import sys

import pytest


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def start():
    """start(command, world, ranks=…, changes={rank: [words]}, NAME=value) → processes"""
    started = []

    def run(command, world, *, ranks=None, changes=(), **more):
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
                   "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world), **more}  # fmt: skip
        mine = [
            subprocess.Popen(
                [sys.executable, *command, *dict(changes).get(rank, [])],
                env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in (range(world) if ranks is None else ranks)
        ]  # fmt: skip
        started.extend(mine)
        return mine

    yield run
    for process in started:
        process.kill()
        process.wait()
