"""The file of a student: written at once, found where it should be, never lost."""

import json

import pytest

from minids.lab import progress


def stored(folder):
    return json.loads((folder / progress.NAME).read_text(encoding="utf-8"))


def test_attempts_mistakes_and_the_first_success_are_counted(student):
    progress.checked("07.1", "blank", None)
    assert not (student / progress.NAME).exists()
    progress.checked("07.1", "mistake", "no mask at all")
    progress.checked("07.1", "mistake", "no mask at all")
    progress.checked("07.1", "right", None)
    first = stored(student)["exercises"]["07.1"]
    assert first["attempts"] == 3 and first["mistakes"] == {"no mask at all": 2} and first["right"]
    progress.checked("07.1", "different", None)
    assert stored(student)["exercises"]["07.1"]["right"] == first["right"]


def test_the_folder_with_the_marker_then_the_variable_then_here(student, monkeypatch):
    assert progress.folder() == student
    monkeypatch.setenv("MINIDS_LAB_HOME", str(student / "home"))
    assert progress.folder() == student / "home"
    (student / progress.MARKER).touch()
    (student / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(student / "a" / "b")
    assert progress.folder() == student


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"\xff\xfe\x00",
        b'{"exercises": 3}',
        b'{"exercises": {"07.1": 3}}',
        b"null",
    ],
)
def test_a_broken_file_is_set_aside_and_said_once(student, content):
    path = student / progress.NAME
    path.write_bytes(content)
    assert progress.load() == {}
    assert (student / "progress-broken-1.json").read_bytes() == content and not path.exists()
    assert len(progress.warnings) == 1 and "progress-broken-1.json" in progress.warnings[0]
    path.write_bytes(content)
    progress.checked("07.1", "right", None)
    assert (student / "progress-broken-2.json").read_bytes() == content
    assert stored(student)["exercises"]["07.1"]["attempts"] == 1


def test_what_others_wrote_meanwhile_and_unknown_parts_are_kept(student):
    progress.checked("07.1", "right", None)
    whole = stored(student) | {"later version": [1]}
    whole["exercises"]["03.1"] = {"attempts": 5}
    (student / progress.NAME).write_text(json.dumps(whole), encoding="utf-8")
    progress.checked("07.2", "different", None)
    after = stored(student)
    assert after["later version"] == [1] and set(after["exercises"]) == {"03.1", "07.1", "07.2"}
    assert list(student.iterdir()) == [student / progress.NAME]  # nothing left beside it


def test_automatic_runs_leave_no_trace_but_remember(student, monkeypatch):
    monkeypatch.setenv("MINIDS_FAST", "1")
    progress.checked("07.1", "right", None)
    assert progress.entry("exercises", "07.1")["attempts"] == 1
    assert list(student.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_and_the_session_remembers(student, monkeypatch):
    place = student / "missing"
    monkeypatch.setenv("MINIDS_LAB_HOME", str(place))
    progress.checked("07.1", "right", None)
    progress.checked("07.1", "right", None)
    assert progress.entry("exercises", "07.1")["attempts"] == 2
    assert len(progress.warnings) == 1 and "is not stored" in progress.warnings[0]


def test_a_folder_in_place_of_the_file_is_no_end(student):
    (student / progress.NAME).mkdir()
    progress.checked("07.1", "right", None)
    progress.checked("07.1", "right", None)
    assert progress.entry("exercises", "07.1")["attempts"] == 2
    assert any("is not stored" in warning for warning in progress.warnings)
