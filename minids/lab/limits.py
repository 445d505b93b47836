"""Running other people's code: for a limited time, with its prints kept apart.

In the main thread an alarm interrupts it wherever it is; elsewhere, or without alarms (Windows), it
runs in a thread of its own that is asked to end and, if it does not, is left behind. Neither stops
one long call inside a compiled library. This guards against accidents, not against attacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

RING_AGAIN_S = 0.1  # code that swallows the first interruption gets another
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
    armed = True

    def ring(_signal: int, _frame: object) -> None:
        if armed:
            raise TimeUp

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds, RING_AGAIN_S)
    try:
        return work()
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if delay:
            left = max(delay - (time.monotonic() - start), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


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
        for _ in range(10):
            identity = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(TimeUp))
            thread.join(RING_AGAIN_S)
            if not thread.is_alive():
                break
        raise TimeUp
    if failed:
        raise failed[0]
    return done[0]


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
