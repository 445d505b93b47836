"""The report: says what the files say, draws its figures, and names what it does not show."""

import json

import pytest
import torch

from minids import history
from minids.config import load
from minids.evaluate import quick_eval
from minids.nn.balance import evenness, max_violation
from minids.report import write_report
from minids.train.loop import Hooks, train

MICRO = """
model.hidden_size=32 model.num_hidden_layers=2 model.num_attention_heads=2 model.kv_lora_rank=16
model.qk_nope_head_dim=8 model.qk_rope_head_dim=8 model.v_head_dim=8 model.intermediate_size=48
model.moe_intermediate_size=16 model.n_routed_experts=4 data.context=64 data.documents=100
train.batch_size=4 train.max_steps=8 train.warmup_steps=2 train.eval_every=4
train.eval_documents=2 train.workers=1 train.threads=1 train.precision=float32
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "micro"
    hooks = Hooks(evaluate=quick_eval, sample=lambda _model, _data: "Once\x1b[31m there")
    train(load("tiny", MICRO), out=place, hooks=hooks)
    write_report(place)
    return place


def test_its_figures_are_drawn_and_small(folder):
    text = (folder / "report.md").read_text()
    for path in folder.rglob("*.png"):
        assert f"({path.relative_to(folder)})" in text
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 200_000
    assert text.count("![") == len(list(folder.rglob("*.png"))) >= 3


def test_it_names_weights_conditions_limits_and_next_commands(folder):
    text = (folder / "report.md").read_text()
    result = json.loads((folder / "result.json").read_text())
    assert result["weights_sha256"] in text
    assert "## What this run does not show" in text and "One run, one seed" in text
    assert f"minids sample {folder}" in text


def test_control_characters_of_a_sample_do_not_reach_the_report(folder):
    assert "\x1b" not in (folder / "report.md").read_text()


def test_it_says_how_even_the_experts_are(folder):
    load = torch.tensor(history.read_history(folder).load)[-1, 0]
    row = f"{max_violation(load).item():.2f} | {evenness(load).item():.3f} |"
    assert "MaxVio" in (folder / "report.md").read_text()
    assert row in (folder / "report.md").read_text()


def test_a_run_without_experts_mtp_or_evaluation_has_a_report_too(tmp_path):
    plain = [*MICRO, "model.n_routed_experts=0", "model.num_nextn_predict_layers=0"]
    train(load("tiny", [*plain, "train.eval_every=0"]), out=tmp_path / "run")
    text = write_report(tmp_path / "run").read_text()
    assert "## What this run does not show" in text and "Balanced load" not in text


def test_a_half_written_line_of_metrics_is_passed_over(folder, tmp_path):
    lines = (folder / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 9, "lo')
    past = history.read_history(tmp_path)
    assert past.step == list(range(1, 9)) and len(past.loss) == 8


def test_curves_are_smoothed_over_equal_stretches_without_what_is_not_finite():
    steps, means = history.smooth([1, 2, 3, 4, 5], [1.0, 3.0, float("nan"), 5.0, 7.0], points=2)
    assert (steps, means) == ([2, 5], [2.0, 6.0])


def test_load_is_in_multiples_of_the_fair_share():
    past = history.History([1], [1.0], [1.0], [1.0], [[[6, 2]]], [], [], 0, 0.0)
    assert history.load_shares(past, points=9) == ([1], [[[1.5], [0.5]]])
