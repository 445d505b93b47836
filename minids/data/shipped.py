"""The tokenizer that comes with the package: learned from tales, the same on every machine.

When the tales get other words, it is made again, by

    python -c "from minids.data import shipped; shipped.rebuild()"
"""

from __future__ import annotations

from minids.data import tales
from minids.data.tokenizer import SHIPPED, Tokenizer

VOCAB_SIZE = 1536
N_TALES = 4_000
SEED = 0  # of no preset, so these tales are in no training set and in no held-out one


def tales_tokenizer() -> Tokenizer:
    """Byte-pair encoding learned from the first tales of its own seed."""
    texts = (tale.text for tale in tales.generate(SEED, N_TALES))
    return Tokenizer.train(texts, VOCAB_SIZE)


def rebuild() -> None:
    """Write it into the package."""
    tales_tokenizer().save(SHIPPED / "tales")
