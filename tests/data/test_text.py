"""Corpora: what is read from files, and what is said about files that hold no text."""

import json
import os
import zlib

import pytest

from minids.config import DataConfig
from minids.data import text
from minids.errors import UserError


def documents(path, **fields) -> list[str]:
    return list(text.read(DataConfig(name="text", path=str(path), **fields)).documents())


def reason(path, **fields) -> UserError:
    with pytest.raises(UserError) as caught:
        documents(path, **fields)
    assert caught.value.code == 2
    return caught.value


def test_a_text_file_is_one_document_without_mark_and_carriage_returns(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert documents(tmp_path / "a.txt") == ["one\ntwo\nthree\n"]


def test_a_file_without_suffix_is_plain_text(tmp_path):
    (tmp_path / "book").write_text("words")
    assert documents(tmp_path / "book") == ["words"]


def test_a_folder_gives_every_known_file_once_and_no_hidden_or_empty_one(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "folder.txt").mkdir()
    for name in ("a.txt", "b.md", "sub/c.py", ".d.txt", ".git/e.txt", "f.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"text": "g"}\n')
    assert sorted(documents(tmp_path)) == ["a.txt", "b.md", "g", "sub/c.py"]
    assert documents(tmp_path) == documents(tmp_path)


def test_json_lines_give_the_field_asked_for(tmp_path):
    rows = tmp_path / "a.jsonl"
    rows.write_bytes(
        b'\xef\xbb\xbf{"text": "one", "body": "eins"}\r\n\r\n{"text": "two\\u00e9", "body": ""}'
    )
    assert documents(rows) == ["one", "twoé"]
    assert documents(rows, text_field="body") == ["eins", ""]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "Expecting property name"),
        ('{"text": 3}', "field 'text' holds a int"),
        ('{"text": null}', "NoneType"),
        ('{"body": "x"}', "no field 'text'"),
        ('["x"]', "a list instead of an object"),
        ('{"text": "\\ud800"}', "surrogate"),
        ('{"text": "a\tb"}', "Invalid control character"),
        ('{"text": ' + "[" * 100_000, "nested too deep"),
    ],
)
def test_a_bad_json_line_is_named_with_file_and_line(tmp_path, line, what):
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "fine"}\n' * 16 + line + '\n{"text": "fine"}\n')
    error = reason(rows)
    assert error.where == f"{rows}:17"
    assert what in error.what


def test_binary_json_lines_are_named_with_file_and_line(tmp_path):
    rows = tmp_path / "a.jsonl"
    rows.write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    assert reason(rows).where == f"{rows}:2"
    rows.write_bytes(b'{"text": "fine"}\n\n{"text": "\x00"}\n')
    assert reason(rows).where == f"{rows}:3"


def test_a_line_of_ten_megabytes_is_read(tmp_path):
    rows = tmp_path / "a.jsonl"
    rows.write_text(json.dumps({"text": "x" * 10_000_000}))
    assert len(documents(rows)[0]) == 10_000_000


def test_missing_and_empty_files_and_folders_are_named(tmp_path):
    assert "does not exist" in reason(tmp_path / "nowhere").what
    assert "no text in" in reason(tmp_path).what
    (tmp_path / "a.txt").write_bytes(b"")
    assert "is empty" in reason(tmp_path / "a.txt").what
    assert "no text in" in reason(tmp_path).what


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert "neither a file nor a folder" in reason(tmp_path / "pipe.txt").what
    assert "no text in" in reason(tmp_path).what


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"text\x00more", "zero byte at offset 4"),
        (zlib.compress(b"text" * 99) + b"\x00", "zero byte at offset"),
        (b"caf\xe9 noir", "byte 0xe9 at offset 3 is not UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 0xe9 at offset 6 is not UTF-8"),
        (b"abc\xf0\x9f", "byte 0xf0 at offset 3 is not UTF-8"),
    ],
)
def test_binary_and_foreign_encodings_are_named_with_their_offset(tmp_path, raw, what):
    (tmp_path / "a.txt").write_bytes(raw)
    assert what in reason(tmp_path / "a.txt").what


def test_utf16_gets_a_hint(tmp_path):
    (tmp_path / "a.txt").write_text("hello", encoding="utf-16")
    assert "UTF-16" in reason(tmp_path / "a.txt").hint


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    def fingerprint():
        return text.read(DataConfig(name="text", path=str(tmp_path))).fingerprint

    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    before = fingerprint()
    os.utime(tmp_path / "a.txt", (0, 0))
    assert fingerprint() == before
    (tmp_path / "a.txt").write_text("onE")
    assert fingerprint() != before


def test_parquet_gives_its_column(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", "two"], "n": [1, 2]}), file)
    assert documents(file) == ["one", "two"]
    assert "no column 'body'" in reason(file, text_field="body").what
    assert "holds a int" in reason(file, text_field="n").what
    file.write_bytes(b"PAR1 not really")
    assert "not a parquet file" in reason(file).what


def test_stdlib_is_text_of_the_running_python_and_the_same_twice():
    corpus, again = (text.read(DataConfig(name="stdlib")) for _ in range(2))
    found = list(corpus.documents())
    assert len(found) > 300 and sum(map(len, found)) > 2_000_000
    assert any("def dataclass" in document for document in found)
    assert corpus.fingerprint == again.fingerprint
    assert found == list(again.documents())


def test_a_data_set_folder_streams_through_datasets(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split in ("train", "validation"):
        lines = (json.dumps({"text": f"{split} {i}"}) for i in range(20))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    corpus = text.read(DataConfig(name=f"hf:{tmp_path}", documents=12))
    assert list(corpus.documents()) == [f"train {i}" for i in range(12)]
    corpus = text.read(DataConfig(name=f"hf:{tmp_path}:validation", documents=12))
    assert next(corpus.documents()) == "validation 0"
    wrong = text.read(DataConfig(name=f"hf:{tmp_path}:dreams", documents=12))
    with pytest.raises(UserError, match="dreams"):
        next(wrong.documents())


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it():
    with pytest.raises(UserError, match="needs the package") as caught:
        text.optional("no_such_package_here")
    assert "minids[data]" in caught.value.hint
