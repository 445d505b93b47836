"""What this machine is good at: which dtype multiplies faster, whether threads or processes pay.

A second of measuring, kept in a cache file per machine and torch version, so that the same seed on
the same machine takes the same path and gives the same weights. A CPU without bfloat16 units gains
nothing or loses; two threads fight over the small products of a small model.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from minids.config import TrainConfig
from minids.errors import UserError
from minids.train.precision import check_fp8


@dataclass(frozen=True)
class Machine:
    """How a run uses its machine; recorded in the run and kept on resume."""

    device: str
    precision: str  # float32, bfloat16, fp8 or fp8-sim, of matrix products
    threads: int  # of each worker
    workers: int  # data-parallel processes
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """In what everything runs that is not kept in float32; FP8 layers take and give it."""
        return torch.float32 if self.precision == "float32" else torch.bfloat16


def choose(cfg: TrainConfig, refresh: bool = False) -> Machine:
    """The machine's choices where the config says auto or 0, the config's elsewhere."""
    device = pick_device(cfg.device)
    if cfg.precision == "fp8":
        check_fp8(device)
    if device != "cpu":
        return choose_gpu(cfg, device)
    rates = measure(refresh)
    gain = rates["bfloat16"] / rates["float32"]
    precision = cfg.precision
    if precision == "auto":
        precision = "bfloat16" if gain > 1.2 else "float32"
    cores = usable_cores()
    threaded = rates["two_threads"] / rates["one_thread"]
    workers = cfg.workers or (
        min(cores, 4) if not cfg.threads and threaded < 0.9 * min(cores, 2) else 1
    )
    threads = cfg.threads or (1 if workers > 1 else min(cores, 4))
    reason = f"bfloat16 multiplies {gain:.1f} times as fast as float32 here"
    if cores > 1:
        reason += f"; a second thread makes small steps {threaded:.2f} times as fast"
    return Machine(device, precision, threads, fit_workers(workers, cfg), reason)


def fit_workers(workers: int, cfg: TrainConfig) -> int:
    """As many workers as divide the batch; asked for by name, they must."""
    if cfg.workers and cfg.batch_size % cfg.workers:
        raise UserError(
            "train.workers",
            f"{cfg.workers} do not divide {cfg.batch_size} sequences",
            "divisors of train.batch_size",
        )
    while cfg.batch_size % workers:
        workers -= 1
    return workers


def devices() -> dict[str, bool]:
    """Which kinds of device are here."""
    mps = torch.backends.mps.is_available()
    return {"cuda": torch.cuda.is_available(), "mps": mps, "cpu": True}


def pick_device(wanted: str) -> str:
    """cuda, mps or cpu: the best there is, or the one asked for."""
    have = devices()
    if wanted == "auto":
        return "cuda" if have["cuda"] else "cpu"  # small models run faster on the CPU than on mps
    if not have[wanted]:
        raise UserError(
            "train.device", f"{wanted} is not here", ", ".join(d for d, h in have.items() if h)
        )
    return wanted


def choose_gpu(cfg: TrainConfig, device: str) -> Machine:
    """One process drives a GPU; bfloat16 needs units for it (a T4 only emulates it, slower)."""
    native = device == "mps" or torch.cuda.get_device_capability() >= (8, 0)
    precision = cfg.precision if cfg.precision != "auto" else ("bfloat16" if native else "float32")
    return Machine(device, precision, cfg.threads or min(usable_cores(), 4), 1, f"{device} found")


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(refresh: bool = False) -> dict[str, float]:
    """Rates here: matrix products in both dtypes, GFLOP/s; small steps by threads, 1/s."""
    path = cache_folder() / "probe.json"
    key = f"{cpu_name()}, {usable_cores()} cores, torch {torch.__version__}"
    known = read_cache(path)
    if not refresh and key in known:
        return known[key]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rates = {"float32": gflops(torch.float32), "bfloat16": gflops(torch.bfloat16)}
    dtype = torch.bfloat16 if rates["bfloat16"] > 1.2 * rates["float32"] else torch.float32
    rates["one_thread"] = small_steps(dtype)
    rates["two_threads"] = rates["one_thread"]
    if usable_cores() > 1:
        torch.set_num_threads(2)
        rates["two_threads"] = small_steps(dtype)
    torch.set_num_threads(threads)
    write_cache(path, known | {key: rates})
    return rates


def gflops(dtype: torch.dtype, seconds: float = 0.15) -> float:
    """Best rate of a product of the size training uses."""
    a, b = torch.randn(1024, 256).to(dtype), torch.randn(256, 512).to(dtype)
    return 2 * 1024 * 256 * 512 * best_rate(lambda: a @ b, seconds) / 1e9


def small_steps(dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Small training-like steps per second: a few products, a norm, a product backwards."""
    x = torch.randn(1024, 128).to(dtype)
    w = [torch.randn(128, 384, dtype=dtype), torch.randn(384, 128, dtype=dtype)]

    def step() -> None:
        y = x
        for _ in range(4):
            y = y + torch.nn.functional.silu(y @ w[0]) @ w[1]
            y = torch.nn.functional.rms_norm(y, (128,))
        _ = y.T @ x

    return best_rate(step, seconds)


def best_rate(work, seconds: float) -> float:
    """Calls per second of the fastest call."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return 1 / best


def cpu_name() -> str:
    """The model name of the CPU, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cache_folder() -> Path:
    """Where measurements are kept."""
    if folder := os.environ.get("MINIDS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "minids"


def read_cache(path: Path) -> dict:
    """What was measured before; nothing if that cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_cache(path: Path, content: dict) -> None:
    """Keep measurements; a machine that cannot is measured again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(content, indent=1))
        draft.replace(path)
    except OSError:
        return


def as_record(machine: Machine) -> dict:
    """Plain values, for the run folder."""
    return asdict(machine)
