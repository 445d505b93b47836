"""Running other people's code: for a limited time, with its prints kept apart.

In the main thread an alarm interrupts it wherever it is; elsewhere, or without alarms (Windows), it
runs in a thread of its own that is asked to end and, if it does not, is left behind. Code that
swallows every exception is interrupted so often that one hits it outside its `try`. Neither stops
one long call inside a compiled library. This guards against accidents, not against attacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

PATIENCE_S = 0.1  # after the first interruption; then they come in bursts
BURST_S = 0.0001
KEPT_CHARACTERS = 4000


class TimeUp(BaseException):
    """The limit is reached. Not an Exception, so that `except Exception` does not swallow it."""


def limited(work: Callable[[], Any], seconds: float) -> Any:
    """work(), or TimeUp after so many seconds."""
    if seconds <= 0:
        raise TimeUp
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return with_alarm(work, seconds)
    return in_thread(work, seconds)


def with_alarm(work: Callable[[], Any], seconds: float) -> Any:
    """By a signal; a timer that was running before goes on afterwards."""
    armed, rung = True, False

    def ring(_signal: int, frame: FrameType | None) -> None:
        nonlocal rung
        if not rung:
            rung = True
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, BURST_S)
        if armed and not cleaning_up(frame):
            raise TimeUp

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds, PATIENCE_S)
    try:
        return work()
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if delay:
            left = max(delay - (time.monotonic() - start), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def cleaning_up(frame: FrameType | None) -> bool:
    """Whether a `with` block is being entered or left: what it restores must be restored."""
    for _ in range(3):
        if frame is None:
            return False
        if frame.f_code.co_name in ("__enter__", "__exit__"):
            return True
        frame = frame.f_back
    return False


def in_thread(work: Callable[[], Any], seconds: float) -> Any:
    """By waiting no longer; TimeUp is raised inside the thread until it ends, for a second."""
    done: list[Any] = []
    failed: list[BaseException] = []

    def target() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ask_to_end(thread)
        raise TimeUp
    if failed:
        raise failed[0]
    return done[0]


def ask_to_end(thread: threading.Thread) -> None:
    """Raise TimeUp inside a thread until it ends or a second is over."""
    identity, before = ctypes.c_ulong(thread.ident or 0), sys.getswitchinterval()
    until = time.monotonic() + 10 * PATIENCE_S
    sys.setswitchinterval(BURST_S)  # else it would be asked 200 times in this second
    try:
        while thread.is_alive() and time.monotonic() < until:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(TimeUp))
            thread.join(BURST_S)
    finally:
        sys.setswitchinterval(before)


class Printed(io.TextIOBase):
    """Takes what is printed, keeps the beginning and counts the rest."""

    def __init__(self) -> None:
        self.text, self.lines = "", 0

    def write(self, text: str, /) -> int:
        self.lines += text.count("\n")
        if len(self.text) < KEPT_CHARACTERS:
            self.text += text[: KEPT_CHARACTERS - len(self.text)]
        return len(text)

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def prints_kept(printed: Printed) -> Iterator[None]:
    """Standard output and error go to `printed`."""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
