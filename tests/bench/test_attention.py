"""The bench of attention: which way is measured how, and where the forms of MLA meet."""

import json
from pathlib import Path

import pytest
import torch

from minids import config
from minids.bench import attention
from minids.bench.harness import Plan
from minids.errors import UserError
from minids_cli.main import main

TINY = config.load("tiny").model
SMALL = attention.Sizes("tiny", "float32", (8,), (16, 32), 2, (64,))


@pytest.fixture
def at_once(monkeypatch):
    """Arms run in this process, on small sizes."""
    monkeypatch.setattr(attention, "CPU", SMALL)
    monkeypatch.setattr(attention, "run", lambda arm: attention.work(arm.order))


def test_the_lines_meet_between_two_points():
    assert attention.meeting([1, 4, 16], [1, 2, 8], [2, 2.5, 4]) == pytest.approx(
        4 * 4 ** (0.2231 / 0.9163), rel=1e-3
    )
    assert attention.meeting([1, 4], [1, 1], [2, 2]) is None
    assert attention.meeting([1, 4], [3, 9], [2, 2]) == 1
    assert attention.meeting([], [], []) is None


def test_all_ways_are_measured_and_counted(at_once):
    found = attention.bench(Plan(None, 1, 2, 0.01), "cpu", None, [])
    assert [case["phase"] for case in found["cases"]] == ["decode", "decode", "prefill"]
    kept = {w: way["cache_elements_per_token"] for w, way in found["cases"][0]["ways"].items()}
    n, h = TINY.qk_nope_head_dim, TINY.num_attention_heads
    latent = TINY.kv_lora_rank + TINY.qk_rope_head_dim
    assert kept == {"MHA": 2 * h * n, "GQA": 2 * n, "MQA": 2 * n} | dict.fromkeys(
        attention.FORMS, latent
    )
    for case in found["cases"]:
        for way in case["ways"].values():
            ms = way["ms"]
            assert ms["low"] <= ms["median"] <= ms["high"] and way["moved_bytes"] > 0
    [crossing] = found["crossings"]
    assert crossing["queries"][:3] == [1, 2, 4] and crossing["queries"][-1] <= 64
    assert all(len(ms) == len(crossing["queries"]) for ms in crossing["ms"].values())
    json.dumps(found)


def test_the_two_forms_are_given_the_same_work(monkeypatch):
    monkeypatch.setattr(
        torch.nn.Linear, "reset_parameters", lambda self: self.weight.data.fill_(0.1)
    )
    expanded, absorbed = (
        attention.prepared(TINY, way, 2, 9, sequences=3, device="cpu", dtype=torch.float32)()
        for way in attention.FORMS
    )
    assert expanded.shape == (3, 2, TINY.num_attention_heads, TINY.v_head_dim)
    torch.testing.assert_close(absorbed, expanded, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_said(at_once, monkeypatch):
    def full(cfg, way, s, t, **make):
        if way == "MHA":
            raise torch.OutOfMemoryError
        return lambda: None

    monkeypatch.setattr(attention, "prepared", full)
    found = attention.bench(Plan(None, 1, 1, 0.001, "decode"), "cpu", None, [])
    assert found["cases"][0]["ways"]["MHA"]["ms"] is None and not found["crossings"]
    assert found["cases"][0]["ways"]["MQA"]["ms"] is not None


@pytest.mark.parametrize("preset", ["deepseek-v3.2", "llama-3.1-405b", "deepseek-v4-flash"])
def test_other_attention_is_refused(preset):
    with pytest.raises(UserError, match="a preset with dense mla"):
        attention.bench(Plan(None, 1, 1, 0.1), "cpu", preset, [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no cuda device"):
        attention.bench(Plan(None, 1, 1, 0.1), "cuda", None, [])


def test_the_command_draws_and_writes_a_receipt(at_once, tmp_path, capsys):
    receipt = tmp_path / "attention.json"
    words = ["bench", "attention", "--repeats", "1", "--seconds", "0.05", "--receipt", str(receipt)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "MLA absorbed" in shown and "absorbed pays up to" in shown
    assert json.loads(receipt.read_text())["bench"] == "attention"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "--device", "cpu"], "given with bench train"),
        (["attention", "--device", "tpu"], "'tpu' is unknown; allowed: cpu, cuda"),
        (["attention", "--against", "transformers"], "given with bench attention"),
        (["attention", "--data", "x"], "given with bench attention"),
        (["attention", "--set", "model.hidden_size=8"], "given without --config"),
        (["attention", "--config", "nothing"], "nothing"),
    ],
)
def test_bad_words_are_one_line(words, says, capsys):
    assert main(["bench", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err and not said.out


RECEIPT = Path(__file__).parents[2] / "assets/receipts/attention-h200.json"


def test_the_receipt_says_where_and_when_and_the_lesson_quotes_it():
    report = json.loads(RECEIPT.read_text(encoding="utf-8"))
    assert report["gpu"] == "NVIDIA H200" and report["versions"]["torch"] and report["date"]
    assert any("One run" in line for line in report["note"])
    decode = [case["ways"] for case in report["cases"] if case["phase"] == "decode"]
    ms = {way: [ways[way]["ms"]["median"] for ways in decode] for way in decode[0]}
    shares = [100 * (1 - a / g) for a, g in zip(ms["MLA absorbed"], ms["GQA"], strict=True)]
    assert [share > 0 for share in shares] == [False, False, True, True]
    prompt = report["cases"][-1]["ways"]
    first = report["crossings"][0]
    lesson = json.loads(next(RECEIPT.parents[2].glob("lessons/09-*.ipynb")).read_bytes())
    text = " ".join(" ".join("".join(cell["source"]).split()) for cell in lesson["cells"])
    for said in (
        f"by {shares[2]:.0f} to {shares[3]:.0f} %",
        f"took {prompt['MLA absorbed']['ms']['median']:.0f} ms absorbed, "
        f"{prompt['MLA expanded']['ms']['median']:.1f} expanded",
        f"{first['counted']:.0f} queries should pay; the clock said {first['measured']:.0f}",
    ):
        assert said in text, said
