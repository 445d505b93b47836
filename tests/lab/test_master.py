"""Masters, their workbooks, the student's folder, and a course for nbgrader."""

import copy
import json
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from minids.errors import UserError
from minids.lab import build, folder, progress
from minids.lab import exercises as known
from minids.lab import master as masters
from minids.lab.check import judge
from minids.lab.release import release

LESSONS = sorted((Path(__file__).parents[2] / "lessons").glob("[0-9][0-9]-*.ipynb"))


@pytest.fixture(autouse=True)
def own_course(at_course):
    return at_course


@pytest.fixture
def tiny():
    return masters.find("90")


def named(notebook, name):
    """The cell of a grade_id."""
    return next(cell for cell in notebook["cells"] if masters.grade_id(cell) == name)


# what a workbook is


def test_a_workbook_has_blanks_and_nothing_of_a_solution(tiny):
    notebook = masters.workbook(tiny)
    text = masters.source(named(notebook, "ex-90-1"))
    assert text.endswith('x [n] → [n]"""\n    raise NotImplementedError("your code")')
    whole = masters.written(notebook)
    assert "SOLUTION" not in whole and "return scale" not in whole
    names: dict = {}
    exec(text, names)
    with pytest.raises(NotImplementedError):
        names["doubled"](1)


def test_a_solved_workbook_has_the_solutions_without_marks(tiny):
    text = masters.source(named(masters.workbook(tiny, solved=True), "ex-90-2"))
    assert text.endswith("    return doubled(x).mean() / 2") and "SOLUTION" not in text


def test_marks_for_nbval_are_not_shown(tiny):
    master = copy.deepcopy(tiny)
    for cell in master.notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = "# NBVAL_CHECK_OUTPUT\n" + masters.source(cell)
    marked, plain = masters.workbook(master), masters.workbook(tiny)
    assert "NBVAL" not in masters.written(marked)
    assert [masters.source(c) for c in marked["cells"]] == [
        masters.source(c) for c in plain["cells"]
    ]


def test_ids_and_metadata_are_kept(tiny):
    notebook = masters.workbook(tiny)
    pairs = list(zip(tiny.notebook["cells"], notebook["cells"], strict=True))
    for old, new in pairs:
        assert new["id"] == old["id"]
        assert new["metadata"].get("nbgrader") == old["metadata"].get("nbgrader")
    assert named(notebook, "check-90-2")["metadata"]["editable"] is False


def test_outputs_stay_until_the_first_blank(tiny):
    master = copy.deepcopy(tiny)
    for cell in master.notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "seen"}]
    cells = masters.workbook(master)["cells"]
    first = next(i for i, c in enumerate(cells) if masters.grade_id(c))
    shown = [bool(c["outputs"]) for c in cells if c["cell_type"] == "code"]
    before = sum(c["cell_type"] == "code" for c in cells[:first])
    assert shown == [True] * before + [False] * (len(shown) - before) and before == 3


def test_a_workbook_knows_its_lesson_and_cells(tiny):
    about = masters.workbook(tiny)["metadata"]["minids"]
    assert about["lesson"] == "90-tiny" and about["master"] == masters.fingerprint(tiny)
    assert set(about["cells"]) == {"ex-90-1", "check-90-1", "ex-90-2", "check-90-2"}


def test_the_fingerprint_is_of_sources_not_of_outputs(tiny):
    other = copy.deepcopy(tiny)
    other.notebook["cells"][3]["outputs"] = []
    assert masters.fingerprint(other) == masters.fingerprint(tiny)
    other.notebook["cells"][0]["source"] = "# Another title"
    assert masters.fingerprint(other) != masters.fingerprint(tiny)


# masters that are none


def without(name):
    return lambda cells: cells.remove(next(c for c in cells if masters.grade_id(c) == name))


def replaced(name, old, new):
    def change(cells):
        cell = named({"cells": cells}, name)
        assert old in masters.source(cell)
        cell["source"] = masters.source(cell).replace(old, new)

    return change


def settings(name, **changes):
    return lambda cells: named({"cells": cells}, name)["metadata"]["nbgrader"].update(changes)


MALFORMED = [
    (without("check-90-1"), "cell 4 (ex-90-1): its check is not the next cell"),
    (without("ex-90-1"), "(check-90-1): its exercise is not the cell before"),
    (replaced("ex-90-1", "    ### BEGIN SOLUTION\n", ""), "needs ### BEGIN SOLUTION and ### END"),
    (replaced("ex-90-1", "    ### END SOLUTION", ""), "needs ### BEGIN SOLUTION and ### END"),
    (replaced("ex-90-1", "YOUR CODE 90.1", "YOUR CODE 90.2"), "lacks the line ### YOUR CODE 90.1"),
    (replaced("ex-90-1", "return scale", "return return"), "is not Python"),
    (replaced("check-90-1", "90.1", "90.2"), 'does not call check("90.1", …)'),
    (settings("ex-90-1", solution=False), "must say solution: true"),
    (settings("check-90-1", grade=False), "must say grade: true"),
    (settings("check-90-1", points=0), "has no points"),
    (settings("ex-90-1", grade_id="ex-91-1"), "belongs to another lesson"),
    (settings("ex-90-1", grade_id="first"), "named neither ex-90-N nor check-90-N"),
    (settings("ex-90-2", grade_id="ex-90-1"), "a second cell of that name"),
    (lambda cells: cells[0].update(source=masters.BEGIN), "a solution outside an exercise"),
]


@pytest.mark.parametrize(("change", "says"), MALFORMED, ids=[says[:40] for _, says in MALFORMED])
def test_what_is_wrong_with_a_master_is_said_in_one_line(tiny, tmp_path, change, says):
    notebook = copy.deepcopy(tiny.notebook)
    change(notebook["cells"])
    path = tmp_path / "90-tiny.ipynb"
    path.write_text(masters.written(notebook))
    with pytest.raises(UserError) as error:
        masters.read(path)
    assert error.value.code == 2 and says in error.value.line(), error.value.line()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a notebook"),
        (b'{"cells": 3}', "is not a notebook"),
        (b'{"cells": [], "nbformat": 3}', "has notebook format 3"),
        (b'{"cells": [7], "nbformat": 4}', "cell 0 is not a notebook cell"),
        (b'{"cells": [{"cell_type": "code"}], "nbformat": 4}', "cell 0 is not a notebook cell"),
        (
            b'{"cells": [{"cell_type": "code", "source": "", "metadata": 1}], "nbformat": 4}',
            "metadata that is no object",
        ),
        (b'{"cells": [], "nbformat": 4, "metadata": []}', "metadata that is no object"),
    ],
)
def test_a_file_that_is_no_notebook_is_said_in_one_line(tmp_path, content, says):
    path = tmp_path / "90-tiny.ipynb"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        masters.read(path)


def test_a_missing_or_misnamed_master_is_said(tmp_path, tiny):
    with pytest.raises(UserError, match="No such file"):
        masters.read(tmp_path / "90-tiny.ipynb")
    path = tmp_path / "tiny.ipynb"
    path.write_text(masters.written(tiny.notebook))
    with pytest.raises(UserError, match="is not named like"):
        masters.read(path)


def test_lessons_are_found_by_number_or_name(own_course):
    assert list(masters.paths()) == ["90", "91"]
    for word in ("90", 90, "90-tiny"):
        assert masters.find(word).name == "90-tiny"
    assert masters.find("90").title == "Two small things"
    for word in ("7", "92", "90-huge", "", "-1", "../90", "90.1"):
        with pytest.raises(UserError, match=r"does not exist; allowed: 90-tiny, 91-next"):
            masters.find(word)


def test_two_lessons_of_one_number_are_refused(own_course, tmp_path, monkeypatch):
    for name in ("90-tiny.ipynb", "90-other.ipynb"):
        shutil.copy(own_course / "90-tiny.ipynb", tmp_path / name)
    monkeypatch.setenv("MINIDS_LESSONS", str(tmp_path))
    with pytest.raises(UserError, match=r"90-other\.ipynb and 90-tiny\.ipynb have the same number"):
        masters.find("90")


# the lessons themselves


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_is_as_the_builder_leaves_it(path):
    masters.read(path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    again = build.normalised(path)
    for cell in again["cells"]:
        cell["source"] = masters.source(cell).splitlines(keepends=True)
    assert again["cells"] == stored["cells"], f"python -m minids.lab.build {path.stem[:2]}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_installs_in_colab_and_nowhere_else(path):
    code = [c for c in masters.load(path)["cells"] if c["cell_type"] == "code"]
    assert masters.source(code[0]) == build.COLAB_CELL
    for cell in code[1:]:
        text = masters.source(cell)
        assert "pip" not in text.split() and not text.lstrip().startswith(("%", "!")), text


# building


def test_building_twice_gives_the_same_bytes_and_a_failing_lesson_is_left_alone(
    own_course, tmp_path
):
    path = tmp_path / "91-next.ipynb"
    shutil.copy(own_course / "91-next.ipynb", path)
    assert build.execute(path) == []
    first = path.read_bytes()
    build.execute(path)
    assert path.read_bytes() == first
    notebook = json.loads(first)
    assert "version" not in notebook["metadata"]["language_info"]
    shown = [c["outputs"] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert any("91.1" in str(outputs) for outputs in shown)

    notebook["cells"].append({**notebook["cells"][1], "source": ["1/0"]})
    path.write_text(json.dumps(notebook))
    before = path.read_bytes()
    with pytest.raises(UserError, match="raised ZeroDivisionError: division by zero"):
        build.execute(path)
    assert path.read_bytes() == before


def test_ids_come_from_contents(own_course, tmp_path):
    path = tmp_path / "90-tiny.ipynb"
    notebook = json.loads((own_course / "90-tiny.ipynb").read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    notebook["cells"].insert(1, {"cell_type": "markdown", "metadata": {"x": 1}, "source": "new"})
    path.write_text(json.dumps(notebook))
    cells = build.normalised(path)["cells"]
    assert [c["id"] for c in cells if c["source"] != "new"] == ids and len(set(ids)) == len(ids)
    assert cells[1]["metadata"] == {} and named({"cells": cells}, "ex-90-1")["id"] == "ex-90-1"


def test_large_figures_and_long_prints_are_refused():
    image = {"output_type": "display_data", "data": {"image/png": "A" * 200_000}, "metadata": {}}
    text = {"output_type": "stream", "name": "stdout", "text": "x" * 30_000}
    for output, says in ((image, "shows 150,000 bytes of image/png"), (text, "prints 30,000")):
        import nbformat

        cell = {"cell_type": "code", "metadata": {}, "outputs": [output], "source": ""}
        node = nbformat.from_dict({"cells": [cell], "metadata": {}})
        with pytest.raises(UserError, match=says):
            build.tidy_outputs("x", node)


# the student's folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine"
    folder.prepare(path)
    return path


def changed(tiny):
    """The same lesson, rewritten by its author."""
    other = copy.deepcopy(tiny)
    other.notebook["cells"][0]["source"] = "# Two small things, again"
    return other


def test_a_workbook_is_written_once_and_then_kept(tiny, place):
    first = folder.lay(tiny, place)
    assert first == (place / "90-tiny.ipynb", "new")
    first.path.write_text(first.path.read_text().replace('your code"', 'my work"'))
    mine = first.path.read_text()
    assert folder.lay(tiny, place) == (first.path, "kept") and first.path.read_text() == mine


def test_a_newer_lesson_is_laid_beside_once(tiny, place):
    first = folder.lay(tiny, place).path
    mine = first.read_bytes()
    second = folder.lay(changed(tiny), place)
    assert second == (place / "90-tiny.new-2.ipynb", "beside")
    assert folder.lay(changed(tiny), place) == (second.path, "kept")
    assert folder.lay(tiny, place) == (first, "kept") and first.read_bytes() == mine
    assert (
        sorted(p.name for p in place.glob("*.ipynb")) == [first.name, second.path.name][::-1][::-1]
    )


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_files_of_the_same_name_are_not_touched(tiny, place, make):
    path = place / "90-tiny.ipynb"
    if make == "file":
        path.write_text("my notes")
    if make == "folder":
        path.mkdir()
    if make == "link":
        path.symlink_to("nowhere")
    before = os.lstat(path)
    assert folder.lay(tiny, place).path.name == "90-tiny.new-2.ipynb"
    assert os.lstat(path) == before


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "here").write_text("")
    for path in (tmp_path / "here", tmp_path / "here" / "deeper"):
        with pytest.raises(UserError, match="is a file; allowed: a folder") as error:
            folder.prepare(path)
        assert error.value.code == 2


def test_a_read_only_folder_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is read-only; allowed: a folder you may write to"):
        folder.prepare(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_the_folder_we_are_in_or_beside_is_found_again(place, monkeypatch):
    monkeypatch.chdir(place)
    assert folder.chosen(None) == place
    monkeypatch.chdir(place.parent)
    assert folder.chosen(None) == Path("minids-lab")
    folder.prepare(Path("minids-lab"))
    assert folder.chosen(None).resolve() == place.parent / "minids-lab"
    assert folder.chosen("there") == Path("there")


def test_the_index_links_every_lesson_and_shows_progress(own_course, place):
    lessons = [masters.read(path) for path in masters.paths().values()]
    stored = {"exercises": {"90.2": {"right": "2026-11-23"}}}
    (place / progress.NAME).write_text(json.dumps(stored))
    text = folder.index(lessons, place).read_text()
    assert "| 90 | [Two small things](90-tiny.ipynb) | ○ ✓ |" in text
    (place / folder.INDEX).write_text("my own")
    folder.index(lessons, place)
    assert (place / folder.INDEX).read_text() == "my own"


def test_whoever_starts_later_gets_the_earlier_lessons_solved(own_course, place):
    files = folder.catch_up(masters.find("91"), place)
    assert [f.name for f in files] == ["90-tiny.ipynb", "lesson_90.py"]
    assert files[0].parent == place / "catch-up-91"
    names = runpy.run_path(str(files[1]))
    assert "time" not in names, "experiments do not belong to what is given"
    for name in ("90.1", "90.2"):
        exercise = known.find(name)
        assert judge(exercise, names[exercise.name]).right
    assert sum(f.stat().st_size for f in files) < folder.LARGEST_STATE
    files[0].write_text("mine")
    folder.catch_up(masters.find("91"), place)
    assert files[0].read_text() == "mine"


def test_what_is_given_is_at_most_five_megabytes(own_course, place, monkeypatch):
    monkeypatch.setattr(folder, "LARGEST_STATE", 1000)
    files = folder.catch_up(masters.find("91"), place)
    assert "2.0" not in str([c.get("outputs") for c in masters.load(files[0])["cells"]])


# nbgrader


def nbgrader_python():
    """The interpreter that has nbgrader, None if there is none."""
    python = os.environ.get("NBGRADER_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import nbgrader"], capture_output=True, check=False)
    return python if found.returncode == 0 else None


def test_a_release_is_refused_where_something_is(tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        release([tiny], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_real_nbgrader_generates_and_grades(tiny, tmp_path):
    python = nbgrader_python()
    if python is None:
        pytest.skip("no nbgrader here; NBGRADER_PYTHON names an interpreter that has it")
    release([tiny], tmp_path / "course")
    root = Path(masters.__file__).parents[2]
    environment = os.environ | {
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "MINIDS_FAST": "1",
        "OMP_NUM_THREADS": "1",
    }

    def nbgrader(*words):
        command = [python, "-m", "nbgrader", *words]
        done = subprocess.run(
            command,
            cwd=tmp_path / "course",
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    source = tmp_path / "course/source/90-tiny/90-tiny.ipynb"
    text = source.read_text().replace("time.sleep(600)", "time.sleep(0)")
    source.write_text(text)
    nbgrader("generate_assignment", "90-tiny")
    released = tmp_path / "course/release/90-tiny/90-tiny.ipynb"
    assert "SOLUTION" not in released.read_text() and "HIDDEN" not in released.read_text()
    assert "must_be_right" not in released.read_text()
    solved = masters.workbook(tiny, solved=True)
    for student, answer in (("right", "scale * x"), ("squares", "x * x"), ("blank", None)):
        notebook = json.loads(released.read_text())
        for name in ("ex-90-1", "ex-90-2") if answer else ():
            solution = masters.source(named(solved, name)).replace("scale * x", answer)
            named(notebook, name)["source"] = solution
        named(notebook, "check-90-1")["source"] = "pass"
        path = tmp_path / "course/submitted" / student / "90-tiny/90-tiny.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook))
    nbgrader("autograde", "90-tiny")
    with sqlite3.connect(tmp_path / "course/gradebook.db") as book:
        query = """select student.id, sum(grade.auto_score) from grade
            join submitted_notebook on grade.notebook_id = submitted_notebook.id
            join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
            join student on submitted_assignment.student_id = student.id group by student.id"""
        scores = dict(book.execute(query).fetchall())
    assert scores == {"right": 3, "squares": 0, "blank": 0}
