"""The presets that run: what a CPU can show of those that need more."""

import json
import os
import subprocess
import sys

import pytest

CUT_DOWN = [
    "model.hidden_size=64",
    "model.num_hidden_layers=3",
    "model.num_attention_heads=2",
    "model.q_lora_rank=32",
    "model.kv_lora_rank=32",
    "model.intermediate_size=96",
    "model.moe_intermediate_size=32",
    "data.context=64",
    "data.documents=400",
    "train.max_minutes=0",
    "train.max_steps=10",
    "train.batch_size=4",
    "train.warmup_steps=2",
    "train.eval_documents=4",
    "train.eval_every=0",
    "train.device=cpu",
    "train.precision=float32",
    "train.threads=1",
    "train.sample_every_seconds=0",
]


def minids(place, *words):
    done = subprocess.run(
        [sys.executable, "-m", "minids_cli", *words],
        capture_output=True,
        text=True,
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["tiny", "laptop", "gpu"])
def test_a_dry_run_says_what_would_happen_and_writes_nothing(name, tmp_path):
    plan = minids(tmp_path, "train", "--config", name, "--dry-run", "--json")[0]
    assert plan["parameters"] > 1_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["laptop", "gpu"])
def test_ten_steps_of_a_cut_down_copy_learn(name, tmp_path):
    changes = [word for change in CUT_DOWN for word in ("--set", change)]
    said = minids(tmp_path, "train", "--config", name, "--json", "--out", "run", *changes)
    losses = [line["loss"] for line in said if line["event"] == "step"]
    assert len(losses) == 10 and losses[-1] < losses[0] - 0.2
    assert (tmp_path / "run" / "report.md").is_file()
