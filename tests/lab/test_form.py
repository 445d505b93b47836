"""Every lesson has the form that the course promises; see minids/README.md, "lab"."""

import re

import pytest

from minids.lab import exercises, master

LESSONS = {path.stem: path for path in master.paths().values()}
SOURCE = re.compile(r"§|Table \d|arXiv|README|report|model card|github|deepseek-ai/", re.IGNORECASE)
OUTPUT = "image/png"


def parts(name):
    """The lesson's markdown texts, its code texts, and its code cells."""
    cells = master.load(LESSONS[name])["cells"]
    markdown = [master.source(c) for c in cells if c["cell_type"] == "markdown"]
    code = [c for c in cells if c["cell_type"] == "code"]
    return markdown, [master.source(c) for c in code], code


def faults(name):
    """What a lesson lacks, in words."""
    markdown, code, cells = parts(name)
    text, program = "\n\n".join(markdown), "\n".join(code)
    if not re.match(rf"# {name[:2]} · .+\n\n\*\*[^*]+\?\*\*\n\n\S", markdown[0]):
        yield "does not begin with its title and a question in bold, then why it matters"
    guesses = set(re.findall(r"\bpredict\(\"(.+?)\"", program))
    if not guesses:
        yield "asks for no prediction"
    if guesses != set(re.findall(r"\breveal\(\"(.+?)\"", program)):
        yield "does not measure just what it lets predict"
    if len(master.read(LESSONS[name]).exercises) < 2:
        yield "has fewer than two exercises"
    if not any(OUTPUT in o.get("data", {}) for c in cells for o in c["outputs"]):
        yield "shows no figure"
    said = re.search(r"^## What DeepSeek reports.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not said or not SOURCE.search(said[1]):
        yield "does not say what DeepSeek reports, with the source"
    if not re.search(r"\b([Rr]eferees?|[Oo]racles?)\b", text):
        yield "names no referee that is not our own code"
    for words in ("**What this does not show.**", "**Try next.**"):
        if text.count(words) != 1:
            yield f"does not say {words} once"
    if not code[-1].lstrip().startswith("library("):
        yield "does not end with the library's own file"


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_form(name):
    assert not list(faults(name))


@pytest.mark.parametrize("name", LESSONS)
def test_its_exercises_and_predictions_are_those_of_its_file(name):
    _, code, _ = parts(name)
    lesson, program = master.read(LESSONS[name]), "\n".join(code)
    assert lesson.exercises == tuple(e.id for e in exercises.of_lesson(int(name[:2])))
    assert all(len({m.name for m in exercises.find(e).mistakes}) >= 3 for e in lesson.exercises)
    known = {p.id for p in exercises.predictions_of(int(name[:2]))}
    assert known == set(re.findall(r"\bpredict\(\"(.+?)\"", program))


def test_a_lesson_without_its_form_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "07-bare.ipynb"
    cell = {"cell_type": "markdown", "metadata": {}, "source": "# 07 · Bare"}
    code = {
        "cell_type": "code", "metadata": {}, "source": "pass", "outputs": [],
        "execution_count": None,
    }  # fmt: skip
    book = {"cells": [cell, code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(master.written(book), encoding="utf-8")
    monkeypatch.setitem(LESSONS, "07-bare", path)
    assert len(list(faults("07-bare"))) == 9
