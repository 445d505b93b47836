"""Text ↔ token ids, and the folder that keeps a vocabulary.

A vocabulary is a list of byte strings: id = index. Three kinds differ only in how it came about:
`byte` has the 256 bytes, `bpe` adds learned merges, `char` has the characters of one text.
Special tokens follow at the end. No text encodes to them, whatever it spells: they enter a
sequence by id only, so nobody can type an end of turn.

The folder holds the vocabulary three times: `ranks.tiktoken` is what we read back,
`tokenizer.json` and `tokenizer_config.json` are for `tokenizers` and `transformers`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tiktoken

from minids.data import bpe
from minids.data.hf_layout import tokenizer_config, tokenizer_json
from minids.errors import UserError

ROLES = ["<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>"]
REASONING = ["<think>", "</think>", "<answer>", "</answer>"]
SPECIALS = [*ROLES, *REASONING, *(f"<|reserved_{i}|>" for i in range(7))]

SHIPPED = Path(__file__).parent / "tokenizers"


class Tokenizer:
    """One vocabulary. `encode` and `decode` are inverse for every text; `fingerprint` names it."""

    def __init__(self, kind: str, tokens: Sequence[bytes], pattern: str = bpe.PIECE) -> None:
        self.kind, self.tokens, self.pattern = kind, list(tokens), pattern
        self.specials = {name: len(self.tokens) + i for i, name in enumerate(SPECIALS)}
        self.vocab_size = len(self.tokens) + len(SPECIALS)
        self.bos, self.eos, self.pad = (self.specials[name] for name in SPECIALS[:3])
        self.fingerprint = hashlib.sha256(
            json.dumps([kind, pattern, ranks_text(self.tokens), SPECIALS]).encode()
        ).hexdigest()
        ranks = {token: rank for rank, token in enumerate(self.tokens)}
        if kind == "char":
            self._id_of = {token.decode(): rank for token, rank in ranks.items()}
        else:
            self._id_of = {}
            self._encoding = tiktoken.Encoding(
                kind, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
            )

    @classmethod
    def of_bytes(cls) -> Tokenizer:
        """Every byte a token."""
        return cls("byte", bpe.BYTES)

    @classmethod
    def of_characters(cls, texts: Iterable[str]) -> Tokenizer:
        """Every character of the texts a token, in the order of their code points."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("char", [c.encode() for c in sorted(characters)])

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Byte-pair encoding with at most `vocab_size` ids, special tokens included."""
        least = len(bpe.BYTES) + len(SPECIALS)
        if vocab_size < least:
            raise UserError(
                "model.vocab_size",
                f"{vocab_size} ids hold neither all bytes nor the {len(SPECIALS)} special tokens",
                f"{least} and more",
                hint="data.tokenizer=char is smaller",
            )
        return cls("bpe", bpe.train(texts, vocab_size - len(SPECIALS)))

    @classmethod
    def shipped(cls, name: str) -> Tokenizer:
        """One that comes with the package."""
        if not (SHIPPED / name / "ranks.tiktoken").is_file():
            names = sorted(p.parent.name for p in SHIPPED.glob("*/ranks.tiktoken"))
            raise UserError("data.tokenizer", f"no {name!r} is shipped", ", ".join(names))
        return cls.load(SHIPPED / name)

    def encode(self, text: str) -> list[int]:
        """Text → ids, never special ones. Raises UserError for a character that has no token."""
        try:
            text.encode()
            if self.kind == "char":
                return [self._id_of[c] for c in text]
        except UnicodeEncodeError as error:
            raise UserError(
                "text", f"half a surrogate pair at character {error.start}", "Unicode text"
            ) from error
        except KeyError as error:
            c = error.args[0]
            raise UserError(
                "text",
                f"{c!r} at character {text.index(c)} is not in the vocabulary",
                f"the {len(self.tokens)} characters of the training text",
                hint="data.tokenizer=byte or bpe knows every text",
            ) from None
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """Ids → text. Special tokens are left out, or spelled by their names."""
        if not specials:
            return self.decode_bytes(ids).decode(errors="replace")
        spelled = (self._spelling(i) for i in ids)
        return b"".join(spelled).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids → the bytes of the text; a token may end inside a character."""
        return b"".join(self.tokens[i] for i in ids if i < len(self.tokens))

    def n_bytes(self, ids: Iterable[int]) -> int:
        """Bytes of text behind the ids, for bits per byte; special tokens have none."""
        return sum(len(self.tokens[i]) for i in ids if i < len(self.tokens))

    def _spelling(self, token: int) -> bytes:
        is_text = token < len(self.tokens)
        return self.tokens[token] if is_text else SPECIALS[token - len(self.tokens)].encode()

    def save(self, folder: Path) -> None:
        """Write the three files; existing ones are replaced."""
        files = {
            "ranks.tiktoken": ranks_text(self.tokens),
            "tokenizer.json": json.dumps(tokenizer_json(self), ensure_ascii=False, indent=1) + "\n",
            "tokenizer_config.json": json.dumps(tokenizer_config(self), indent=1) + "\n",
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise UserError(
                str(folder), f"{error.strerror}", "a writable folder", code=1
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a folder that `save` wrote; everything is checked before tiktoken sees it."""
        ranks, config = folder / "ranks.tiktoken", folder / "tokenizer_config.json"
        for path in (ranks, config):
            if not path.is_file():
                raise UserError(str(path), "no such file", "a tokenizer folder of minids")
        try:
            ours = json.loads(config.read_text(encoding="utf-8"))["minids"]
            kind, pattern = ours["kind"], ours["pattern"]
            known = kind in ("bpe", "byte", "char") and isinstance(pattern, str)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            known = False
        if not known:
            raise UserError(str(config), "not written by minids", "a tokenizer folder of minids")
        tokens = read_ranks(ranks)
        # A missing byte would end in a panic inside tiktoken, which no `except Exception` catches.
        if kind != "char" and (missing := set(bpe.BYTES) - set(tokens)):
            raise UserError(str(ranks), f"{len(missing)} of the 256 bytes are missing", "all bytes")
        return cls(kind, tokens, pattern)


def ranks_text(tokens: Sequence[bytes]) -> str:
    """tiktoken's file format: a line per token, its bytes in base64 and its rank."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))
    return "".join(lines)


def read_ranks(path: Path) -> list[bytes]:
    """The tokens of a rank file, each line checked.

    Our own reader: tiktoken's keeps a copy by path name and would serve yesterday's file.
    """
    tokens: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines()):
        try:
            code, rank = line.split()
            token = base64.b64decode(code, validate=True)
            if int(rank) != number or not token or token in tokens:
                raise ValueError
        except (ValueError, binascii.Error) as error:
            raise UserError(
                f"{path}:{number + 1}",
                f"{line[:40].decode(errors='replace')!r} is not the next token",
                f"base64 bytes not seen before, a blank, {number}",
            ) from error
        tokens[token] = number
    return list(tokens)
