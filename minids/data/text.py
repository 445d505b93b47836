"""Where text comes from: files and folders, the running Python's own library, the hub.

Each source is a Corpus: a name, a fingerprint of its content, and documents that can be read again
from the start. Whatever a file holds that is not text is reported by file, line and reason.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from minids.config import DataConfig
from minids.errors import UserError

PLAIN = {".txt", ".text", ".md", ".rst", ".tex", ".log", ".csv", ".html", ".xml", ".toml", ".yaml"}
PLAIN |= {
    ".yml",
    ".py",
    ".js",
    ".ts",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".hpp",
    ".rs",
    ".go",
    ".java",
    ".sh",
}
ROWS = {".jsonl", ".ndjson", ".parquet"}


class Corpus(NamedTuple):
    """Documents and what identifies them."""

    name: str
    fingerprint: str
    documents: Callable[[], Iterator[str]]  # a new pass over all of them


def read(cfg: DataConfig) -> Corpus:
    """The corpus a config names, `tales` excepted: those are generated."""
    if cfg.name == "stdlib":
        return stdlib()
    if cfg.name.startswith("hf:"):
        return hub(cfg.name.removeprefix("hf:"), cfg.text_field, cfg.documents)
    return local(Path(cfg.path), cfg.text_field)


# Files


def local(path: Path, field: str) -> Corpus:
    """A file or a folder: plain text is one document a file, JSONL and parquet one a row.

    In a folder the order is that of the hashed names, so that the beginning stands for the whole.
    """
    try:
        files = find_files(path)
        digest = hashlib.sha256(field.encode())
        for file in files:
            name = file.relative_to(path).as_posix() if file != path else file.suffix
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"\n{name} {content}".encode())
    except OSError as error:
        raise UserError(
            str(error.filename or path), f"{error.strerror}", "readable files"
        ) from error

    def documents() -> Iterator[str]:
        for file in files:
            try:
                yield from reader_of(file, field)
            except OSError as error:
                raise UserError(str(file), f"{error.strerror}", "a readable file") from error

    return Corpus(path.name, digest.hexdigest(), documents)


def find_files(path: Path) -> list[Path]:
    """The text files behind a path, hidden ones and empty ones in folders left out."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise UserError("data.path", f"{path} {what}", "a file or folder")
    files = [
        file
        for file in path.rglob("*")
        if file.suffix.lower() in PLAIN | ROWS
        and file.is_file()
        and file.stat().st_size
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not files:
        known = " ".join(sorted(PLAIN | ROWS))
        raise UserError("data.path", f"no text in {path}", f"files that end in {known}")
    return sorted(files, key=lambda file: sha256(file.relative_to(path).as_posix()))


def reader_of(file: Path, field: str) -> Iterator[str]:
    """The documents of one file, by its suffix."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return parquet_rows(file, field)
    return json_lines(file, field) if suffix in ROWS else iter([plain(file)])


def plain(file: Path) -> str:
    """A whole file as text: UTF-8 with or without a byte order mark, line ends as \\n."""
    raw = file.read_bytes()
    if not raw:
        raise UserError(str(file), "is empty", "text")
    return decode(raw, str(file)).replace("\r\n", "\n").replace("\r", "\n")


def decode(raw: bytes, where: str) -> str:
    """UTF-8 bytes as text; anything else is named with its place."""
    if (zero := raw.find(b"\0")) >= 0:
        hint = "UTF-16? save it as UTF-8" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(where, f"binary: a zero byte at offset {zero}", "UTF-8 text", hint=hint)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        what = f"byte 0x{raw[at]:02x} at offset {at} is not UTF-8"
        raise UserError(where, what, "UTF-8 text") from error


def json_lines(file: Path, field: str) -> Iterator[str]:
    """The text field of every line; blank lines are skipped."""
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            where = f"{file}:{number}"
            line = decode(raw, where).strip()
            if not line:
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                what = f"{error.msg} at column {error.colno}"
                raise UserError(where, what, "a JSON object a line") from error
            except RecursionError as error:
                raise UserError(where, "nested too deep", "a JSON object a line") from error
            yield text_of(row, field, where)


def text_of(row: Any, field: str, where: str) -> str:
    """The text of one record."""
    if not isinstance(row, dict):
        raise UserError(where, f"a {type(row).__name__} instead of an object", "a JSON object")
    if field not in row:
        hint = "data.text_field names the column"
        raise UserError(where, f"no field {field!r}", ", ".join(map(str, row)), hint=hint)
    if not isinstance(row[field], str):
        what = f"field {field!r} holds a {type(row[field]).__name__}"
        raise UserError(where, what, "text")
    try:
        row[field].encode()
    except UnicodeEncodeError as error:
        what = f"field {field!r}: half a surrogate pair at character {error.start}"
        raise UserError(where, what, "Unicode text") from error
    return row[field]


def parquet_rows(file: Path, field: str) -> Iterator[str]:
    """The text column of a parquet file, a batch of rows in memory at a time."""
    parquet = optional("pyarrow.parquet")
    try:
        table = parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise UserError(str(file), f"not a parquet file: {error}", "parquet") from error
    if field not in table.schema_arrow.names:
        hint = "data.text_field names the column"
        columns = ", ".join(table.schema_arrow.names)
        raise UserError(str(file), f"no column {field!r}", columns, hint=hint)
    rows = (row for batch in table.iter_batches(columns=[field]) for row in batch.to_pylist())
    for number, row in enumerate(rows, 1):
        yield text_of(row, field, f"{file}:{number}")


# The library of the running Python

NOT_PROSE = {"test", "idlelib", "lib2to3", "encodings", "turtledemo", "pydoc_data", "site-packages"}


def stdlib() -> Corpus:
    """What every Python carries: its documentation topics and the sources of its library.

    Nothing to download, but another version of Python has other text: see the fingerprint.
    """
    topics = importlib.import_module("pydoc_data.topics").topics
    root = Path(os.__file__).parent
    packages = [p for p in root.iterdir() if p.is_dir() and p.name not in NOT_PROSE]
    sources = [*root.glob("*.py"), *(file for p in packages for file in p.rglob("*.py"))]
    sources = [file for file in sources if "tests" not in file.parts and file.stat().st_size]
    sources.sort(key=lambda file: sha256(file.relative_to(root).as_posix()))
    texts = [*(topics[name] for name in sorted(topics)), *map(plain, sources)]
    return Corpus("stdlib", sha256("\0".join(texts)), lambda: iter(texts))


# The hub


def hub(spec: str, field: str, n: int) -> Corpus:
    """The first n rows of a data set: `NAME` or `NAME:SPLIT`, also a local folder of one.

    Streamed: nothing is stored but tokens. The fingerprint is that of the request; whether the hub
    still serves the same rows is not known without reading them.
    """
    name, colon, split = spec.rpartition(":")
    if not colon or "/" in split or "\\" in split:  # a path has its own colons
        name, split = spec, "train"

    def documents() -> Iterator[str]:
        datasets = optional("datasets")
        try:
            rows = iter(datasets.load_dataset(name, split=split, streaming=True))
            for number, row in enumerate(itertools.islice(rows, n), 1):
                yield text_of(row, field, f"hf:{spec} row {number}")
        except UserError:
            raise
        except Exception as error:  # the library raises whatever its many parts raise
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"hf:{spec}", what, "a data set this machine can reach") from error

    return Corpus(f"hf:{spec}", sha256(f"hf {name} {split} {field} {n}"), documents)


def optional(module: str) -> ModuleType:
    """A package that is not among the base dependencies."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        hint = 'pip install "minids[data]"'
        raise UserError("data", f"needs the package {package}", package, hint=hint) from error


def sha256(text: str) -> str:
    """Hexadecimal digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
