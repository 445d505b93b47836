"""From a config to data: which tokenizer, which documents are held out, what training reads.

`open_data` checks everything and writes nothing, so a mistake ends a run before it has a folder.
Tales are generated when their turn comes; every other text is turned into tokens here, once:
`Data.save` puts them beside the run, where a resumed run and other workers map them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

from minids.config import RunConfig
from minids.data import shards, tales, text
from minids.data.batches import Ahead, Batches, ShardSource, Source
from minids.data.generated import TalesSource
from minids.data.shards import Shard
from minids.data.split import tokenize
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError

TOKENS = "tokens.shard"
TOKENIZER = "tokenizer"
HELD_OUT_TALES = 1_000  # at most: they are made at the start, and 1,000 settle a mean to 1 %
VOCABULARY_TALES = 4_000
VOCABULARY_CHARACTERS = 2_000_000  # read to learn a vocabulary; more changes little


class Document(NamedTuple):
    """A held-out document."""

    text: str
    tokens: list[int]  # BOS … EOS
    n_bytes: int  # of the text
    floor_bits: float | None  # exact -log2 of its probability, where that is known


class HeldOut(Sequence[Document]):
    """The held-out documents of a shard, decoded when asked for."""

    def __init__(self, shard: Shard, tokenizer: Tokenizer) -> None:
        self.shard, self.tokenizer = shard, tokenizer

    def __len__(self) -> int:
        return self.shard.n_held_out

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # negative and too large ones as in a list
        tokens = self.shard.document(self.shard.n_train + place).tolist()
        raw = self.tokenizer.decode_bytes(tokens)
        return Document(raw.decode(), tokens, len(raw), None)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Everything a run reads. `cfg` is the run's config with the vocabulary size it really has."""

    cfg: RunConfig
    name: str
    tokenizer: Tokenizer
    held_out: Sequence[Document]
    floor_bits: float | None  # exact Σ -log2 p of the held-out documents
    fingerprint: str
    n_train: int  # documents
    shard: Shard | None  # None: generated
    source: Callable[[], Source]

    def train(
        self, *, rank: int = 0, world: int = 1, batch_size: int | None = None, ahead: bool = False
    ) -> Batches | Ahead:
        """The training batches from their beginning; `batch_size` counts the rows of all ranks.

        ahead: make the next batch while the trainer waits for its device. The batches are the same.
        """
        batches = Batches(
            self.source(),
            batch_size=batch_size or self.cfg.train.batch_size,
            context=self.cfg.data.context,
            pad=self.tokenizer.pad,
            rank=rank,
            world=world,
        )
        return Ahead(batches) if ahead else batches

    def save(self, folder: Path) -> None:
        """Write the tokenizer, and the tokens unless they are generated."""
        self.tokenizer.save(folder / TOKENIZER)
        if self.shard:
            shards.write(folder / TOKENS, self.shard)

    def describe(self) -> dict[str, Any]:
        """What `minids data show` shows; bytes per token are those of held-out text."""
        sample = self.held_out[:200]
        n_bytes = sum(d.n_bytes for d in sample)
        n_tokens = sum(len(d.tokens) - 2 for d in sample)  # without BOS and EOS
        floor = self.floor_bits and self.floor_bits / sum(d.n_bytes for d in self.held_out)
        return {
            "name": self.name,
            "train_documents": self.n_train,
            "held_out_documents": len(self.held_out),
            "train_tokens": int(self.shard.offsets[self.n_train]) if self.shard else None,
            "tokens_per_document": sum(len(d.tokens) for d in sample) / len(sample),
            "tokenizer": self.tokenizer.kind,
            "vocab_size": self.tokenizer.vocab_size,
            "bytes_per_token": n_bytes / max(1, n_tokens),
            "floor_bits_per_byte": floor,
            "fingerprint": self.fingerprint,
            "example": sample[0].text,
        }


def open_data(cfg: RunConfig, folder: Path | None = None) -> Data:
    """The data of a run. `folder` is a run folder that `Data.save` may have filled before.

    Raises UserError for everything that is wrong with the data, before anything is written.
    """
    if cfg.data.name == "tales":
        return open_tales(cfg, folder)
    prepared = Path(cfg.data.path)
    if cfg.data.path and (prepared / TOKENS).is_file():
        tokenizer = Tokenizer.load(prepared / TOKENIZER)
        return from_shard(cfg, prepared.name, tokenizer, shards.load(prepared / TOKENS))
    corpus = text.read(cfg.data)
    tokenizer = choose_tokenizer(cfg, corpus.documents, folder)
    source = digest(corpus.fingerprint, cfg.data.held_out, cfg.data.seed)
    if folder and (folder / TOKENS).is_file():
        shard = shards.load(folder / TOKENS)
        if (shard.source, shard.tokenizer) == (source, tokenizer.fingerprint):
            return from_shard(cfg, corpus.name, tokenizer, shard)
    return from_shard(cfg, corpus.name, tokenizer, tokenize(corpus, source, tokenizer, cfg.data))


def open_tales(cfg: RunConfig, folder: Path | None) -> Data:
    """Held-out tales with their exact probabilities, and a source that makes the others.

    The first documents of the seed are the held-out ones; training begins behind them.
    """
    n, seed = cfg.data.documents, cfg.data.seed
    n_held_out = min(HELD_OUT_TALES, max(1, round(n * cfg.data.held_out)))

    def texts() -> Iterator[str]:
        yield string.printable  # so that no tale to come has an unknown character
        enough = min(VOCABULARY_TALES, n - n_held_out)
        yield from (tale.text for tale in tales.generate(seed, enough, start=n_held_out))

    tokenizer = choose_tokenizer(cfg, texts, folder)
    held_out = []
    for tale in tales.generate(seed, n_held_out):
        tokens = [tokenizer.bos, *tokenizer.encode(tale.text), tokenizer.eos]
        held_out.append(Document(tale.text, tokens, len(tale.text.encode()), -tale.log2_prob))
    known = {document.text for document in held_out}
    return Data(
        cfg=fitted(cfg, tokenizer),
        name="tales",
        tokenizer=tokenizer,
        held_out=held_out,
        floor_bits=sum(document.floor_bits for document in held_out),
        fingerprint=digest(n, seed, tokenizer.fingerprint, *(d.text for d in held_out)),
        n_train=n - n_held_out,
        shard=None,
        source=lambda: TalesSource(
            range(n_held_out, n),
            known,
            tokenizer,
            context=cfg.data.context,
            tales_seed=seed,
            order_seed=cfg.train.seed,
        ),
    )


def from_shard(cfg: RunConfig, name: str, tokenizer: Tokenizer, shard: Shard) -> Data:
    """Data whose tokens are known."""
    if shard.tokenizer != tokenizer.fingerprint:
        raise UserError(
            TOKENS, "written with another tokenizer than the one beside it", "a matching pair"
        )
    n_tokens = len(shard.tokens) - 2 * (len(shard.offsets) - 1)  # without BOS and EOS
    if n_tokens < cfg.data.context + 1:
        raise UserError(
            "data",
            f"{n_tokens:,} tokens in {name}, needs ≥ {cfg.data.context + 1:,}",
            "more text than one training sequence",
            hint="data.context shortens it, data.tokenizer=byte makes more tokens of a text",
        )
    return Data(
        cfg=fitted(cfg, tokenizer),
        name=name,
        tokenizer=tokenizer,
        held_out=HeldOut(shard, tokenizer),
        floor_bits=None,
        fingerprint=digest(shard.source, tokenizer.fingerprint),
        n_train=shard.n_train,
        shard=shard,
        source=lambda: ShardSource(shard, cfg.data.context, cfg.train.seed),
    )


def choose_tokenizer(
    cfg: RunConfig, texts: Callable[[], Iterable[str]], folder: Path | None
) -> Tokenizer:
    """The run's own where it has one; else as `data.tokenizer` says."""
    if folder and (folder / TOKENIZER).is_dir():
        return Tokenizer.load(folder / TOKENIZER)
    wanted = cfg.data.tokenizer
    if wanted == "auto":
        wanted = "tales" if cfg.data.name == "tales" else "bpe"
    if wanted == "byte":
        return Tokenizer.of_bytes()
    if wanted == "char":
        return Tokenizer.of_characters(texts())
    if wanted == "bpe":
        return Tokenizer.train(beginning(texts(), VOCABULARY_CHARACTERS), cfg.model.vocab_size)
    if wanted == "tales":
        return Tokenizer.shipped("tales")
    if not Path(wanted).is_dir():
        raise UserError(
            "data.tokenizer",
            f"{wanted!r} is neither a kind nor a folder",
            "auto, tales, byte, char, bpe, a tokenizer folder",
        )
    return Tokenizer.load(Path(wanted))


def beginning(texts: Iterable[str], n: int) -> Iterator[str]:
    """The first n characters, document by document."""
    for document in texts:
        yield document[:n]
        n -= len(document)
        if n <= 0:
            return


def fitted(cfg: RunConfig, tokenizer: Tokenizer) -> RunConfig:
    """The config with the tokenizer's vocabulary size; one named by folder must match as it is."""
    size = tokenizer.vocab_size
    by_folder = cfg.data.tokenizer not in ("auto", "tales", "byte", "char", "bpe")
    if by_folder and size != cfg.model.vocab_size:
        raise UserError(
            "model.vocab_size",
            f"{cfg.model.vocab_size}, but {cfg.data.tokenizer} has {size} tokens",
            f"{size}",
            hint=f"--set model.vocab_size={size}",
        )
    return dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, vocab_size=size))


def digest(*parts: object) -> str:
    """sha256 of the parts, in order."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
