"""A corpus as tokens, some of its documents held out.

Which ones is decided by a hash of their text: no order of files changes it, and two copies of a
text cannot end up on both sides, where the one learned would be the other's answer.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from minids.config import DataConfig
from minids.data.shards import Shard, gather
from minids.data.text import Corpus
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError


def tokenize(corpus: Corpus, source: str, tokenizer: Tokenizer, cfg: DataConfig) -> Shard:
    """Every document as tokens, the held-out ones last."""
    documents = (document for document in corpus.documents() if document)
    first, second = next(documents, None), next(documents, None)
    if first is None:
        raise UserError("data", f"{corpus.name} holds no text", "at least one document")
    if second is None:
        parts = cut_by_position(first, cfg.held_out)
    else:
        parts = itertools.chain((first, second), documents)
    encoded, keys = [], []
    for document in parts:
        ids = [tokenizer.bos, *tokenizer.encode(document), tokenizer.eos]
        encoded.append(np.array(ids, np.uint32))
        keys.append(key_of(document, cfg.seed))
    held_out = [False, True] if second is None else choose_held_out(keys, cfg.held_out)
    if all(held_out):
        raise UserError(
            "data",
            f"all {len(keys)} documents of {corpus.name} are the same text",
            "at least two different ones, or one long one",
        )
    return gather(
        (ids for ids, held in zip(encoded, held_out, strict=True) if not held),
        (ids for ids, held in zip(encoded, held_out, strict=True) if held),
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.fingerprint,
        source=source,
    )


def cut_by_position(document: str, share: float) -> tuple[str, str]:
    """A single text: the last `share` of its characters is held out."""
    border = int(len(document) * (1 - share))
    return document[:border], document[border:]


def choose_held_out(keys: Sequence[int], share: float) -> list[bool]:
    """The documents with the smallest keys, at least one. Equal texts have equal keys: one side."""
    border = sorted(keys)[max(1, round(share * len(keys))) - 1]
    return [key <= border for key in keys]


def key_of(document: str, seed: int) -> int:
    """64 bits that look random and depend on the text and the seed only."""
    salt = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8, key=salt).digest())
