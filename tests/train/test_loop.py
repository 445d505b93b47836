"""Runs: exact resume, faults, guard, workers. The model is tiny, the claims are bitwise."""

import json
import shutil
from types import SimpleNamespace

import pytest

from minids.config import to_dict
from minids.errors import UserError
from minids.train import checkpoint, events
from minids.train.loop import Hooks, check_same, train


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def kept(line):
    return {
        k: line[k]
        for k in ("step", "loss_hex", "grad_norm", "lr", "tokens", "data_pos", "expert_load")
    }


@pytest.mark.parametrize("stop", [1, 3, 7, 11])
def test_a_resumed_run_ends_as_one_never_interrupted(micro, trained, tmp_path, stop):
    whole, _ = trained(micro(), tmp_path / "whole")
    trained(micro("train.save_every=1", "train.keep=50"), tmp_path / "parts")
    for path in checkpoint.steps(tmp_path / "parts" / "checkpoints"):
        if int(path.name[5:]) > stop:
            shutil.rmtree(path)
    parts, heard = trained(micro("train.save_every=1"), tmp_path / "parts", resume=True)
    assert next(e for e in heard if isinstance(e, events.Started)).step == stop
    assert parts.weights_sha256 == whole.weights_sha256
    assert [kept(x) for x in lines(tmp_path / "parts")] == [
        kept(x) for x in lines(tmp_path / "whole")
    ]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(micro, trained, tmp_path):
    hashes = [trained(micro(), tmp_path / str(i))[0].weights_sha256 for i in range(2)]
    other, _ = trained(micro("train.seed=2"), tmp_path / "other")
    assert hashes[0] == hashes[1] != other.weights_sha256


def test_watching_changes_nothing(micro, trained, tmp_path):
    plain, _ = trained(micro(), tmp_path / "a")
    watched, _ = trained(
        micro("train.save_every=2", "train.eval_every=3", "train.log_every=1"), tmp_path / "b"
    )
    assert plain.weights_sha256 == watched.weights_sha256


def test_every_step_has_one_line_with_the_promised_fields(micro, trained, tmp_path):
    trained(micro(), tmp_path / "run")
    found = lines(tmp_path / "run")
    assert [x["step"] for x in found] == list(range(1, 13))
    promised = "step loss loss_hex grad_norm lr tokens tokens_per_s elapsed_s expert_load skipped"
    assert set(promised.split()) <= set(found[0])
    assert float.fromhex(found[0]["loss_hex"]) == found[0]["loss"]


def test_a_bad_gradient_leaves_the_weights_alone(micro, trained, tmp_path):
    for fault in ("nan-grad@7", "inf-grad@7"):
        out = tmp_path / fault
        _, heard = trained(micro("train.save_every=1", "train.keep=50"), out, inject=fault)
        steps = {e.step: e for e in heard if isinstance(e, events.Step)}
        assert steps[7].skipped and not steps[6].skipped and not steps[8].skipped
        before, after = (checkpoint.load(out / "checkpoints" / f"step-{s:08d}") for s in (6, 7))
        assert before.manifest["weights_sha256"] == after.manifest["weights_sha256"]
        assert before.optim.keys() == after.optim.keys()
        assert all((before.optim[k] == after.optim[k]).all() for k in before.optim)


def test_bad_steps_in_a_row_roll_back_and_then_stop(micro, tmp_path):
    heard = []
    faults = ",".join(f"nan-grad@{i}" for i in range(7, 13))
    cfg = micro("train.max_skips=1", "train.max_rollbacks=1", "train.max_steps=20")

    with pytest.raises(UserError, match="last good checkpoint: step-00000005") as caught:
        train(cfg, out=tmp_path / "run", inject=faults, hooks=Hooks(on_event=heard.append))
    assert caught.value.code == 3
    assert any(isinstance(e, events.RolledBack) and e.to_step == 5 for e in heard)


def test_two_workers_follow_one(micro, trained, tmp_path):
    one, heard_one = trained(micro("train.max_steps=6"), tmp_path / "one")
    two, heard_two = trained(micro("train.max_steps=6", "train.workers=2"), tmp_path / "two")
    again, _ = trained(micro("train.max_steps=6", "train.workers=2"), tmp_path / "again")
    assert two.weights_sha256 == again.weights_sha256
    losses = [
        [e.loss for e in heard if isinstance(e, events.Step)] for heard in (heard_one, heard_two)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)  # the balance loss is per worker
    assert one.tokens == two.tokens


def test_a_run_folder_is_never_overwritten(micro, trained, tmp_path):
    trained(micro(), tmp_path / "run")
    with pytest.raises(UserError, match="not empty"):
        train(micro(), out=tmp_path / "run")


def test_resume_refuses_another_config_and_names_the_field(micro, trained, tmp_path):
    trained(micro(), tmp_path / "run")
    with pytest.raises(UserError, match=r"train\.lr 0\.01 → 0\.1"):
        train(micro("train.lr=0.1"), out=tmp_path / "run", resume=True)
    trained(micro("train.max_steps=14"), tmp_path / "run", resume=True)


def test_a_run_older_than_a_field_had_its_default(micro):
    older = to_dict(micro())
    del older["train"]["moment_dtype"], older["parallel"]
    found = SimpleNamespace(state={"config": older})
    check_same(micro(), found, allow_change=False)
    with pytest.raises(UserError, match=r"moment_dtype 'float32' → 'bfloat16'"):
        check_same(micro("train.moment_dtype=bfloat16"), found, allow_change=False)


def test_resume_refuses_changed_data(micro, trained, tmp_path):
    trained(micro(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    with (tmp_path / "corpus.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(UserError, match="data"):
        train(micro(), out=tmp_path / "run", resume=True)


def test_the_clock_can_end_a_run(micro, trained, tmp_path):
    done, heard = trained(
        micro("train.max_minutes=0.01", "train.max_steps=1000000"), tmp_path / "run"
    )
    assert 0.6 <= done.elapsed_s < 60
    rates = [e.lr for e in heard if isinstance(e, events.Step)]
    assert rates[-1] < max(rates) / 2, "the schedule follows the clock"


def test_a_run_that_cannot_fit_is_refused_before_it_starts(micro, tmp_path):
    with pytest.raises(UserError, match="GB, available"):
        train(
            micro("model.hidden_size=60000", "model.intermediate_size=900000"), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
