"""`minids eval --at` from outside: a tiny run, six ways to spend tokens, a figure, bad input."""

import json
import os
import subprocess
import sys

import pytest

TINY = ["--set", "train.max_steps=2", "--set", "train.warmup_steps=0", "--set",
        "train.batch_size=2", "--set", "train.threads=1", "--examples", "40"]  # fmt: skip
SMALL = ["--task", "addition:1", "--problems", "3", "--samples", "4"]


def one_core():
    """Threads of many processes that wait for one another would take a minute."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def minids(*args, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "minids_cli", *args], cwd=cwd, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, preexec_fn=one_core,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tries")
    minids("sft", "--base", "--task", "addition:1", "--out", "base", *TINY, cwd=folder)
    return folder


def test_every_way_of_spending_is_measured_with_its_interval_and_drawn(base):
    more = ("--learned", "2", "--budgets", "2,5", "--waits", "1", "--plot", "frontier.png")
    words = ("eval", "base", "--at", "1", "2,4", *SMALL, *more, "--json")
    found = json.loads(minids(*words, cwd=base).stdout)
    ways = [(p["way"], p["k"]) for p in found["points"]]
    each = [(way, k) for way in ("pass", "vote") for k in (1, 2, 4)]
    each += [(way, k) for way in ("confidence", "learned") for k in (1, 2, 4)]
    assert sorted(ways) == sorted([*each, ("budget", 2), ("budget", 5), ("wait", 1)])
    ends = [(p["low"], p["share"], p["high"]) for p in found["points"]]
    assert all(-1e-9 < low < share + 1e-9 < high + 2e-9 < 1 + 1e-6 for low, share, high in ends)
    tokens = {(p["way"], p["k"]): p["tokens"] for p in found["points"]}
    assert tokens["pass", 4] == pytest.approx(4 * tokens["pass", 1])
    assert tokens["budget", 2] <= tokens["budget", 5]
    assert (base / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(minids(*words[:-3], "--json", cwd=base).stdout) == found  # a seed is a seed


def test_the_table_names_the_ways(base):
    said = minids("eval", "base", "--at", "1", *SMALL, "--budgets", "2", "--waits", "0", cwd=base)
    for part in ("a verifier picks", "majority vote", "by log-probability", "95 % interval"):
        assert part in said.stdout
    assert "learned" not in said.stdout


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--at", "0"), "out of range"),
        (("--at", "x"), "--at"),
        (("--at", "8", "--samples", "4"), "cannot hold 8 tries"),
        (("--at", "1", "--temperature", "0"), "0.01 … 2.0"),
        (("--at", "1", "--learned", "-1"), "out of range"),
        (("--at", "1", "--task", "additon"), "did you mean addition?"),
        (("--at", "1", "--budgets", "4,-1"), "out of range"),
        (("--at", "1", "--plot", "base"), "exists already"),
        (("--at", "1", "--plot", "no/such.png"), "is no folder"),
        (("--samples", "4"), "given without --at"),
    ],
)
def test_bad_input_is_one_line(base, args, part):
    done = minids("eval", "base", *args, cwd=base, code=2)
    assert part in done.stderr
    assert done.stderr.count("minids: error:") == 1
    assert "Traceback" not in done.stderr
