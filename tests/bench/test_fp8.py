"""The bench of the FP8 kernels: on a CPU it speaks of errors alone."""

import json
from pathlib import Path

import pytest

from minids.bench import fp8
from minids.bench.harness import Plan
from minids_cli import bench_fp8
from minids_cli.main import main

RECEIPTS = Path(__file__).parents[2] / "assets" / "receipts"


def test_a_cpu_gets_errors_and_no_speed(capsys):
    assert main(["bench", "fp8", "--device", "cpu", "--only", "256×128", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["bench"], found["device"], found["gpu"]) == ("fp8", "cpu", None)
    (case,) = found["cases"]
    assert set(case) == {"case", "error"}
    assert 1e-5 < case["error"]["of_sum"] < 1e-3  # what 14 bits leave, promoted every 128
    assert 0.02 < case["error"]["of_quantizing"] < 0.05  # two roundings to 3 fraction bits
    bench_fp8.draw(found, "here")
    assert "no speed" in capsys.readouterr().out


def test_flags_that_say_nothing_here_are_refused():
    for flags, match in (
        (["--against", "transformers"], "--against"),
        (["--device", "tpu"], "unknown"),
        (["--config", "tiny"], "quality only"),
    ):
        assert main(["bench", "fp8", *flags]) == 2, match


def test_a_gpu_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(fp8.torch.cuda, "is_available", lambda: False)
    assert main(["bench", "fp8", "--device", "cuda"]) == 2
    assert "no cuda device" in capsys.readouterr().err


@pytest.mark.parametrize("refused", [False, True])
def test_a_gpus_report_is_drawn(capsys, refused):
    us = {"median": 200.0, "low": 180.0, "high": 250.0}
    ours = {"us": us, "tflops": 1200.0}
    other = {"us": None, "why": "not here"} if refused else {"us": us, "tflops": 600.0}
    product = {
        "case": "matmul 1×2×3", "unit": "TFLOP/s", "ways": {"ours": ours, "rows": other},
        "share": 0.8, "times_bf16": 2.0, "error": {"of_sum": 1e-4, "of_quantizing": 0.03},
    }  # fmt: skip
    memory = {
        "case": "quantize 1×2", "unit": "GB/s", "share": 0.9, "codes_that_differ": 0,
        "ways": {"ours": {"us": us, "gb_per_s": 2500.0}},
    }  # fmt: skip
    report = {
        "device": "cuda", "gpu": {"name": "H100", "capability": "9.0"},
        "cases": [product, memory, {k: product[k] for k in ("case", "unit", "ways", "share")}],
        "ceilings": {"copy_gb_per_s": 3000.0, "bf16_tflops": 700.0, "fp8_tflops": 1500.0},
    }  # fmt: skip
    bench_fp8.draw(report, "note")
    said = capsys.readouterr().out
    assert "1,200 (960 – 1,333)" in said and "2.00" in said and "90%" in said
    assert ("–  " in said or "600" in said) and "3,000 GB/s" in said


def test_nothing_is_measured_where_nothing_matches():
    assert fp8.bench(Plan(None, 1, 1, 0.1, only="nothing"), "cpu")["cases"] == []


@pytest.mark.parametrize("path", sorted(RECEIPTS.glob("fp8-*.json")), ids=lambda p: p.stem)
def test_a_receipt_says_where_and_when_and_the_readme_says_what(path, capsys):
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["gpu"]["name"] and report["versions"]["torch"] and report["date"]
    assert any("One run" in line for line in report["note"])
    bench_fp8.draw(report, "note")
    assert report["gpu"]["name"] in capsys.readouterr().out
    readme = (RECEIPTS.parents[1] / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    products = [case for case in report["cases"] if case["case"].startswith("matmul")]
    for case in products:
        _, n, k = case["case"].removeprefix("matmul ").split("×")
        (row,) = (line for line in rows if line.startswith(f"| {n} × {k} |"))
        for way in ("ours", "bf16 cuBLAS", "scaled_mm, blocks"):
            assert f"{case['ways'][way]['tflops']:,.0f}" in row, (row, way)
        assert f"{case['times_bf16']:.2f}" in row
