"""Killed with -9 at any moment, also inside a save: the resumed run ends bit-identical."""

import json
import os
import random
import signal
import subprocess
import sys
import time

from minids.config import to_toml
from minids.train import checkpoint, faults
from minids.train.loop import train

RUN = (
    "import sys; from pathlib import Path; from minids.config import load; "
    "from minids.train.loop import train; "
    "out = Path(sys.argv[2]); resume = bool(checkpoint.steps(out / 'checkpoints')) "
    "if (out / 'checkpoints').exists() else False; "
    "print(train(load(sys.argv[1]), out=out, resume=resume, inject=sys.argv[3]).weights_sha256)"
).replace("from minids.train.loop", "from minids.train import checkpoint; from minids.train.loop")


def start(config, out, inject=""):
    command = [sys.executable, "-c", RUN, str(config), str(out), inject]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_ten_kills_at_random_instants_change_nothing(micro, tmp_path):
    cfg = micro("train.save_every=1", "train.max_steps=400")
    whole = train(cfg, out=tmp_path / "whole")
    config = tmp_path / "kill.toml"
    config.write_text(to_toml(cfg))
    out, rng, kills = tmp_path / "killed", random.Random(4), 0
    while kills < 10:
        process = start(config, out)
        until = time.monotonic() + 30
        first = (
            len(checkpoint.steps(out / "checkpoints")) and checkpoint.steps(out / "checkpoints")[-1]
        )
        while time.monotonic() < until and process.poll() is None:
            found = checkpoint.steps(out / "checkpoints") if (out / "checkpoints").exists() else []
            if found and found[-1] != first:
                break
            time.sleep(0.01)
        time.sleep(rng.random() * 0.08)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    assert kills == 10
    done, errors = start(config, out).communicate(timeout=120)
    assert done.strip() == whole.weights_sha256, errors
    steps = [json.loads(x)["step"] for x in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 401))
    assert not list((out / "checkpoints").glob(".tmp-*"))


def test_death_at_every_stage_of_a_save_is_survived(micro, tmp_path):
    cfg = micro("train.save_every=4")
    whole = train(cfg, out=tmp_path / "whole")
    config = tmp_path / "kill.toml"
    config.write_text(to_toml(cfg))
    for stage in faults.STAGES:
        out = tmp_path / stage
        process = start(config, out, f"exit@save:{stage}:8")
        process.communicate(timeout=60)
        assert process.returncode == 137
        expected = 8 if stage == "after-rename" else 4
        assert checkpoint.load_latest(out / "checkpoints")[0].step == expected
        done, errors = start(config, out).communicate(timeout=60)
        assert done.strip() == whole.weights_sha256, errors


def test_a_signal_ends_the_run_after_a_clean_save(micro, tmp_path):
    cfg = micro("train.max_steps=100000", "train.save_every=1")
    config = tmp_path / "signal.toml"
    config.write_text(to_toml(cfg))
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / str(int(number))
        process = start(config, out)
        while not (out / "checkpoints").exists() or not checkpoint.steps(out / "checkpoints"):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(number)
        done, errors = process.communicate(timeout=60)
        assert process.returncode == 0, (
            errors
        )  # the library returns; the command line exits 130 / 143
        found, warnings = checkpoint.load_latest(out / "checkpoints")
        assert not warnings and found.manifest["weights_sha256"] == done.strip()
