"""One thread owns the model; requests wait in a line, so order is fair and a seed means its text.

A request is never batched with strangers: it gives the same text alone or under load. What a client
left is dropped at the next token.
"""

from __future__ import annotations

import codecs
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from minids.data.tokenizer import REASONING, Tokenizer
from minids.errors import UserError
from minids.generate.engine import Engine
from minids.serve.request import Request, Until

QUEUE = 8  # requests that wait while one runs
LONGEST = 60.0  # seconds of one generation


class Piece(NamedTuple):
    """Text of one choice, or its end: a reason, and how many tokens it took."""

    choice: int
    text: str
    reason: str = ""  # stop · length
    n_tokens: int = 0


class Busy(Exception):
    """As many requests wait as may."""


class Job:
    """A request in the line and what came of it so far."""

    def __init__(self, request: Request, prompt: list[int]) -> None:
        self.request, self.prompt = request, prompt
        self.pieces: queue.SimpleQueue[Piece | Exception | None] = queue.SimpleQueue()
        self.left = threading.Event()  # nobody listens any more

    def __iter__(self) -> Iterator[Piece]:
        """Pieces as they come. Raises what the generation raised."""
        while (piece := self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Worker:
    """The thread of the model."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, longest: float = LONGEST) -> None:
        self.engine, self.tokenizer, self.longest = engine, tokenizer, longest
        self.line: queue.Queue[Job | None] = queue.Queue(QUEUE)
        self.healthy, self.closing = True, threading.Event()
        self.thread = threading.Thread(target=self.work, name="model", daemon=True)
        self.thread.start()

    def submit(self, request: Request, prompt: list[int]) -> Job:
        """Into the line. Raises Busy if it is full or closed."""
        job = Job(request, prompt)
        if self.closing.is_set():
            raise Busy
        try:
            self.line.put_nowait(job)
        except queue.Full:
            raise Busy from None
        return job

    def close(self, seconds: float) -> None:
        """Take no more; what runs has so many seconds, then it is cut."""
        self.closing.set()
        self.longest = min(self.longest, seconds)
        self.line.put(None)
        self.thread.join(seconds + 1)

    def work(self) -> None:
        while (job := self.line.get()) is not None:
            try:
                self.generate(job)
            except Exception as error:  # the client is told, the server goes on
                self.healthy &= not (isinstance(error, UserError) and error.code == 3)
                job.pieces.put(error)
            else:
                self.healthy = True
            job.pieces.put(None)

    def generate(self, job: Job) -> None:
        """All choices side by side, each to its own end."""
        request, began = job.request, time.monotonic()
        choices = [Choice(number, job, self.tokenizer) for number in range(request.n)]
        steps = self.engine.generate([job.prompt], request.sampling, request.max_tokens, request.n)
        for step in steps:
            late = time.monotonic() - began > self.longest
            for row, token, why in zip(step.rows, step.tokens, step.stops, strict=True):
                choices[row].take(token, why or ("length" if late else ""))
            if late or job.left.is_set() or all(choice.ended for choice in choices):
                return


class Choice:
    """One of the answers to a request, as text while it grows."""

    def __init__(self, number: int, job: Job, tokenizer: Tokenizer) -> None:
        self.number, self.job, self.tokenizer = number, job, tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        send: Callable[[str], None] = lambda text: job.pieces.put(Piece(number, text))  # noqa: E731
        self.until = Until(job.request.stop, send)
        self.n_tokens, self.ended = 0, False

    def take(self, token: int, why: str) -> None:
        """One more token, and why it is the last ("" if it is not)."""
        if self.ended:
            return
        self.n_tokens += 1
        text = self.decoder.decode(self.spelled(token), final=bool(why))
        met = self.until.add(text)
        if not (met or why):
            return
        self.until.end()
        self.ended = True
        reason = "stop" if met or why == "eos" else "length"
        self.job.pieces.put(Piece(self.number, "", reason, self.n_tokens))

    def spelled(self, token: int) -> bytes:
        """Tags of thinking and answering are text for a client; other special tokens are not."""
        tag = self.tokenizer.decode([token], specials=True)
        return tag.encode() if tag in REASONING else self.tokenizer.decode_bytes([token])
