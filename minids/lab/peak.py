"""How much memory a computation takes at its worst moment, counted by torch itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from torch.autograd.profiler import profile


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes of tensors on the CPU that were alive together while `work()` ran.

    Inner buffers of fused kernels are counted too; what existed before is not.
    """
    with silent(), profile(profile_memory=True, use_kineto=False) as record:
        kept = work()
    live = most = 0
    for event in record.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()  # type: ignore[attr-defined]
            most = max(most, live)
    del kept
    return most


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """torch 2.13's profiler writes two lines per use to the process's own stderr."""
    before = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(nothing)
        os.close(before)
