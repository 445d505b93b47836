"""Token files: documents one after another, two or four bytes a token, mapped instead of read.

    header | tokens | padding to 8 bytes | offsets

Tokens `offsets[i] … offsets[i + 1]` are document i, BOS and EOS included; the last `n_held_out`
documents are the held-out ones. All numbers are little-endian. A mapped file costs no memory of its
own: the system loads the pages that are touched, and processes on one machine share them.

Opening a file reads it once: length, checksum and largest id are settled there, never at step 731.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minids.errors import UserError

MAGIC = b"minidtok"
FORMAT = 1
# magic, format, bytes per token, ids in the vocabulary, tokens, documents, held-out documents,
# sha256 of the tokenizer, of the source, crc32 of everything behind the header
HEADER = struct.Struct("<8sII QQQQ 32s32s I 4x")
CHUNK_BYTES = 1 << 24


class Shard(NamedTuple):
    """Documents as tokens, in memory or mapped."""

    tokens: np.ndarray  # all documents, uint16 or uint32
    offsets: np.ndarray  # n + 1 positions in `tokens`, int64
    n_held_out: int
    vocab_size: int
    tokenizer: str  # fingerprint
    source: str  # fingerprint of the text and of its split

    def document(self, index: int) -> np.ndarray:
        """Tokens of one document, not copied."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def n_train(self) -> int:
        """Documents before the held-out ones."""
        return len(self.offsets) - 1 - self.n_held_out


def gather(
    train: Iterable[Sequence[int]],
    held_out: Iterable[Sequence[int]],
    *,
    vocab_size: int,
    tokenizer: str,
    source: str,
) -> Shard:
    """Token lists → a Shard in memory."""
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    documents = [np.asarray(tokens, dtype) for tokens in train]
    n_train = len(documents)
    documents += [np.asarray(tokens, dtype) for tokens in held_out]
    offsets = np.cumsum([0, *(len(tokens) for tokens in documents)], dtype=np.int64)
    tokens = np.concatenate([np.empty(0, dtype), *documents])
    return Shard(tokens, offsets, len(documents) - n_train, vocab_size, tokenizer, source)


def write(path: Path, shard: Shard) -> None:
    """Write beside the target and rename, so that a file of this name is always a whole one."""
    tokens = shard.tokens.astype(shard.tokens.dtype.newbyteorder("<"), copy=False)
    parts = (tokens.data, bytes(-tokens.nbytes % 8), shard.offsets.astype("<i8").data)
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    header = HEADER.pack(
        MAGIC,
        FORMAT,
        tokens.itemsize,
        shard.vocab_size,
        len(tokens),
        len(shard.offsets) - 1,
        shard.n_held_out,
        bytes.fromhex(shard.tokenizer),
        bytes.fromhex(shard.source),
        checksum,
    )
    unfinished = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            unfinished = Path(file.name)
            for part in (header, *parts):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        if unfinished:
            unfinished.unlink(missing_ok=True)
        raise UserError(str(path), f"{error.strerror}", "a writable folder", code=1) from error


def load(path: Path) -> Shard:
    """Map a token file, after holding all of it against its header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER.size)
    except OSError as error:
        raise UserError(str(path), f"{error.strerror}", "a token file of minids") from error
    if not head.startswith(MAGIC) or len(head) < HEADER.size:
        raise UserError(f"{path}@0", f"begins with {head[:8]!r}", f"a token file, {MAGIC!r} first")
    _, version, width, vocab_size, n_tokens, n, n_held_out, tokenizer, source, checksum = (
        HEADER.unpack(head)
    )
    if version != FORMAT:
        raise UserError(f"{path}@8", f"format {version}", f"format {FORMAT}")
    if width != (2 if vocab_size <= 1 << 16 else 4):
        raise UserError(
            f"{path}@12", f"{width} bytes a token for {vocab_size} ids", "2 up to 65,536, then 4"
        )
    start = HEADER.size + n_tokens * width + -n_tokens * width % 8
    if size != start + 8 * (n + 1):
        raise UserError(
            str(path),
            f"{size:,} bytes; its header announces {n_tokens:,} tokens in {n:,} documents",
            f"{start + 8 * (n + 1):,} bytes",
            hint="the file was cut short or is still being copied",
        )
    mapped = np.memmap(path, np.uint8, "r")
    tokens = mapped[HEADER.size : HEADER.size + n_tokens * width].view(f"<u{width}")
    offsets = mapped[start:].view("<i8")
    if checksum != crc32(mapped[HEADER.size :]):
        raise UserError(str(path), "its bytes do not match its checksum", "an unchanged file")
    for at, part in chunks(tokens):
        if len(part) and part.max() >= vocab_size:
            place = at + int(np.argmax(part >= vocab_size))
            raise UserError(
                f"{path}@{HEADER.size + place * width}",
                f"id {tokens[place]} of {vocab_size} ids",
                f"0 … {vocab_size - 1}",
            )
    borders = offsets[0] == 0 and offsets[-1] == n_tokens and (np.diff(offsets) >= 0).all()
    if not borders or n_held_out > n:
        raise UserError(f"{path}@{start}", "document borders out of order", "rising offsets")
    return Shard(tokens, offsets, n_held_out, vocab_size, tokenizer.hex(), source.hex())


def crc32(data: np.ndarray) -> int:
    """Checksum of mapped bytes, a chunk at a time."""
    value = 0
    for _, part in chunks(data):
        value = zlib.crc32(part.data, value)
    return value


def chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive parts with their first index."""
    for at in range(0, len(array), CHUNK_BYTES):
        yield at, array[at : at + CHUNK_BYTES]
