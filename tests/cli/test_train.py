"""`minids train` from outside: the whole road, interruptions, faults, damaged checkpoints."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from minids.config import load

HASH = "weights_sha256="


def hash_in(said):
    return next(line for line in said.out.splitlines() if HASH in line).split(HASH)[1]


@pytest.fixture
def run(minids):
    said = minids("train", "--tiny", "--out", "run", micro=True)
    assert said.code == 0, said
    return said


def test_a_run_says_what_it_should_and_leaves_what_it_should(minids, run):
    vocabulary = load(str(minids.place / "run/config.toml")).model.vocab_size
    assert f"expected ln V = {math.log(vocabulary):.3f}" in run.out
    assert "exact entropy of the held-out text" in run.out
    assert not run.err
    place = minids.place / "run"
    found = {p.name for p in place.iterdir()}
    assert {
        "config.toml",
        "metrics.jsonl",
        "checkpoints",
        "tokenizer",
        "samples.txt",
        "report.md",
    } <= found
    assert load(str(place / "config.toml")).train.max_steps == 6
    lines = [json.loads(x) for x in (place / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == [1, 2, 3, 4, 5, 6]


def test_the_default_folder_is_new_every_time(minids):
    for _ in range(2):
        assert minids("train", "--tiny", micro=True).code == 0
    assert sorted(p.name for p in (minids.place / "runs").iterdir()) == ["tiny-001", "tiny-002"]


def test_a_resumed_run_gives_the_same_weights(minids, run):
    import shutil

    shutil.rmtree(minids.place / "run" / "checkpoints" / "step-00000006")
    again = minids("train", "--resume", "run")
    assert again.code == 0 and hash_in(again) == hash_in(run)


def test_dry_run_writes_nothing(minids):
    said = minids("train", "--tiny", "--dry-run", "--json", micro=True)
    plan = said.json()[0]
    assert said.code == 0 and plan["steps"] == 6 and plan["parameters"] > 0
    assert list(minids.place.iterdir()) == []


def test_a_dry_run_of_many_ranks_says_how_they_lie(minids, refused):
    said = minids("train", "--config", "node", "--dry-run", "--json")
    plan = said.json()[0]
    assert said.code == 0 and plan["ranks"] == plan["expert_ranks"] == 8, said
    assert "torchrun" in plan["start"] and "not read" in plan["data"]
    line = refused("train", "--config", "node", "--dry-run", "--set", "parallel.expert=7")
    assert "divisors of 8" in line


def test_json_lines_are_json(minids):
    said = minids("train", "--tiny", "--json", "--out", "run", micro=True)
    kinds = [line["event"] for line in said.json()]
    assert kinds[0] == "started" and kinds[-1] == "report" and kinds.count("step") == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(minids, number):
    changes = [w for c in ("train.max_steps=100000", "train.save_every=0") for w in ("--set", c)]
    words = [*minids.micro, *changes]
    process = subprocess.Popen(
        [sys.executable, "-m", "minids_cli", "train", "--out", "run", *words],
        cwd=minids.place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    metrics = minids.place / "run" / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "--resume run" in out and HASH in out and not err


def test_an_injected_fault_stops_with_code_3(minids):
    faults = ",".join(f"nan-grad@{i}" for i in range(1, 7))
    said = minids(
        "train", "--out", "run", "--inject", faults, "--set", "train.max_skips=1", micro=True
    )
    assert said.code == 3, said
    assert said.err.startswith("minids: error: step ") and len(said.err.splitlines()) <= 2


def test_damaged_checkpoints_fall_back_and_then_end_with_code_4(minids, run):
    folder = minids.place / "run" / "checkpoints"
    newest = folder / "step-00000006" / "model.safetensors"
    os.truncate(newest, 100)
    again = minids("train", "--resume", "run")
    assert again.code == 0 and "using step-00000004" in again.out and hash_in(again) == hash_in(run)
    for path in folder.glob("step-*/manifest.json"):
        path.write_text("{}")
    said = minids("train", "--resume", "run")
    assert said.code == 4 and "Traceback" not in said.err


def test_resuming_as_something_else_is_refused(minids, run):
    said = minids("train", "--resume", "run", "--set", "train.lr=0.5")
    assert said.code == 2 and "train.lr" in said.err


def test_closing_the_output_is_no_disaster(minids):
    words = " ".join(minids.micro)
    command = f"{sys.executable} -m minids_cli train --out run {words} | head -1"
    done = subprocess.run(
        command,
        shell=True,
        cwd=minids.place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
