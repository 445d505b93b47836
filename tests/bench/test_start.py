"""How waits are measured: each counted from the command, the first call not at all."""

import pytest

from minids.bench import start
from minids.bench.harness import Plan
from minids.errors import UserError


def plan(**changes):
    return Plan(peer=None, threads=1, repeats=2, seconds=1.0)._replace(**changes)


def test_the_first_call_does_not_count(monkeypatch):
    waits = iter([9.0, 0.2, 0.4])
    monkeypatch.setattr(start, "until_done", lambda _arguments: next(waits))
    (case,) = start.bench(plan(only="--help"))["cases"]
    assert case["turns"] == [0.2, 0.4]
    assert case["seconds"]["low"] == 0.2
    assert case["target"] == 0.4


def test_a_command_that_fails_is_no_wait():
    with pytest.raises(UserError, match="exit code"):
        start.until_done(["-c", "raise SystemExit(1)"])


def test_a_line_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert not start.has_line(path)
    path.write_text('{"step": 1')
    assert not start.has_line(path)
    path.write_text('{"step": 1}\n')
    assert start.has_line(path)
