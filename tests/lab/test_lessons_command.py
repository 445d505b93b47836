"""`minids lessons list, check, hint, solution`: the same course without a notebook."""

import json

import pytest

from minids.lab import master, progress
from minids_cli.main import main

IMPORTS = "import torch\nfrom minids.lab import check\nslow = print('an experiment')\nWIDTH = 3"
SIGNATURE = "### YOUR CODE 07.1\ndef softmax_of_the_past(score):\n"
WRONG = SIGNATURE + "    return score.softmax(-1)\ncheck('07.1', softmax_of_the_past)"


@pytest.fixture
def course(toy, student, monkeypatch):
    lessons = student / "lessons"
    lessons.mkdir()
    monkeypatch.setenv("MINIDS_LESSONS", str(lessons))
    blank = SIGNATURE + "    raise NotImplementedError"
    cells = [("markdown", "# The cache hurts", ""), ("code", IMPORTS, "")]
    solved = SIGNATURE + (f"    {master.BEGIN}\n    return torch.ones(1)\n    {master.END}\n")
    cells += [
        ("code", solved, "ex-07-1"),
        ("code", 'check("07.1", softmax_of_the_past)', "check-07-1"),
    ]
    write(lessons / "07-cache.ipynb", cells)

    def workbook(source=blank):
        write(student / "07-cache.ipynb", [("code", IMPORTS, ""), ("code", source, "")])

    return workbook


def write(path, cells):
    flags = {"ex": {"solution": True, "grade": False, "locked": False}}
    flags["check"] = {"solution": False, "grade": True, "locked": True, "points": 1}
    made = []
    for kind, text, name in cells:
        meta = (
            {"grade_id": name, "schema_version": 3, **flags[name.partition("-")[0]]}
            if name
            else None
        )
        cell = {"cell_type": kind, "source": text, "metadata": {"nbgrader": meta} if meta else {}}
        made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    book = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(book), encoding="utf-8")


def said(capsys):
    out, err = capsys.readouterr()
    return out + err


def test_list_shows_how_far_one_is(course, capsys):
    assert main(["lessons", "list", "--json"]) == 0
    lesson = json.loads(capsys.readouterr().out)["lessons"][0]
    assert lesson["title"] == "The cache hurts" and lesson["exercises"][0]["right"] is None
    progress.checked("07.1", "mistake", "no mask at all")
    progress.change("predictions", "07.a", predicted=3.0)
    assert main(["lessons", "list"]) == 0
    line = next(x for x in said(capsys).splitlines() if "The cache hurts" in x)
    assert line.split() == ["07", "The", "cache", "hurts", "✗", "0", "of", "1", "1", "1"]


def test_one_broken_lesson_is_left_out_and_named(course, student, capsys):
    (student / "lessons" / "08-broken.ipynb").write_text("{")
    assert main(["lessons", "list"]) == 0
    text = said(capsys)
    assert "warning: left out: 08-broken.ipynb: is not JSON" in text and "The cache hurts" in text
    assert main(["lab", "--no-lab", "--folder", str(student / "mine")]) == 0
    assert "warning: left out: 08-broken.ipynb: is not JSON" in said(capsys)
    assert (student / "mine" / "07-cache.ipynb").exists()
    assert main(["lessons", "open", "08", "--no-lab"]) == 2
    assert "08-broken.ipynb: is not JSON" in said(capsys)


def test_check_judges_the_workbook_without_its_experiments(course, capsys):
    course()
    assert main(["lessons", "check", "07"]) == 1
    assert "○ 07.1  not attempted yet" in said(capsys)
    course(WRONG)
    assert main(["lessons", "check", "07.1"]) == 1
    text = said(capsys)
    assert "no mask at all" in text and "an experiment" not in text and text.count("╭") == 1
    assert progress.entry("exercises", "07.1")["mistakes"] == {"no mask at all": 1}
    course(
        "from minids.nn.attention import causal_softmax\n"
        + SIGNATURE
        + "    return causal_softmax(score)"
    )
    assert main(["lessons", "check", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["right"] is True


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (SIGNATURE + "    return score +", "SyntaxError"),
        ("1 / 0  \n" + WRONG, "ZeroDivisionError"),
        (WRONG.replace("softmax_of_the_past", "other"), "defines no softmax_of_the_past"),
        ("x = 1", "defines no softmax_of_the_past"),
        (SIGNATURE + "    return score.softmax(-1) @ missing", "line 3 of softmax_of_the_past"),
    ],
)
def test_check_says_what_is_wrong_with_a_cell(course, capsys, source, says):
    course(source)
    assert main(["lessons", "check", "07"]) == 1
    assert says in said(capsys)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["check", "99"], "'99' does not exist"),
        (["check", "07.9"], "07.9 does not exist; allowed: of lesson 07: 07.1"),
        (["check", "07"], "there is no workbook"),
        (["hint", "nonsense"], "is not the name of one"),
        (["solution", "08.1"], "lesson 08 has no exercises"),
        (["chekc", "07"], "did you mean check?"),
        ([], "ACTION"),
    ],
)
def test_bad_input_is_one_line_and_code_2(course, capsys, args, says):
    assert main(["lessons", *args]) == 2
    text = said(capsys)
    assert says in text and text.startswith("minids: error: ") and text.count("\n") <= 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": [3], "nbformat": 4}', "\0"])
def test_a_workbook_that_is_no_notebook_is_said(course, student, capsys, content):
    (student / "07-cache.ipynb").write_text(content, encoding="utf-8")
    assert main(["lessons", "check", "07"]) == 2
    assert "07-cache.ipynb: " in said(capsys)


def test_hint_and_solution(course, capsys):
    assert main(["lessons", "hint", "07.1"]) == 0 and "Which keys?" in said(capsys)
    assert main(["lessons", "solution", "07.1"]) == 0 and "first an attempt" in said(capsys)
    course(WRONG)
    main(["lessons", "check", "07.1"])
    assert main(["lessons", "solution", "07.1"]) == 0
    assert "return causal_softmax(score)" in said(capsys)
