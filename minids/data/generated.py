"""Generated documents as training data: made when their turn comes, never all at once.

Document i depends on the seed and on i alone, so a start needs nothing made before it, a resumed
run makes again exactly what waited, and nothing is stored. In the first epoch the documents come
in the order of their numbers (they are independent draws: no order is more random) and each is new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from minids.data import tales
from minids.data.batches import shuffled
from minids.data.packing import Piece, cut
from minids.data.tokenizer import Tokenizer


class TalesSource:
    """Tales of one seed, as pieces; a text that is also in `held_out` is passed over."""

    def __init__(
        self,
        documents: range,
        held_out: Collection[str],
        tokenizer: Tokenizer,
        *,
        context: int,
        tales_seed: int,
        order_seed: int,
    ) -> None:
        self.documents, self.held_out, self.tokenizer = documents, held_out, tokenizer
        self.context, self.tales_seed, self.order_seed = context, tales_seed, order_seed
        self.fingerprint = (
            f"tales {tales_seed} {documents.start}-{documents.stop} {tokenizer.fingerprint} "
            f"{order_seed}"
        )
        self._upcoming: Iterator[tales.Tale] = iter(())
        self._next = -1

    def begin(self, epoch: int) -> int:
        """The first epoch counts up, later ones are shuffled."""
        n = len(self.documents)
        stream = np.random.Philox(key=[self.order_seed, epoch])
        self.order = range(n) if epoch == 0 else shuffled(stream, n)
        return n

    def draw(self, index: int) -> list[Piece]:
        """A tale, cut from its beginning where it is longer than the context."""
        document = self.documents[int(self.order[index])]
        text = self._text(document)
        if text in self.held_out:
            return []
        tokens = self._tokens(text)
        starts = range(0, len(tokens), self.context)
        return [cut(document, tokens, at, min(self.context, len(tokens) - at)) for at in starts]

    def piece(self, document: int, start: int, length: int) -> Piece:
        """A piece by its name: the tale is made once more."""
        return cut(document, self._tokens(self._text(document)), start, length)

    def _text(self, document: int) -> str:
        if document != self._next:
            n = self.documents.stop - document
            self._upcoming = tales.generate(self.tales_seed, n, start=document)
        self._next = document + 1
        return next(self._upcoming).text

    def _tokens(self, text: str) -> np.ndarray:
        return np.array([self.tokenizer.bos, *self.tokenizer.encode(text), self.tokenizer.eos])
