"""Several processes over gloo against one: the same loss, the same gradients, every token home."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minids.config import load
from minids.dist import place
from minids.errors import UserError


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command, world, **more):
    """The command once per rank, as torchrun would start it → processes"""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **more}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | meeting | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world),
                                        "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip


def ranks(world):
    """What rank 0 of `ranks.py` found."""
    started = start([str(Path(__file__).with_name("ranks.py"))], world)
    spoken = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * world, spoken
    return json.loads(spoken[0][0])


@pytest.mark.parametrize("world", [2, 4])
def test_shards_and_spread_experts_give_the_loss_and_gradients_of_one_process(world):
    answers = ranks(world)
    for experts, found in answers["shards"].items():
        assert found["loss"] < 1e-10 and found["gradients"] < 1e-10, experts  # float64
        assert found["parameters"] > 20 and found["loads_equal"]
        assert found["biases_equal"] and found["biases_moved"]
        assert found["held"] < 1.05 * found["all"] / world
    for found in answers["travel"].values():  # no token is lost on the way there or back
        assert found["sent_is_arrived"] and found["echo"] and found["once_per_rank"]
        assert found["answer"] < 1e-12


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (["parallel.data=3"], "parallel.data"),
        (["parallel.data=4", "parallel.expert=3"], "parallel.expert"),
        (["parallel.data=4", "parallel.expert=4", "model.n_routed_experts=6"], "parallel.expert"),
        (["parallel.data=4", "train.batch_size=6"], "train.batch_size"),
    ],
)
def test_a_layout_that_cannot_be_is_named(changes, field):
    with pytest.raises(UserError) as error:
        place.check_layout(load("tiny", changes), 4)
    assert error.value.where == field


@pytest.mark.parametrize("missing", place.NEEDED)
def test_a_missing_variable_is_named(missing):
    there = dict.fromkeys(place.NEEDED, "1") | {"WORLD_SIZE": "2"}
    with pytest.raises(UserError) as error:
        place.place_of({name: value for name, value in there.items() if name != missing})
    assert error.value.where == missing
