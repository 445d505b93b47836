"""How the next token is chosen, as checked numbers; no torch: a bad flag answers at once."""

from __future__ import annotations

from dataclasses import dataclass

from minids.config import bounded, check_ranges
from minids.errors import UserError

COLDEST = 0.01  # below it logits / temperature leaves float32; 0 itself means the likeliest token
MOST_TOKENS = 1 << 20
MOST_SAMPLES = 1024


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """One rule for every token: temperature, then top-k, then top-p, then one uniform number."""

    temperature: float = bounded(1.0, 0.0, 2.0, "divides the logits; 0 always takes the likeliest")
    top_p: float = bounded(1.0, 0.0, 1.0, "smallest set of tokens with this mass; 1 keeps all")
    top_k: int = bounded(0, 0, 10_000_000, "likeliest tokens kept; 0 keeps all")
    seed: int = bounded(1, 0, (1 << 63) - 1, "of the uniform numbers")

    def __post_init__(self) -> None:
        check_ranges("sampling", self)
        if 0 < self.temperature < COLDEST:
            raise UserError(
                "sampling.temperature",
                f"{self.temperature} overflows the logits it divides",
                f"0 (the likeliest token), {COLDEST} … 2.0",
            )
        if self.top_p == 0:
            raise UserError(
                "sampling.top_p",
                "0 keeps no token",
                "above 0, up to 1.0",
                hint="temperature 0 always takes the likeliest token",
            )

    @property
    def greedy(self) -> bool:
        """Whether the choice is the argmax and the seed plays no part."""
        return self.temperature == 0


def check_counts(max_new_tokens: int, num_samples: int) -> None:
    """Hold the size of a request against its ranges."""
    for name, value, high in (
        ("max_new_tokens", max_new_tokens, MOST_TOKENS),
        ("num_samples", num_samples, MOST_SAMPLES),
    ):
        if not 1 <= value <= high:
            raise UserError(f"sampling.{name}", f"{value} is out of range", f"1 … {high:,}")
