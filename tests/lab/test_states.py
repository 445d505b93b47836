"""Weights that lessons start from: they are what their receipts say."""

import pytest
import torch

from minids.errors import UserError
from minids.evaluate import wilson
from minids.lab import states
from minids.reason import recipe
from minids.reason.passrate import attempt, pass_rate
from minids.reason.tasks import held_out_set

SMALL = 5_000_000  # bytes of a catch-up state


@pytest.mark.parametrize("path", sorted(states.FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_a_state_can_do_what_its_receipt_says(path):
    found = states.state(path.stem)
    assert path.with_suffix(".safetensors").stat().st_size < SMALL
    told = found.receipt["held out"]
    claim = wilson(told["right"], told["of"])
    problems = held_out_set("addition", 3, 60)
    rate = pass_rate(attempt(found.model, found.tokenizer, problems, longest=48))
    near = wilson(rate.hits, rate.n)
    assert near.low <= claim.value <= near.high
    assert found.receipt["seconds"] > 0 and found.receipt["machine"]["cpu"]
    assert not any(p.requires_grad for p in found.model.parameters())


def test_two_copies_share_nothing():
    one, other = states.state("base").model, states.state("base").model
    with torch.no_grad():
        one.norm.weight += 1
    assert not torch.equal(one.norm.weight, other.norm.weight)


def test_a_stage_of_a_road_is_kept_with_its_receipt(tmp_path, monkeypatch):
    base, folder = states.state("base"), tmp_path / "1-base"
    folder.mkdir()
    (folder / recipe.DONE).write_text('{"seconds": 12.3}')
    (folder / "config.toml").write_text("[train]\nseed = 7\n")
    plan = recipe.tiny()._replace(held_out=20)
    monkeypatch.setattr(recipe, "tiny", lambda: plan)
    monkeypatch.setattr(recipe, "weights_of", lambda _folder: base.model.state_dict())
    monkeypatch.setattr(states, "FOLDER", tmp_path / "kept")
    receipt = states.keep("base", tmp_path)
    assert (receipt["seconds"], receipt["seed"], receipt["held out"]["of"]) == (12, 7, 20)
    kept = states.state("base")
    assert kept.receipt == receipt
    torch.testing.assert_close(kept.model.state_dict(), base.model.state_dict(), rtol=0, atol=0)


def test_a_state_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"base"):
        states.state("basis")
    with pytest.raises(UserError, match="no stage"):
        states.keep("basis", tmp_path)
