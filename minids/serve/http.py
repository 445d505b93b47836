"""The server: who may ask (Host, Origin, token), how much (limits), and how answers travel (SSE).

It listens on the loopback address unless told otherwise with a token. The Host header is checked
before anything else: it is the only thing that stops a web page whose name was bound again to
127.0.0.1, since to such a page we are its own origin. No CORS header is ever sent. One request a
connection; headers and body have one deadline together. No logs of what was said.
"""

from __future__ import annotations

import hmac
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.serve import request as requests
from minids.serve.request import Message
from minids.serve.worker import Busy, Job, Worker

LARGEST_BODY = 256 << 10
LONGEST_URL = 2_000
MOST_CONNECTIONS = 32
READ_SECONDS, WRITE_SECONDS = 10.0, 10.0  # a whole request; one stalled write
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PAGE = {  # the only files there are; a URL is never joined to a path
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
POSTS = {"/v1/completions": False, "/v1/chat/completions": True}
REASONS = {400: "invalid_request_error", 401: "authentication_error", 503: "overloaded_error"}


class Site(NamedTuple):
    """What is served, and to whom."""

    name: str
    worker: Worker
    encode: Callable[[str], list[int]]  # a prompt as ids
    encode_chat: Callable[[list[Message]], list[int]]
    context: int  # positions of the model
    token: str = ""  # asked for if not empty
    hosts: tuple[str, ...] = LOOPBACK


class Refused(Exception):
    """An answer other than 200, decided before any work."""

    def __init__(self, status: int, where: str, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.status, self.where, self.what, self.allowed = status, where, what, allowed


class Server(ThreadingHTTPServer):
    """Threads for connections, bounded; the model has a thread of its own."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        self.slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Without the look-up of our own name, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.slots.acquire(blocking=False):
            request.settimeout(1)
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of ours."""


class Deadline(io.RawIOBase):
    """A socket that must have said all by a moment: a byte a second does not move it."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection, self.end = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "minids", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Deadline(self.connection, READ_SECONDS))

    def do_GET(self) -> None:
        self.answer(self.get)

    def do_POST(self) -> None:
        self.answer(self.post)

    def answer(self, work: Callable[[], None]) -> None:
        """Guards, then work; every refusal is one JSON object."""
        self.close_connection = True
        try:
            self.check_host()
            work()
        except Refused as no:
            self.refuse(no.status, no.where, no.what, no.allowed)
        except UserError as error:
            status = 500 if error.code == 3 else 400
            self.refuse(status, error.where, error.what, error.allowed)
        except TimeoutError:
            self.refuse(408, "request", "did not arrive in time", f"{READ_SECONDS:.0f} s")

    def check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            raise Refused(400, "Host", f"{len(hosts)} of it", "exactly one")
        name, colon, port = hosts[0].lower().rpartition(":")
        if not colon or hosts[0].endswith("]"):
            name, port = hosts[0].lower(), "80"
        if name not in self.server.site.hosts or port != str(self.server.server_port):
            raise Refused(403, "Host", "is not ours", ", ".join(self.server.site.hosts))
        if len(self.path) > LONGEST_URL:
            raise Refused(414, "URL", "is too long", f"{LONGEST_URL:,} characters")

    def check_sender(self) -> None:
        """Who may spend our time: our own page or no page at all; with a token, its holder."""
        origin, ours = self.headers.get("Origin"), f"http://{self.headers['Host']}"
        if origin is not None and origin.lower() != ours.lower():
            raise Refused(403, "Origin", "is another site", "our own page")
        token = self.server.site.token
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            raise Refused(401, "Authorization", "is missing or wrong", "Bearer TOKEN")

    def get(self) -> None:
        site = self.server.site
        if self.path in PAGE:
            name, kind = PAGE[self.path]
            self.send(
                200, kind, resources.files("minids.serve").joinpath("page", name).read_bytes()
            )
        elif self.path == "/health":
            well = site.worker.healthy
            self.send_json(200, {"status": "ok" if well else "degraded", "model": site.name})
        elif self.path == "/v1/models":
            entry = {"id": site.name, "object": "model", "owned_by": "minids"}
            self.send_json(200, {"object": "list", "data": [entry]})
        elif self.path in POSTS:
            raise Refused(405, "method", "GET", "POST")
        else:
            raise Refused(404, "URL", "is unknown", ", ".join([*PAGE, *POSTS, "/v1/models"]))

    def post(self) -> None:
        if self.path not in POSTS:
            raise Refused(404, "URL", "is unknown", ", ".join(POSTS))
        self.check_sender()
        chat, site = POSTS[self.path], self.server.site
        asked = requests.read(self.body(), chat=chat, most_tokens=site.context)
        prompt = site.encode_chat(asked.messages) if chat else site.encode(asked.prompt)
        if len(prompt) >= site.context:
            where = "messages" if chat else "prompt"
            what = f"is {len(prompt):,} tokens, the model reads {site.context:,}"
            raise UserError(where, what, f"up to {site.context - 1:,}")
        try:
            job = site.worker.submit(asked, prompt)
        except Busy:
            raise Refused(503, "server", "is busy", "try again in a second") from None
        try:
            (self.stream if asked.stream else self.whole)(job, chat)
        finally:
            job.left.set()

    def body(self) -> bytes:
        """The body, whose length is said once and is the truth."""
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(400, "Content-Type", f"is {kind or 'missing'}", "application/json")
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None or len(lengths) > 1:
            raise Refused(400, "Content-Length", "is not the only length", "exactly one length")
        if not lengths or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise Refused(411, "Content-Length", "is missing or no number", "bytes of the body")
        if len(lengths[0]) > 9 or int(lengths[0]) > LARGEST_BODY:
            raise Refused(413, "body", "is too large", f"{LARGEST_BODY:,} bytes")
        found = self.rfile.read(int(lengths[0]))
        if len(found) < int(lengths[0]):
            raise Refused(400, "body", "ended early", "as many bytes as Content-Length says")
        return found

    def whole(self, job: Job, chat: bool) -> None:
        """Every choice to its end, in one object."""
        said, reasons, n_tokens = [""] * job.request.n, [""] * job.request.n, 0
        for piece in job:
            said[piece.choice] += piece.text
            reasons[piece.choice] = piece.reason or reasons[piece.choice]
            n_tokens += piece.n_tokens
        choices = [
            {"index": i, "finish_reason": reasons[i]}
            | ({"message": {"role": "assistant", "content": t}} if chat else {"text": t})
            for i, t in enumerate(said)
        ]
        used = {"prompt_tokens": len(job.prompt), "completion_tokens": n_tokens}
        used["total_tokens"] = sum(used.values())
        kind = "chat.completion" if chat else "text_completion"
        self.send_json(200, self.head(kind) | {"choices": choices, "usage": used})

    def stream(self, job: Job, chat: bool) -> None:
        """Events as text grows; the last is [DONE] or an error."""
        self.connection.settimeout(WRITE_SECONDS)
        self.headers_of(200, "text/event-stream; charset=utf-8", None)
        head = self.head("chat.completion.chunk" if chat else "text_completion")
        try:
            for piece in job:
                choice: dict[str, Any] = {
                    "index": piece.choice,
                    "finish_reason": piece.reason or None,
                }
                choice |= (
                    {"delta": {"content": piece.text} if piece.text else {}}
                    if chat
                    else {"text": piece.text}
                )
                self.event(json.dumps(head | {"choices": [choice]}))
            self.event("[DONE]")
        except UserError as error:
            self.event(json.dumps({"error": described(error.where, error.what, error.allowed)}))

    def event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def head(self, kind: str) -> dict[str, Any]:
        now = time.time()
        return {
            "id": f"minids-{time.time_ns():x}",
            "object": kind,
            "created": int(now),
            "model": self.server.site.name,
        }

    def refuse(self, status: int, where: str, what: str, allowed: str) -> None:
        about = described(where, what, allowed) | {"type": REASONS.get(status, "error")}
        self.send_json(status, {"error": about})

    def send_json(self, status: int, value: dict[str, Any]) -> None:
        self.send(status, "application/json", json.dumps(value).encode())

    def send(self, status: int, kind: str, content: bytes) -> None:
        self.connection.settimeout(WRITE_SECONDS)
        self.headers_of(status, kind, len(content))
        self.wfile.write(content)

    def headers_of(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: lines would hold what was asked."""


def described(where: str, what: str, allowed: str) -> dict[str, str]:
    """An error as its field, a message and what is allowed."""
    return {"field": where, "message": f"{where}: {what}", "allowed": allowed}
