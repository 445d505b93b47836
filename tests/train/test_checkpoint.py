"""Checkpoints: whole or absent, believed only when every byte agrees, never a pickle."""

import json
import os
import pickle
import random

import pytest
import torch

from minids.errors import UserError
from minids.train import checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


@pytest.fixture
def folder(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    return tmp_path


def save(folder, step, **more):
    tensors = {k: v + step for k, v in TENSORS.items()}
    about = {"config": "c", "data": "d"}
    return checkpoint.save(
        folder, step, model=tensors, optim=tensors, state={"step": step}, about=about, **more
    )


def test_what_is_saved_comes_back(folder):
    found, warnings = checkpoint.load_latest(folder)
    assert (found.step, warnings) == (30, [])
    assert torch.equal(found.model["a"], TENSORS["a"] + 30)
    assert found.state == {"step": 30}


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "text", "delete"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder, name, damage):
    path = folder / "step-00000030" / name
    if damage == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not what it was")
    else:
        path.unlink()
    found, warnings = checkpoint.load_latest(folder)
    assert found.step == 20
    assert (
        len(warnings) == 1
        and "step-00000030" in warnings[0]
        and "using step-00000020" in warnings[0]
    )


def test_one_flipped_bit_anywhere_is_noticed(folder):
    rng = random.Random(0)
    for _ in range(20):
        path = folder / "step-00000030" / rng.choice(checkpoint.FILES)
        content = bytearray(path.read_bytes())
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(UserError, match="sha256"):
            checkpoint.verify(path.parent)
        content[at] ^= 1 << bit
        path.write_bytes(content)
    checkpoint.verify(folder / "step-00000030")


def test_without_a_whole_one_there_is_an_error_with_code_4(folder):
    for path in folder.glob("step-*"):
        (path / "manifest.json").unlink()
    with pytest.raises(UserError) as caught:
        checkpoint.load_latest(folder)
    assert caught.value.code == 4


def test_a_newer_format_and_a_foreign_one_are_refused(folder):
    path = folder / "step-00000030" / "manifest.json"
    for change, word in (({"version": 99}, "newer"), ({"format": "other"}, "other")):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(UserError, match=word):
            checkpoint.verify(path.parent)


def test_a_pickle_is_never_opened(tmp_path):
    canary = tmp_path / "PWNED"

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    for name in ("model.pt", "model.bin", "step-00000040"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UserError) as caught:
            checkpoint.load(path)
        assert caught.value.code == 4
    assert not canary.exists()


@pytest.mark.parametrize(
    "stage", checkpoint_stages := ["before-files", "before-manifest", "before-rename"]
)
def test_a_save_that_dies_leaves_what_was_there(folder, stage):
    def die(at, step):
        if at == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(folder, 40, at_stage=die)
    assert checkpoint.load_latest(folder)[0].step == 30


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(folder, monkeypatch):
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError) as caught:
        save(folder, 40)
    assert caught.value.code == 1 and "no space left (needs" in caught.value.line()
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before


def test_old_ones_go_but_never_the_newest(folder):
    (folder / ".tmp-step-00000005-999999999").mkdir()
    save(folder, 40, keep=2)
    assert [p.name for p in checkpoint.steps(folder)] == ["step-00000030", "step-00000040"]
    assert not list(folder.glob(".tmp-*"))


def test_the_hash_sees_names_values_and_dtypes():
    base = checkpoint.weights_sha256(TENSORS)
    assert base == checkpoint.weights_sha256(dict(reversed(TENSORS.items())))
    assert base != checkpoint.weights_sha256({"a": TENSORS["a"], "c": TENSORS["b"]})
    assert base != checkpoint.weights_sha256({**TENSORS, "b": TENSORS["b"] + 1e-6})
    assert base != checkpoint.weights_sha256({**TENSORS, "b": TENSORS["b"].double()})
