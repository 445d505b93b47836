"""Several processes over gloo against one: the same loss, the same gradients, every token home."""

import json
from pathlib import Path

import pytest
import torch

from minids.config import load
from minids.dist import place
from minids.errors import UserError
from minids.train import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.mark.parametrize("world", [4, 2])
def test_shards_and_spread_experts_give_the_loss_and_gradients_of_one_process(world, start, folder):
    started = start([str(Path(__file__).with_name("ranks.py")), str(folder)], world)
    spoken = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * world, spoken
    answers = json.loads(spoken[0][0])
    for experts, found in answers["shards"].items():
        assert found["loss"] < 1e-10 and found["gradients"] < 1e-10, experts  # float64
        assert found["parameters"] > 20 and found["loads_equal"]
        assert found["biases_equal"] and found["biases_moved"]
        assert found["held"] < 1.05 * found["all"] / world
    for found in answers["travel"].values():  # no token is lost on the way there or back
        assert found["sent_is_arrived"] and found["echo"] and found["once_per_rank"]
        assert found["answer"] < 1e-12
    assert answers["parts"] == ({} if world == 4 else {"model": True, "optim": True})


def test_what_four_ranks_saved_in_parts_one_process_reads_whole_or_refuses(folder):
    saved = folder / "parts/step-00000001"
    if not saved.exists():
        pytest.skip("saved by the test above")
    assert sorted(path.name for path in saved.parent.iterdir()) == ["step-00000001"]  # no draft
    assert len(list(saved.glob("shard-*"))) == 4
    assert json.loads((saved / "manifest.json").read_text())["version"] == 2
    one, whole = checkpoint.load(saved), checkpoint.load(folder / "whole/step-00000001")
    for mine, theirs in ((one.model, whole.model), (one.optim, whole.optim)):
        assert mine.keys() == theirs.keys() and len(mine) > 20
        assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())
    shard = saved / "shard-00003-model-00001-of-00001.safetensors"
    right = shard.read_bytes()
    for wrong in (right[:-1], right[:-9] + bytes([right[-9] ^ 1]) + right[-8:]):
        shard.write_bytes(wrong)
        with pytest.raises(UserError, match="shard-00003") as error:
            checkpoint.load(saved)
        assert error.value.code == 4 and "\n" not in error.value.line()
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-00003.* is missing"):
        checkpoint.load(saved)


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
