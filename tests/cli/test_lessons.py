"""minids lab, lessons open and release, grade: from outside."""

import csv
import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minids.lab import master as masters


@pytest.fixture(autouse=True)
def own_course(at_course):
    return at_course


def hand_in(folder, *names, change=lambda text: text):
    """Solved workbooks of lesson 90."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        notebook = masters.workbook(masters.find("90"), solved=True)
        text = change(masters.written(notebook))
        (folder / f"{name}.ipynb").write_text(text)


def test_open_writes_a_workbook_once(minids):
    said = minids("lessons", "open", "90")
    assert said.code == 0 and said.out.splitlines() == [
        "minids-lab/90-tiny.ipynb written",
        "open it with: minids lab --folder minids-lab",
    ]
    path = minids.place / "minids-lab/90-tiny.ipynb"
    assert "NotImplementedError" in path.read_text() and "SOLUTION" not in path.read_text()
    path.write_text(path.read_text().replace("your code", "my work"))
    mine = path.read_bytes()
    said = minids("lessons", "open", "90-tiny", "--json")
    assert said.json()[0]["state"] == "kept" and path.read_bytes() == mine


def test_open_lays_a_newer_lesson_beside(minids, own_course, tmp_path, monkeypatch):
    assert minids("lessons", "open", "90").code == 0
    newer = tmp_path / "newer"
    shutil.copytree(own_course, newer)
    path = newer / "90-tiny.ipynb"
    path.write_text(path.read_text().replace("Two small things", "Two larger things"))
    monkeypatch.setenv("MINIDS_LESSONS", str(newer))
    said = minids("lessons", "open", "90")
    assert said.code == 0 and "your workbook, which is kept" in said.out
    names = sorted(p.name for p in (minids.place / "minids-lab").glob("*.ipynb"))
    assert names == ["90-tiny.ipynb", "90-tiny.new-2.ipynb"]


def test_catch_up_gives_the_earlier_lessons(minids):
    said = minids("lessons", "open", "91", "--catch-up", "--json").json()[0]
    assert [Path(f).name for f in said["catch_up"]] == ["90-tiny.ipynb", "lesson_90.py"]
    assert all((minids.place / f).exists() for f in said["catch_up"])


@pytest.mark.parametrize("lesson", ["7", "92", "../90", "seven", "90.1", ""])
def test_a_lesson_that_does_not_exist_is_one_line(refused, lesson):
    assert "does not exist; allowed: 90-tiny, 91-next" in refused("lessons", "open", lesson)


def test_a_folder_that_cannot_be_is_one_line(refused, minids):
    (minids.place / "file").write_text("")
    for words in (("lessons", "open", "90"), ("lab", "--no-lab")):
        assert "is a file; allowed: a folder" in refused(*words, "--folder", "file")
        assert "is a file; allowed: a folder" in refused(*words, "--folder", "file/inside")
    if os.name == "posix" and Path("/proc").is_dir():
        assert "cannot be written" in refused(
            "lessons", "open", "90", "--folder", "/proc/minids-lab"
        )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_is_one_line(refused, minids):
    minids.place.chmod(0o555)
    try:
        assert "read-only" in refused("lessons", "open", "90")
    finally:
        minids.place.chmod(0o755)


def test_lab_lays_everything_and_says_what_it_would_start(minids):
    said = minids("lab", "--dry-run", "--no-browser", "--json")
    words = said.json()[0]["command"]
    assert words[1:3] == ["-m", "jupyterlab"] and "--no-browser" in words
    assert f"--ServerApp.root_dir={minids.place / 'minids-lab'}" in words
    assert "--LabApp.default_url=/lab/tree/index.ipynb" in words
    assert not list(minids.place.iterdir())
    said = minids("lab", "--no-lab")
    assert said.code == 0 and said.out == "open it with: minids lab --folder minids-lab\n"
    names = {p.name for p in (minids.place / "minids-lab").iterdir()}
    assert names == {".minids-lab", "90-tiny.ipynb", "91-next.ipynb", "index.ipynb"}


def test_release_writes_a_course_once(minids, refused):
    said = minids("lessons", "release", "90", "--to", "course")
    assert said.code == 0 and "1 lessons in course/source" in said.out
    source = minids.place / "course/source/90-tiny/90-tiny.ipynb"
    assert 'must_be_right(\\"90.1\\", doubled)' in source.read_text()
    assert "is not empty" in refused("lessons", "release", "--to", "course")
    assert "does not exist" in refused("lessons", "release", "7", "--to", "other")


def test_grade_writes_everything_it_was_asked_for(minids):
    hand_in(minids.place / "in", "alice", "zoe")
    hand_in(minids.place / "in", "bob", change=lambda t: t.replace("scale * x", "x * x"))
    (minids.place / "in/eve.ipynb").write_text("no notebook")
    said = minids(
        *("grade", "in", "--csv", "g.csv", "--junit", "g.xml", "--feedback", "pages"),
        *("--report", "class.md", "--seed", "5", "--timeout", "20", "--jobs", "2"),
    )
    assert said.code == 0, said
    assert "no security sandbox" in said.out and "squared" in said.out and "seed 5" in said.out
    rows = list(csv.DictReader((minids.place / "g.csv").open()))
    points = {}
    for row in rows:
        points[row["student"]] = points.get(row["student"], 0) + float(row["points"])
    assert points == {"alice": 3, "zoe": 3, "bob": 2, "eve": 0}
    assert next(r for r in rows if r["student"] == "bob")["mistake"] == "squared"
    assert all(float(r["seconds"]) < 20 for r in rows)
    suites = ElementTree.parse(minids.place / "g.xml").getroot()
    assert [s.get("failures") for s in suites] == ["0", "1", "3", "0"]
    pages = {p.name: p.read_text() for p in (minids.place / "pages").iterdir()}
    assert set(pages) == {"alice.md", "bob.md", "eve.md", "zoe.md"}
    assert "squaring doubles two only" in pages["bob.md"] and "is not JSON" in pages["eve.md"]
    assert "| 1 | squared |" in (minids.place / "class.md").read_text()


def test_lessons_grade_is_the_same(minids):
    hand_in(minids.place / "submitted/alice/90-tiny", "90-tiny")
    said = minids("lessons", "grade", ".", "--json", "--timeout", "20").json()[0]
    assert [(r["student"], r["points"]) for r in said["rows"]] == [("alice", 1), ("alice", 2)]
    assert said["class"]["exercises"][0]["right"] == 1 and isinstance(said["seed"], int)


def test_what_grade_cannot_use_is_one_line_before_anything_runs(refused, minids):
    hand_in(minids.place / "in", "alice")
    (minids.place / "empty").mkdir()
    (minids.place / "notes.txt").write_text("")
    for words, says in (
        (("nowhere",), "nowhere: does not exist"),
        (("empty",), "holds no notebook"),
        (("notes.txt",), "is no notebook"),
        (("in", "--csv", "no/g.csv"), "--csv: the folder no does not exist"),
        (("in", "--junit", "empty"), "--junit: 'empty' is a folder"),
        (("in", "--report", ""), "--report"),
        (("in", "--feedback", "notes.txt"), "--feedback: notes.txt is a file"),
        (("in", "--feedback", "no/where"), "--feedback: no/where cannot be made"),
        (("in", "--timeout", "0"), "--timeout: 0 is out of range"),
        (("in", "--timeout", "soon"), "--timeout: 'soon' is not a number"),
        (("in", "--timeout", "nan"), "--timeout"),
        (("in", "--memory", "-1"), "--memory: -1 is out of range"),
        (("in", "--jobs", "1.5"), "--jobs: '1.5' is not a whole number"),
        (("in", "--seed", "-3"), "--seed: -3 is out of range"),
        (("in", "--lesson", "7"), "lesson: '7' does not exist"),
    ):
        assert says in refused("grade", *words), words


def test_grade_explains_its_limits(minids):
    said = minids("grade", "--help")
    assert "NO SECURITY SANDBOX" in said.out and "docker run --rm --network=none" in said.out


def test_json_is_one_object(minids):
    hand_in(minids.place, "alice")
    said = minids("grade", "alice.ipynb", "--json", "--seed", "1")
    assert json.loads(said.out)["rows"][0]["student"] == "alice"
