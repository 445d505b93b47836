"""Comparisons: turns, ratios inside a turn, failures by name, and every bench from end to end."""

import importlib
import json
import math
import sys

import pytest
import torch

from minids.bench import harness, nanogpt, peer, quality
from minids.bench.harness import Arm
from minids.errors import UserError


def test_a_ratio_is_taken_inside_each_turn():
    # a machine that is twice as slow in the second turn changes no ratio
    assert harness.ratios([8.0, 4.0], [2.0, 1.0]) == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert harness.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_arms_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(harness, "run", lambda arm: order.append(arm.name) or {"rate": 1.0})
    arms = [Arm(name, "nowhere", {}, 1) for name in "AB"]
    harness.take_turns(arms, 3, lambda _line: None)
    assert order == list("ABABAB")


def test_the_fastest_setting_is_chosen_and_one_that_fails_is_not(monkeypatch):
    rates = {"slow": 1.0, "fast": 2.0}

    def run(arm):
        if arm.order["settings"]["how"] not in rates:
            raise UserError(arm.name, "broke", code=1)
        return {"rate": rates[arm.order["settings"]["how"]]}

    monkeypatch.setattr(harness, "run", run)
    arms = [Arm("peer", "m", {"settings": {"how": how}}, 1) for how in ("slow", "broken", "fast")]
    best, found = harness.fastest(arms, lambda _line: None)
    assert best is arms[2] and found["broken, 1 thread"] == 0.0
    with pytest.raises(UserError, match="broke"):
        harness.fastest([arms[1], arms[1]], lambda _line: None)
    assert harness.fastest(arms[1:2], lambda _line: None) == (arms[1], {})


def test_an_arm_that_dies_is_named_with_its_last_words():
    with pytest.raises(UserError, match=r"peer: exit code 1: .*No module named") as error:
        harness.run(Arm("peer", "minids_no_such_module", {}, 1))
    assert error.value.code == 1


def test_a_median_step_is_timed_without_the_first():
    calls = []
    seconds = harness.timed(lambda: calls.append(1), seconds=0.01, warmup=2, least=5)
    assert len(calls) >= 7 and 0 < seconds < 0.01


def test_the_log_of_the_peer_is_read_without_its_evaluations():
    lines = ["step 0: train loss 4.2, val loss 4.3", "iter 0: loss 4.2, time 5000.0ms"]
    lines += [f"iter {i}: loss 3.0, time 10.0ms, mfu 1%" for i in range(1, 5)]
    log = nanogpt.read_log("\n".join(lines))
    assert log.seconds[-1] == pytest.approx(0.05)
    assert log.curve == [(0, 0, 4.3)]
    with pytest.raises(UserError, match="no iteration"):
        nanogpt.read_log("nothing")


def test_time_to_a_loss_is_that_of_the_quickest_run_of_each_turn():
    def curve(*points):
        return {"curve": [{"seconds": s, "val_loss": v} for s, v in points]}

    runs = [[curve((1, 2.0), (2, 1.8)), curve((1, 1.95), (3, 1.7))], [curve((4, 1.6))]]
    assert quality.reached(runs, 1.9)["median"] == 3.0
    assert quality.reached(runs, 1.65) is None


QUICK = ("--repeats", "1", "--seconds", "0.05", "--threads", "1")
ONE_WAY = "grouped_mm, sdpa"


def test_a_bench_runs_beside_its_peer_in_processes_of_their_own(minids_bench):
    pytest.importorskip("transformers")
    one = ("--only", "4x64 float32", "--peer-settings", ONE_WAY)
    found = minids_bench("train", *QUICK, *one)
    looks_measured(found)
    (measured,) = found["cases"]
    first = [measured[side]["first_loss"] for side in ("ours", "peer")]
    assert first[0] == pytest.approx(first[1], rel=1e-4)


@pytest.mark.parametrize("what", ["moe", "decode"])
def test_a_bench_gives_both_sides_the_same_work(what, monkeypatch):
    pytest.importorskip("transformers")
    bench = importlib.import_module(f"minids.bench.{what}")
    monkeypatch.setattr(harness, "run", in_this_process)
    if what == "decode":
        monkeypatch.setattr(bench, "NEW", 6)
    case = {"moe": "256 tokens float32", "decode": "batch 1,"}[what]
    found = bench.bench(harness.Plan("transformers", 1, 1, 0.01, case, ONE_WAY))
    looks_measured(found)
    (measured,) = found["cases"]
    if what == "decode":
        assert measured["same_tokens"] == 1.0
    else:
        first = [measured[side]["first_output"] for side in ("ours", "peer")]
        assert first[0] == pytest.approx(first[1], rel=1e-4)


def in_this_process(arm):
    """An arm without a start of Python and the imports: a test of what it does, not how fast."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine take ten times longer
    try:
        return importlib.import_module(arm.module).work(arm.order | {"threads": 1})
    finally:
        torch.set_num_threads(before)


def looks_measured(found):
    assert found["peer"] == "transformers" and len(found["cases"]) == 1
    (measured,) = found["cases"]
    assert measured["ratio"]["median"] > 0 and math.isfinite(measured["memory_ratio"])
    assert measured["peer"]["order"]["settings"]["experts"] == "grouped_mm"


def test_their_best_way_is_kept_for_later_cases(monkeypatch):
    rates = {"eager, sdpa": 3.0, "grouped_mm, sdpa": 4.0, "batched_mm, sdpa": 1.0}
    tried = []

    def run(arm):
        tried.append(peer.name_of(arm.order["settings"]))
        return {"rate": rates[tried[-1]]}

    monkeypatch.setattr(harness, "run", run)
    plan = harness.Plan("transformers", 1, 1, 3.0)
    best = peer.Best("m", plan, attention=("sdpa",))
    for label in ("small", "large"):
        arm = best.choose(label, {"seconds": 3.0}, [1])
        assert arm.order["settings"]["experts"] == "grouped_mm" and arm.order["seconds"] == 3.0
    assert tried == [*rates, "eager, sdpa", "grouped_mm, sdpa"]
    with pytest.raises(UserError, match="--peer-settings: 'fused' is in no setting"):
        peer.Best("m", plan._replace(settings="fused"))


def test_a_peer_that_is_none_is_refused(minids_bench):
    said = minids_bench("train", "--against", "tensorflow", check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("minids: error: --against: 'tensorflow' is not a peer")


@pytest.fixture
def minids_bench(tmp_path):
    import os
    import subprocess

    def run(*words, check=True):
        done = subprocess.run(
            [sys.executable, "-m", "minids_cli", "bench", *words, "--json"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=400,
            check=False,
        )
        if not check:
            return done
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
