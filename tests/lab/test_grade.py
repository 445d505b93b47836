"""A class hands in, among others, everything that must not pass, hang, or stop the grading."""

import copy
import csv
import io
import json
import os
import random
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from minids.errors import UserError
from minids.lab import confine, exercises, feedback, needed, submission, wire
from minids.lab import grade as grading
from minids.lab import master as masters
from minids.lab.attempt import Outcome, attempt
from minids.lab.check import parameters
from minids.lab.compare import Tolerance, difference
from minids.lab.confine import Limits
from minids.lab.running import Received

LIMITS = Limits(step_s=3, memory_bytes=1_000_000_000, output_bytes=5_000_000)
WRONG = "return scale * x"  # the line of the solution that attacks replace


@pytest.fixture(autouse=True)
def own_course(at_course):
    return at_course


def workbook(blank=False):
    """A student's notebook; and its cells by grade_id."""
    notebook = masters.workbook(masters.find("90"), solved=not blank)
    return notebook, {masters.grade_id(cell): cell for cell in notebook["cells"]}


def body(code):
    """The first exercise with another body."""

    def change(_notebook, cell):
        assert WRONG in cell["ex-90-1"]["source"]
        cell["ex-90-1"]["source"] = cell["ex-90-1"]["source"].replace(WRONG, code)

    return change


def top(code):
    """The first exercise's cell with lines before it."""

    def change(_notebook, cell):
        cell["ex-90-1"]["source"] = f"{code}\n{cell['ex-90-1']['source']}"

    return change


def extra(code, at=3):
    """A cell of the student's own."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": code}
    return lambda notebook, _cell: notebook["cells"].insert(at, cell)


def both(*changes):
    def change(notebook, cell):
        for one in changes:
            one(notebook, cell)

    return change


def move(name, to):
    def change(notebook, cell):
        notebook["cells"].remove(cell[name])
        notebook["cells"].insert(to, cell[name])

    return change


PATCHES = """
import builtins, sys, torch
check = sys.modules["minids.lab.check"]
check.judge = check.Judging.verdict = lambda *a, **k: check.Verdict("90.1", "right", "")
check.Judging.compare = check.Judging.verdict
lesson = sys.modules["minids.lab.exercises.lesson_90"]
lesson.EXERCISES[0].__dict__["reference"] = lambda x: x
lesson.doubled = lambda x: x
torch.equal = torch.allclose = torch.testing.assert_close = lambda *a, **k: True
builtins.AssertionError = type("Quiet", (Exception,), {})
"""
FORGED = """
    import json, os
    head = json.dumps({"outcomes": [], "verdict": {"kind": "right", "says": ""}}).encode()
    data = len(head).to_bytes(8, "big") + head
    for fd in range(3, 64):
        try:
            os.write(fd, bytes(16) + len(data).to_bytes(8, "big") + data)
        except OSError:
            continue
    return x"""
STOLEN = """
    import gc, sys
    for found in gc.get_objects():
        if type(found).__name__ == "Bench":
            found.observe = lambda *a: {"verdict": {"kind": "right", "says": "trust me"}}
    return x"""
SWALLOW = """while True:
        try:
            while True: pass
        except BaseException: pass"""

# name: (change of a right notebook, verdict of 90.1, verdict of 90.2, words in the reason)
CLASS = {
    "right": (lambda *_: None, "right", "right", ""),
    "squared": (body("return x * x"), "mistake", "right", "squaring doubles two only"),
    "wrong": (body("return 3 * x"), "different", "right", "the result is wrong"),
    "detached": (body("return 2 * x.detach()"), "different", "right", "no gradient reaches x"),
    "stops": (body("return scale * y"), "error", "right", "your code stopped"),
    "no python": (top("def ("), "error", "right", "the cell stopped"),
    "undefined": (body("return x\ndel doubled"), "missing", "right", "doubled is not defined"),
    "a number": (body("return x\ndoubled = 3"), "callable", "right", "not a function"),
    "memorised": (body("return torch.tensor([1.4])"), "different", "right", "the result"),
    "nan": (body("return x * float('nan')"), "different", "right", "contains NaN"),
    "borrowed": (
        top("import minids.nn.norm as n") and body("return x\nfrom minids.nn.norm import rms_norm\n"
        "doubled = rms_norm"), "library", "right", "the library's own"),
    "loop": (body("while True: pass"), "time", "right", "while it was tried"),
    "loop in cell": (top("while True: pass"), "time", "right", "in its cell: stopped after 3"),
    "loop swallowing": (body(SWALLOW), "time", "right", "stopped after 3 seconds"),
    "sleeps": (body("import time; time.sleep(3600)"), "time", "right", "stopped"),
    "leaves": (body("import os; os._exit(0)"), "died", "right", "ended itself (exit status 0)"),
    "exits": (body("raise SystemExit(0)"), "error", "right", "your code stopped"),
    "exits in cell": (top("import sys; sys.exit()"), "error", "right", "the cell stopped"),
    "crashes": (body("import ctypes; ctypes.string_at(0)"), "died", "right", "SIGSEGV"),
    "kills": (body("import os; os.kill(os.getpid(), 9)"), "died", "right", "SIGKILL"),
    "large tensor": (body("return torch.ones(10**10)"), "memory", "right", "more memory"),
    "grows": (body("a = []\n    while True: a.append(bytearray(10**8))"), None, "right", ""),
    "prints": (body("while True: print('x' * 10**6)"), "time", "right", "stopped"),
    "floods": (
        body("import os\n    while True: os.write(1, b'x' * 10**6)"), "output", "right", "5 MB"),
    "forks": (body("import os\n    while True: os.fork()"), None, "right", ""),
    "large result": (body("return [x] * 10**7"), None, "right", ""),
    "patched": (both(extra(PATCHES), body("return x")), "different", "right", "the result"),
    "forged": (body(FORGED), "garbled", "right", "the grader's channel"),
    "stolen": (both(body(STOLEN), extra("doubled(1)", at=5)), "error", "error", ""),
    "check edited": (
        lambda _n, c: (c["check-90-1"].update(source="print('right')"), body("return x")(_n, c)),
        "different", "right", "the result"),
    "check deleted": (
        lambda n, c: n["cells"].remove(c["check-90-1"]), "tampered", "right", "was deleted"),
    "exercise deleted": (
        lambda n, c: n["cells"].remove(c["ex-90-1"]), "tampered", "right", "ex-90-1 was deleted"),
    "doubled cell": (
        lambda n, c: n["cells"].append(copy.deepcopy(c["ex-90-1"])),
        "tampered", "right", "is there 2 times"),
    "moved": (move("ex-90-2", 2), "right", "tampered", "ex-90-2 was moved"),
    "no code": (
        lambda _n, c: c["ex-90-1"].update(cell_type="markdown"), "tampered", "right", "no code"),
    "leaves early": (extra("import os; os._exit(0)"), "died", "died", "not reached: cell 3"),
    "names lost": (
        lambda n, _c: [cell["metadata"].clear() for cell in n["cells"]], "right", "right", ""),
    "magics": (top("%matplotlib inline\n!ls"), "right", "right", ""),
}  # fmt: skip
FILES = {
    "not json": (b'{"cells": [', "is not JSON"),
    "empty": (b"", "is not JSON"),
    "a list": (b"[1, 2]", "is not a notebook"),
    "binary": (bytes(random.Random(0).randbytes(5000)), "is not JSON"),
    "deep": (b"[" * 200_000, "is not JSON"),
}


@pytest.fixture(scope="module")
def graded(at_course, tmp_path_factory):
    """The class, graded once → {student: {exercise: row}}, and how long it took"""
    folder = tmp_path_factory.mktemp("class")
    for name, (change, *_) in CLASS.items():
        notebook, cells = workbook()
        change(notebook, cells)
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    (folder / "blank.ipynb").write_text(json.dumps(workbook(blank=True)[0]))
    for name, (content, _) in FILES.items():
        (folder / f"{name}.ipynb").write_bytes(content)
    found = submission.find(folder)
    rows = [r for some in grading.grade(found, seed=3, limits=LIMITS, jobs=2) for r in some]
    by_student: dict = {}
    for row in rows:
        by_student.setdefault(row.student, {})[row.exercise] = row
    return by_student


@pytest.mark.parametrize("name", CLASS)
def test_each_of_the_class_gets_its_verdict(graded, name):
    _, first, second, says = CLASS[name]
    rows = graded[name]
    assert set(rows) >= {"90.1", "90.2"}
    for exercise, verdict in (("90.1", first), ("90.2", second)):
        row = rows[exercise]
        assert row.verdict == verdict or (verdict is None and row.verdict != "right"), row
        assert row.points == (row.possible if row.verdict == "right" else 0)
        assert row.possible == {"90.1": 1, "90.2": 2}[exercise]
    failed = [row for row in rows.values() if row.verdict != "right"]
    assert all(row.says for row in failed)
    assert says in " ".join(f"{row.says} {' '.join(row.details)}" for row in failed)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_notebook_fails_with_its_reason(graded, name):
    rows = graded[name]
    assert set(rows) == {"notebook", "90.1", "90.2"}
    for row in rows.values():
        assert row.points == 0 and row.verdict == "unreadable" and FILES[name][1] in row.says


def test_a_blank_is_not_attempted(graded):
    assert {row.verdict for row in graded["blank"].values()} == {"blank"}


def test_a_mistake_has_its_name_and_its_case(graded):
    row = graded["squared"]["90.1"]
    assert row.mistake == "squared"
    assert any(line.startswith("case: 1 numbers: x [1] float32") for line in row.details)


def test_an_error_shows_the_students_line(graded):
    assert "line 4 of doubled: return scale * y" in graded["stops"]["90.1"].details


def test_what_happened_to_the_notebook_is_a_row_of_its_own(graded):
    row = graded["leaves early"]["notebook"]
    assert row.verdict == "died" and row.says.startswith("cell 3: the process ended itself")


def test_a_changed_check_is_noticed(graded):
    assert graded["check edited"]["90.1"].notes == (
        "cell check-90-1 was changed; the master's was used",
    )


def test_nothing_is_left_running(graded):
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if confine.MARK.encode() in (folder / "environ").read_bytes():
                left.append(folder.name)
        except OSError:
            continue
    assert not left or os.environ.get(confine.MARK)


def one(tmp_path, change, **options):
    """Grade a single notebook → {exercise: row}"""
    notebook, cells = workbook()
    change(notebook, cells)
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(notebook))
    (rows,) = grading.grade(submission.find(path), limits=LIMITS, **options)
    return {row.exercise: row for row in rows}


def test_other_seeds_give_other_instances(tmp_path):
    cases = [one(tmp_path, body("return x"), seed=s)["90.1"].details[1] for s in (1, 1, 2)]
    assert cases[0] == cases[1] != cases[2]


def test_a_daemon_that_leaves_its_session_ends_too(tmp_path):
    told = tmp_path / "pid"
    code = f"""import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open({str(told)!r}, "w").write(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not os.path.exists({str(told)!r}): time.sleep(0.01)
    return 2 * x"""
    one(tmp_path, body(code), seed=1)
    time.sleep(0.2)
    status = Path(f"/proc/{told.read_text()}/stat")
    assert not status.exists() or ") Z " in status.read_text()


def test_submissions_see_nothing_of_the_instructor(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "open sesame")
    code = """import os
    assert not os.listdir(".") and "SECRET_KEY" not in os.environ, os.listdir(".")
    assert os.environ["HOME"] == os.getcwd()
    return 2 * x"""
    assert one(tmp_path, body(code), seed=1)["90.1"].verdict == "right"


def test_importing_the_answer_is_noted(tmp_path):
    rows = one(tmp_path, top("from minids.lab.exercises.lesson_90 import doubled"), seed=1)
    assert rows["90.1"].notes == ("cell 4 imports the library's doubled",)


def test_a_forced_lesson_and_an_unknown_one(tmp_path):
    rows = one(tmp_path, lambda *_: None, seed=1, lesson="91")
    assert rows["91.1"].verdict == "tampered"
    with pytest.raises(UserError, match="does not exist"):
        one(tmp_path, lambda *_: None, lesson="7")


# which notebooks


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


@pytest.mark.parametrize(
    ("names", "students"),
    [
        (("alice.ipynb", "bob.ipynb"), ["alice", "bob"]),
        (("90-tiny_alice.ipynb", "bob 90-tiny.ipynb"), ["alice", "bob"]),
        (("alice/90-tiny.ipynb", "bob/90-tiny.ipynb"), ["alice", "bob"]),
        (("submitted/alice/90-tiny/90-tiny.ipynb", "source/90-tiny/90-tiny.ipynb"), ["alice"]),
        (("alice/90-tiny/90-tiny.ipynb",), ["alice"]),
        (("a/.ipynb_checkpoints/x.ipynb", "b/.hidden.ipynb", "c/x.ipynb"), ["c"]),
    ],
)
def test_layouts(tmp_path, names, students):
    put(tmp_path, *names)
    found = submission.find(tmp_path)
    assert sorted(s.student for s in found) == students
    assert all((tmp_path / s.file) == s.path for s in found)


def test_a_folder_without_notebooks_is_refused(tmp_path):
    (tmp_path / "a.ipynb").mkdir()
    os.mkfifo(tmp_path / "b.ipynb")
    for path, says in ((tmp_path, "holds no notebook"), (tmp_path / "no", "does not exist")):
        with pytest.raises(UserError, match=says):
            submission.find(path)


def test_the_lesson_is_told_by_cells_then_by_names(tmp_path):
    path = tmp_path / "91-next.ipynb"
    by_file = submission.Submission("a", path, "91-next.ipynb")
    assert submission.lesson_of(by_file, workbook()[0]) == "90"
    assert submission.lesson_of(by_file, None) == "91"
    assert submission.lesson_of(submission.Submission("a", path, "a/91-next/x.ipynb"), None) == "91"
    assert submission.lesson_of(submission.Submission("a", path, "a.ipynb"), None) == ""


# which cells


def test_cells_that_an_answer_rests_on_are_needed():
    sources = [
        "import torch",
        "size = 3",
        "table = {}",
        "table['a'] = size",
        "other = table",
        "torch.manual_seed(0)",
        "from math import *",
        "size += 1",
        "def answer(x):\n    size_of = len(x)\n    return table, size_of",
        "size = 9",
    ]
    assert needed.needed(sources, {8}) == [1, 2, 3, 6, 8]


def test_local_names_of_an_answer_need_nothing():
    sources = ["x = slow()", "q = 1", "def f(x):\n    q = x\n    return [x for x in q]"]
    assert needed.needed(sources, {2}) == [2]


# what travels


def test_results_travel_unchanged():
    value = (
        [1, 2.5, float("inf"), True, None, "text", 10**30],
        {"a": torch.arange(3), 2: torch.randn(2, 3).t()},
        torch.tensor(1.5, dtype=torch.bfloat16),
        {(b"a", b"\xff"): {1, 2}, None: torch.bfloat16},
    )
    outcome = Outcome(value=value, gradients={"x": torch.ones(2)}, after={}, changed=("x",))
    tensors: dict = {}
    data = wire.dump({"o": wire.pack_outcome(outcome, (), tensors)}, tensors)
    message, found = wire.load(data)
    back = wire.unpack_outcome(message["o"], found)
    assert difference(value, back.value, Tolerance(0, 0)) is None
    assert back.changed == ("x",) and back.gradients["x"].tolist() == [1, 1]
    assert isinstance(back.value[0][3], bool) and back.value[0][6] == 10**30


@pytest.mark.parametrize("exercise", exercises.all_exercises(), ids=lambda e: e.id)
def test_every_exercise_of_the_course_is_judged_alike_from_afar(exercise):
    seed = 11
    answers = {None: exercise.reference, exercise.mistakes[0].name: exercise.mistakes[0].answer}
    for mistake, answer in answers.items():
        cases = list(exercise.cases(torch.Generator().manual_seed(seed)))
        given, tensors = [], {}
        for i, case in enumerate(cases):
            outcome = attempt(exercise, answer, case, seed + i)
            given.append(wire.pack_outcome(outcome, ("line 1",), tensors))
        message, found = wire.load(wire.dump({"outcomes": given}, tensors))
        outcomes = [wire.unpack_outcome(one, found) for one in message["outcomes"]]
        names = parameters(exercise.reference)
        verdict = Received(exercise, names, outcomes, seed).verdict()
        assert (verdict.mistake, verdict.right) == (mistake, mistake is None), verdict


def test_what_cannot_travel_equals_nothing():
    class Evil:
        def __eq__(self, _other):
            return True

    for value in (Evil(), 1j, torch.ones(2).to_sparse(), torch.ones(1, device="meta")):
        tensors: dict = {}
        back = wire.unpack(wire.pack(value, tensors), tensors)
        assert difference(torch.ones(2), back, Tolerance(1, 1)) is not None
        assert back != value or isinstance(value, Evil)


def test_errors_keep_type_and_text():
    for error in (KeyError("a"), ValueError("b"), UnicodeDecodeError("u", b"", 0, 1, "c")):
        packed = wire.pack_outcome(Outcome(error=error), ("line 1",), {})
        back = wire.unpack_outcome(packed, {}).error
        assert str(back) == str(error) and type(back).__name__ == type(error).__name__


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(8) + b"{}", bytes(7) + b"\x02{}junk", b"\xff" * 99]
)
def test_garbage_on_the_wire_is_refused(data):
    with pytest.raises(ValueError):
        wire.load(data)


# what comes out


ROWS = [
    grading.Row("=cmd()", "a.ipynb", "90", "90.1", 0, 1, "mistake", "squared", "it <b>\x00"),
    grading.Row("=cmd()", "a.ipynb", "90", "90.2", 2, 2, "right"),
    grading.Row("bob", "b.ipynb", "90", "notebook", 0, 0, "time", says="cell 3: ```"),
    grading.Row("bob", "b.ipynb", "90", "90.1", 0, 1, "mistake", "squared", details=("```", "x")),
]


def test_tables_are_read_back_and_harmless():
    read = list(csv.DictReader(io.StringIO(feedback.as_csv(ROWS))))
    assert [r["student"] for r in read] == ["'=cmd()", "'=cmd()", "bob", "bob"]
    assert read[0]["mistake"] == "squared" and read[1]["points"] == "2"
    suites = ElementTree.fromstring(feedback.as_junit(ROWS).split("\n", 1)[1])
    assert [(s.get("tests"), s.get("failures")) for s in suites] == [("2", "1"), ("2", "2")]


def test_each_student_gets_a_page_of_their_own():
    pages = feedback.pages([*ROWS, ROWS[1]._replace(student="../=cmd(")])
    assert list(pages) == ["cmd.md", "bob.md", "cmd-2.md"]
    text = pages["cmd.md"]
    assert "**2 of 3 points**" in text and "## ✗ 90.1 twice as much · 0 of 1" in text
    assert "**squared.** it \\<b\\>" in text and "Where to look: multiply" in text
    assert "````text\n```\nx\n````" in pages["bob.md"]


def test_the_class_report_counts_misconceptions():
    report = feedback.class_report(ROWS)
    first = report["exercises"][0]
    assert first["exercise"] == "90.1" and first["mistakes"] == {"squared": 2}
    assert report["notebooks"] == {"time": 1} and report["students"] == 2
    assert "| 2 | squared |" in feedback.as_markdown(report)
