"""The least time a piece of work can take on a machine.

A machine multiplies at one rate and moves bytes at another, both at once, so whichever takes
longer decides. Which one that is depends on a single ratio, FLOPs per byte moved: the intensity of
the work, held against the machine's own, its ridge. One token through a matrix in bfloat16 brings
1 FLOP per byte; an H800 wants 295. (Williams, Waterman, Patterson 2009)

Every byte is counted once, as if caches were perfect and nothing waited: a floor, not a forecast.
Axes: m, k, n of a matrix product [m k] · [k n]; m tokens through a matrix of k inputs, n outputs.
"""

from typing import NamedTuple

from minids.config import ModelConfig
from minids.count import flops, memory
from minids.count.params import count


class Work(NamedTuple):
    """What has to be done."""

    flops: float
    moved_bytes: float  # between memory and processor

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.moved_bytes


class Rates(NamedTuple):
    """What a machine can do."""

    flops_per_s: float
    bytes_per_s: float

    @property
    def ridge(self) -> float:
        """The intensity from which on arithmetic is what takes the time."""
        return self.flops_per_s / self.bytes_per_s


H800 = Rates(989.5e12, 3.35e12)  # dense bfloat16, HBM3: the vendor's sheet


def matmul(m: int, k: int, n: int, size: int) -> Work:
    """[m k] · [k n] in numbers of `size` bytes: both factors are read, the product is written."""
    return Work(2 * m * k * n, size * (m * k + k * n + m * n))


def least_seconds(work: Work, rates: Rates) -> float:
    """The floor: arithmetic and traffic run side by side."""
    return max(work.flops / rates.flops_per_s, work.moved_bytes / rates.bytes_per_s)


def decode(cfg: ModelConfig, context: int = 0, dtype: str = "bfloat16", sequences: int = 1) -> Work:
    """One token of each sequence: active weights are read once for all, every cache once.

    Experts are counted as if all sequences chose the same: more are read when they do not.
    """
    read = count(cfg).active * memory.size_of(dtype)
    cached = memory.kv_cache(cfg, context, sequences, dtype) if context else 0.0
    return Work(sequences * flops.decode(cfg, context), read + cached)


def training_step(cfg: ModelConfig, tokens: int, s: int, optimizer: str = "muon") -> Work:
    """One optimizer step on `tokens` tokens in sequences of s, float32, MTP included.

    Weights, gradients and optimizer state are each read and written once. Activations are left out.
    """
    kept = memory.training(cfg, optimizer).total
    return Work(tokens * flops.training(cfg, s, with_mtp=True), 2 * kept)
