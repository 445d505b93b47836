"""`minids sft` and `minids rl` from outside: a base, a tuned run, a rewarded one, and bad input."""

import json
import os
import subprocess
import sys

import pytest

TINY = ["--set", "train.max_steps=2", "--set", "train.warmup_steps=0", "--set",
        "train.batch_size=2", "--set", "train.threads=1", "--examples", "40"]  # fmt: skip


def minids(*args, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "minids_cli", *args], cwd=cwd, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reason")
    minids("sft", "--base", "--task", "addition:1", "--out", "base", *TINY, cwd=folder)
    return folder


def test_sft_goes_on_from_a_run_and_resumes(base):
    out = ("--out", "tuned", *TINY)
    said = minids("sft", "base", "--task", "addition:1", *out, "--json", cwd=base).stdout
    events = [json.loads(line) for line in said.splitlines()]
    assert {"started", "step", "evaluated", "finished"} <= {e["event"] for e in events}
    more = minids("sft", "--resume", "tuned", "--set", "train.max_steps=3", cwd=base).stdout
    assert "going on at step 2" in more
    assert len((base / "tuned/metrics.jsonl").read_text().splitlines()) == 3


def test_rl_learns_says_what_it_does_and_resumes(base):
    small = ["--set", "rl.prompts=2", "--set", "group=2", "--set", "rl.max_new_tokens=4",
             "--set", "rl.eval_problems=3"]  # fmt: skip
    common = ("rl", "base", "--task", "addition:1", "--out", "paid", "--method", "dapo")
    said = minids(*common, "--steps", "2", *small, cwd=base).stdout
    for part in ("begins near 0", "unbiased std", "held out after step 0", "step    2", "apart"):
        assert part in said
    said = minids("rl", "--resume", "paid", "--steps", "3", "--json", cwd=base).stdout
    events = [json.loads(line) for line in said.splitlines()]
    assert [e["step"] for e in events if e["event"] == "stepped"] == [3]
    assert events[-1]["event"] == "finished"
    minids("sample", "paid", "--max-new-tokens", "3", cwd=base)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("rl", "base", "--task", "additon"), "did you mean addition?"),
        (("rl", "base", "--task", "addition:0"), "out of range"),
        (("rl", "base", "--method", "grrpo"), "did you mean grpo?"),
        (("rl", "base", "--set", "rl.temperature=0"), "explores nothing"),
        (("rl", "base", "--set", "rl.top_p=0"), "keeps no token"),
        (("rl", "base", "--set", "rl.grup=4"), "did you mean rl.group?"),
        (("rl", "base", "--set", "objective.beta=nan"), "out of range"),
        (("rl", "base", "--set", "model.x=1"), "no section"),
        (("rl", "base", "--out", "base"), "not empty"),
        (("rl",), "is missing"),
        (("r1",), "--tiny"),
        (("r1", "--tiny", "--config", "gpu"), "needs one size"),
        (("r1", "--config", "gpo"), "did you mean gpu?"),
        (("r1", "--tiny", "--stages", "9"), "out of range"),
        (("r1", "--tiny", "--out", "base"), "holds something else"),
        (("rl", "nothing"), "no folder"),
        (("rl", "base", "--inject", "x"), "is no fault"),
        (("sft", "base"), "both missing"),
        (("sft", "--task", "addition"), "is missing"),
        (("sft", "base", "--data", "no.jsonl"), "is no file"),
        (("sft", "base", "--task", "addition", "--examples", "3"), "out of range"),
        (("sft", "base", "--task", "addition", "--set", "model.x=1"), "not changed by tuning"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(base, args, part):
    done = minids(*args, cwd=base, code=2)
    assert part in done.stderr
    assert done.stderr.count("minids: error:") == 1
    assert "Traceback" not in done.stderr
    assert not (base / "runs").exists()


def test_resuming_what_is_no_such_run_is_code_4(base):
    for command in ("rl", "sft"):
        assert "--resume" in minids(command, "--resume", "nothing", cwd=base, code=4).stderr
