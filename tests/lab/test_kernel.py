"""The lab in a real kernel: cells are checked after they ran, endless ones end, nothing twice."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CONFTEST = Path(__file__).with_name("conftest.py")
START = f"""
import importlib.util, types
spec = importlib.util.spec_from_file_location("toy", {str(CONFTEST)!r})
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
from minids.lab import check, exercises, predict, reveal
lesson = types.SimpleNamespace(EXERCISES=(toy.TOY,), PREDICTIONS=(toy.GUESS,))
exercises.lesson = lambda number: lesson
"""
HEAD = "### YOUR CODE 07.1\ndef softmax_of_the_past(score):\n"
CELLS = {
    "start": START,
    "blank": HEAD + "    raise NotImplementedError",
    "check blank": 'check("07.1", softmax_of_the_past)',
    "wrong": HEAD + "    return score.softmax(-1)",
    "confirmed": 'check("07.1", softmax_of_the_past)',
    "both": HEAD + '    return score.softmax(-1)\n\ncheck("07.1", softmax_of_the_past)',
    "error": HEAD + "    a = 1\n    return score @ missing",
    "endless": HEAD
    + "    while True:\n        try:\n            a = 1\n        except:\n            a = 2",
    "talking": HEAD + "    print('x' * 10**6)\n    return score",
    "alive": "1 + 1",
    "right": HEAD.replace("def", "from minids.nn.attention import causal_softmax\ndef")
    + "    return causal_softmax(score)",
    "hinted": 'hint("07.1")',
    "guess": 'predict("07.a", 600)',
    "measured": 'reveal("07.a", 700)',
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """{name of the cell: what it showed}, after one run in one kernel."""
    place = tmp_path_factory.mktemp("student")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    book = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        book, kernel_name="python3", timeout=60, resources={"metadata": {"path": place}}
    )
    client.execute(env={**os.environ, "MINIDS_FAST": "0", "MINIDS_LAB_HOME": str(place)})
    found = {
        name: [
            out.get("data", {}).get("text/plain", "") or out.get("text", "") for out in cell.outputs
        ]
        for name, cell in zip(CELLS, book.cells, strict=True)
    }
    html = {
        n: c.outputs[0]["data"].get("text/html", "")
        for n, c in zip(CELLS, book.cells, strict=True)
        if c.outputs
    }
    return found, html, place


def test_a_blank_is_silent_until_it_is_asked(outputs):
    shown, _, _ = outputs
    assert shown["start"] == [] and shown["blank"] == []
    assert len(shown["check blank"]) == 1 and "○ 07.1  not attempted yet" in shown["check blank"][0]


def test_a_cell_is_checked_after_it_ran_once(outputs):
    shown, html, _ = outputs
    assert len(shown["wrong"]) == 1 and "no mask at all" in shown["wrong"][0]
    assert shown["confirmed"] == ["✗ 07.1  no mask at all (as shown above)"]
    assert len(shown["both"]) == 1 and "A query sees" in shown["both"][0]
    assert "<pre" in html["wrong"] and "\x1b" not in shown["wrong"][0]


def test_errors_carry_the_line_of_the_cell(outputs):
    shown, _, _ = outputs
    assert "line 4 of softmax_of_the_past: return score @ missing" in shown["error"][0]


def test_endless_loops_end_and_the_kernel_lives(outputs):
    shown, _, _ = outputs
    assert "✗ 07.1  too slow" in shown["endless"][0]
    assert shown["alive"] == ["2"]


def test_prints_stay_in_the_panel(outputs):
    shown, _, _ = outputs
    assert len(shown["talking"]) == 1 and len(shown["talking"][0]) < 3000
    assert "your code printed 10 lines, the first 1:" in shown["talking"][0]


def test_the_end_is_right_and_stored(outputs):
    shown, _, place = outputs
    assert "✓ 07.1  right" in shown["right"][0]
    assert "your guess: 600 bytes" in shown["guess"][0] and len(shown["guess"]) == 1
    assert "14.3% too low" in shown["measured"][0]
    assert '"no mask at all": 2' in (place / "progress.json").read_text(encoding="utf-8")


def test_a_hint_needs_no_import(outputs):
    shown, _, _ = outputs
    assert "hint 1 of 3" in shown["hinted"][0]
