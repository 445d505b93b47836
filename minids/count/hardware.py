"""Machines as a row of rates: how fast they multiply, move, talk, and what an hour costs.

Peaks are dense (no 2:4 sparsity), as the vendors' sheets give them; nobody reaches them, which is
what utilisation is for. Links are counted as sold, both directions together; one direction is half.
Prices are examples with a date, not offers: every command takes a price of one's own.
"""

import difflib
from typing import NamedTuple

from minids.count.roofline import Rates
from minids.errors import UserError


class Hardware(NamedTuple):
    """One device. Rates in FLOP/s and bytes/s; 0 where the device has no such units or link."""

    name: str
    float32: float
    bfloat16: float  # float16 where there is no bfloat16 unit (T4)
    fp8: float
    memory_bytes: float
    memory_rate: float  # bytes/s between memory and processor
    link_rate: float  # bytes/s to the other devices of a node, both directions
    network_rate: float  # bytes/s to other nodes, one direction, as a common cluster has it
    per_node: int  # devices that share fast links
    watts: float  # of the device alone
    dollars_per_hour: float  # 0: no price known
    source: str

    def flops(self, dtype: str) -> float:
        """Peak of matrix products in a dtype, the next wider one where there is none."""
        found = {"fp8": self.fp8, "bfloat16": self.bfloat16, "float32": self.float32}
        if dtype not in found:
            raise UserError("--dtype", f"{dtype!r} is unknown", ", ".join(found))
        return found[dtype] or self.bfloat16 or self.float32

    def rates(self, dtype: str = "bfloat16", devices: float = 1) -> Rates:
        """What `devices` of them do together, for the roofline."""
        return Rates(devices * self.flops(dtype), devices * self.memory_rate)


GB, TB, T = 1e9, 1e12, 1e12
SHEET = "vendor's data sheet"
RENT = "list price collected by deploybase.ai, March 2026"
IB = 50 * GB  # one 400 Gbit/s InfiniBand port per device, as in DeepSeek-V3 §3

TABLE = (
    Hardware(
        "h100", 66.9 * T, 989.5 * T, 1979 * T, 80 * GB, 3.35 * TB, 900 * GB, IB, 8, 700, 2.69,
        f"{SHEET} (SXM5), as tabulated by glennklockwood.com; {RENT}",
    ),
    Hardware(
        "h800", 66.9 * T, 989.5 * T, 1979 * T, 80 * GB, 3.35 * TB, 400 * GB, IB, 8, 700, 2.00,
        "H100 with NVLink cut to 400 GB/s (arXiv 2505.09343); "
        "$2 is the V3 report's assumption",
    ),
    Hardware(
        "h20", 44 * T, 148 * T, 296 * T, 96 * GB, 4.0 * TB, 900 * GB, IB, 8, 400, 0,
        "sheet as quoted by feifeibear/LLMRoofline and willitrunai.com",
    ),
    Hardware(
        "h200", 66.9 * T, 989.5 * T, 1979 * T, 141 * GB, 4.8 * TB, 900 * GB, IB, 8, 700, 3.59,
        f"{SHEET} (SXM); {RENT}",
    ),
    Hardware(
        "a100", 19.5 * T, 312 * T, 0, 80 * GB, 2.039 * TB, 600 * GB, 25 * GB, 8, 400, 1.39,
        f"{SHEET} (SXM4, 80 GB); a 200 Gbit/s port; {RENT}",
    ),
    Hardware(
        "b200", 80 * T, 2250 * T, 4500 * T, 180 * GB, 8.0 * TB, 1800 * GB, IB, 8, 1000, 5.98,
        f"{SHEET} (HGX, 1,000 W), as tabulated by glennklockwood.com and docs.vultr.com; {RENT}",
    ),
    Hardware(
        "mi300x", 163.4 * T, 1307.4 * T, 2614.9 * T, 192 * GB, 5.3 * TB, 896 * GB, IB, 8, 750, 1.71,
        "AMD's data sheet; price: TensorWave, as listed by gpu.blog",
    ),
    Hardware(
        "l40s", 91.6 * T, 362 * T, 733 * T, 48 * GB, 0.864 * TB, 64 * GB, 12.5 * GB, 8, 350, 0.79,
        f"{SHEET}; PCIe 4 instead of NVLink; {RENT}",
    ),
    Hardware(
        "t4", 8.1 * T, 65 * T, 0, 16 * GB, 0.320 * TB, 32 * GB, 6.25 * GB, 4, 70, 0,
        f"{SHEET}; the 16-bit rate is float16, bfloat16 is emulated; PCIe 3",
    ),
    Hardware(
        "m1-max", 10.4 * T, 0, 0, 64 * GB, 0.400 * TB, 0, 0, 1, 60, 0,
        "Apple's announcement of October 2021 (32 GPU cores); watts: ours, of a laptop at work",
    ),
    Hardware(
        "m4-max", 19.8 * T, 0, 0, 128 * GB, 0.546 * TB, 0, 0, 1, 80, 0,
        "Apple, October 2024: 546 GB/s, 128 GB, graphics up to 1.9 times an M1 Max, whose 10.4 "
        "TFLOP/s are published: an estimate; watts: ours",
    ),
)  # fmt: skip


def find(name: str) -> Hardware:
    """A row by name. Raises UserError with the nearest name."""
    known = {machine.name: machine for machine in TABLE}
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else "cpu measures this machine (minids plan)"
        raise UserError("--gpu", f"{name!r} is unknown", ", ".join(known), hint=hint)
    return known[name.lower()]


class Equivalence(NamedTuple):
    """How many of one device replace one of another, by what is scarce."""

    compute: float
    memory: float
    link: float
    network: float


def equivalence(mine: Hardware, other: Hardware, dtype: str = "bfloat16") -> Equivalence:
    """One `mine` is worth so many `other`; an H800 1 H100 in arithmetic, 0.44 in links.

    There is no single exchange rate: which of the four counts depends on what a program waits for.
    """
    return Equivalence(
        mine.flops(dtype) / other.flops(dtype),
        mine.memory_rate / other.memory_rate,
        mine.link_rate / other.link_rate,
        mine.network_rate / other.network_rate,
    )
