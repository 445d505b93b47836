"""Ablations: arms that are what they say, intervals that are Student's, runs that go on."""

import dataclasses
import json
import math

import pytest

from minids.ablate.card import card, paired, sentence, write
from minids.ablate.questions import QUESTIONS, plan
from minids.ablate.runs import DONE, Interrupted, train_all
from minids.config import load
from minids.count import memory, params
from minids.errors import UserError
from minids.train import events

MICRO = """
model.hidden_size=32 model.num_hidden_layers=2 model.num_attention_heads=2 model.kv_lora_rank=16
model.qk_nope_head_dim=8 model.qk_rope_head_dim=8 model.v_head_dim=8 model.intermediate_size=48
model.moe_intermediate_size=16 model.n_routed_experts=4 data.context=64 data.documents=100
train.batch_size=4 train.max_steps=2 train.warmup_steps=1 train.workers=1 train.threads=1
train.precision=float32 train.eval_documents=2
""".split()  # noqa: SIM905


@pytest.mark.parametrize("question", QUESTIONS)
def test_arms_differ_in_the_claim_alone(question):
    runs = plan(question, "tiny", [], 2)
    arms = list(QUESTIONS[question].arms(load("tiny", []).model))
    assert [(arm, cfg.train.seed) for arm, cfg in runs] == [(a, s) for s in (1, 2) for a in arms]
    first = runs[0][1]
    for arm, cfg in runs[1 : len(arms)]:
        assert cfg.data == first.data, arm
        changed = {
            f"{part}.{field.name}"
            for part in ("model", "train")
            for field in dataclasses.fields(getattr(cfg, part))
            if getattr(getattr(cfg, part), field.name) != getattr(getattr(first, part), field.name)
        }
        assert changed and len(changed) <= 3, (arm, changed)


def test_dense_arms_hold_and_compute_what_they_are_named_for():
    made = {arm: params.count(cfg.model) for arm, cfg in plan("moe", "tiny", [], 1)}
    experts = made["experts"]
    # the router, and the first layer, which is dense in every arm and wider, are not the claim
    same = {"rel": 0.15}
    assert made["dense, as many work"].active == pytest.approx(experts.active, **same)
    assert made["dense, all of them"].main == pytest.approx(experts.main, rel=0.3)


def test_fewer_shared_keys_mean_a_smaller_cache():
    kept = {arm: memory.kv_elements_per_token(cfg.model) for arm, cfg in plan("mla", "tiny", [], 1)}
    assert kept["MHA"] == 2 * kept["GQA"] == 4 * kept["MQA"] > kept["MLA"]


def test_the_interval_is_students():
    # a textbook's paired t test: differences 1, 2, 3 %: mean 2, standard error 1/√3, t(2) 4.303
    found = paired([1.01, 2.04, 3.09], [1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(0.01 * 4.303 / math.sqrt(3), rel=1e-3)
    assert math.isinf(paired([1.0], [2.0]).high)


@pytest.mark.parametrize(
    ("mine", "says"),
    [
        ([1.02, 1.021, 1.019], "needs more bits"),
        ([0.98, 0.981, 0.979], "needs fewer bits"),
        ([1.02, 0.98, 1.01], "are not told apart"),
        ([1.02], "supports nothing"),
    ],
)
def test_the_sentence_follows_from_the_interval(mine, says):
    assert says in sentence("MQA", "MLA", paired(mine, [1.0] * len(mine)))


def test_runs_that_are_done_are_not_done_again_and_the_card_is_written(tmp_path):
    runs = plan("balance", "tiny", MICRO, 2)
    said: list[str] = []
    train_all(runs[:2], tmp_path, said.append)
    marks = {p: p.stat().st_mtime_ns for p in tmp_path.rglob(DONE)}
    assert len(marks) == 2
    found = train_all(runs, tmp_path, said.append)
    assert all(p.stat().st_mtime_ns == at for p, at in marks.items())
    path = write(card("balance", runs[0][1], found, "a test"), tmp_path)
    text = path.read_text()
    assert "| neither |" in text and "What this does not show" in text and "(card.png)" in text
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "card.json").read_text())["rows"]
    assert [len(r["seeds"]) for r in rows] == [2, 2, 2] and "apart" not in rows[0]


def test_a_signal_leaves_the_run_to_go_on(tmp_path, monkeypatch):
    def cut(cfg, *, out, resume, hooks):
        return events.Finished(out, 1, 0, 0.0, "", {}, 130)

    monkeypatch.setattr("minids.ablate.runs.train", cut)
    with pytest.raises(Interrupted):
        train_all(plan("mtp", "tiny", MICRO, 1), tmp_path, lambda _text: None)
    assert not list(tmp_path.rglob(DONE))


@pytest.mark.parametrize(
    ("question", "preset", "seeds", "where"),
    [
        ("moe", "r1-tiny", 3, "--config"),
        ("mla", "llama-3.3-70b", 3, "--config"),
        ("mtp", "tiny", 0, "--seeds"),
        ("mtp", "tiny", 11, "--seeds"),
    ],
)
def test_what_cannot_be_asked(question, preset, seeds, where):
    with pytest.raises(UserError) as error:
        plan(question, preset, [], seeds)
    assert error.value.where == where
