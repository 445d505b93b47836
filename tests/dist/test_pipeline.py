"""Four processes run each schedule in its own order and find what one process finds."""

import json
from pathlib import Path

import pytest

from minids.config import load
from minids.dist.pipeline import layers_of
from minids.dist.schedules import SCHEDULES
from minids.errors import UserError


def test_every_schedule_runs_in_its_order_with_the_gradients_of_one_process(start):
    started = start([str(Path(__file__).with_name("stages.py"))], 4)
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    answers = json.loads(said[0][0].splitlines()[-1])
    assert {name.split()[0] for name in answers["schedules"]} == {*SCHEDULES} - {"dualpipe"}
    assert len(answers["combined"]) == 5  # pipelines of 2, sharded over 2, experts over 1 or 2
    for name, found in (answers["schedules"] | answers["combined"]).items():
        assert found["loss"] < 1e-12 and found["gradients"] < 1e-12, name  # float64
        assert found["norm"] < 1e-12, name
        assert found["orders_differ"] == 0, name  # what happened is what the schedule says
        assert found["loads_equal"] and found["biases_differ"] == 0, name
        assert found["numbers"] == 1  # every weight is somewhere, copies not counted


def test_layers_are_spread_evenly_and_all():
    cfg = load("tiny", ["model.num_hidden_layers=7"]).model
    found = [layers_of(stage, 3, cfg) for stage in range(3)]
    assert [i for part in found for i in part] == list(range(7))
    assert {len(part) for part in found} == {2, 3}
    with pytest.raises(UserError, match=r"8 stages for 7 layers"):
        layers_of(0, 8, cfg)
