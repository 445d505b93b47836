"""Serve a trained model on this machine: a page for people, OpenAI's interface for programs."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from minids.config import coerce
from minids.errors import UserError
from minids_cli import show

if TYPE_CHECKING:
    from minids.serve.http import Server, Site

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE = 5.0  # seconds that a running answer has after a signal


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids serve`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")
    parser.add_argument(
        "--port", metavar="N", default="8000", help="0 takes a free one (default %(default)s)"
    )
    parser.add_argument(
        "--host",
        metavar="NAME",
        default="127.0.0.1",
        help="address to listen on; another than this machine's own needs --token "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--token", metavar="TEXT", default="", help="what clients must send; auto makes one"
    )
    parser.add_argument(
        "--template",
        choices=("auto", "chat", "plain"),
        default="auto",
        help="how a conversation becomes a prompt: with the special tokens of tuned runs, or as "
        "the text alone (default: by how the run was trained)",
    )


def run(args: argparse.Namespace) -> int:
    """Check, load, listen until a signal."""
    from minids.runs import find_run, open_run

    port = coerce("--port", args.port, int)
    if not 0 <= port <= 65_535:
        raise UserError("--port", f"{port} is out of range", "0 … 65535")
    if args.host not in LOOPBACK and not args.token:
        hint = "--token auto makes one"
        raise UserError("--host", f"{args.host} may be reached by others", "--token", hint=hint)
    folder = find_run(args.run_folder)
    token = secrets.token_urlsafe(16) if args.token == "auto" else args.token
    from minids.generate.engine import Engine
    from minids.serve.http import LOOPBACK as HOSTS
    from minids.serve.http import Site
    from minids.serve.worker import Worker

    trained = open_run(folder)
    for warning in trained.warnings:
        show.warn(warning)
    tokenizer, bos = trained.tokenizer, trained.tokenizer.bos
    chat = args.template == "chat" or (args.template == "auto" and tuned(folder))
    if chat:
        from minids.reason.chat import prompt_ids

        def encode_chat(messages):
            return prompt_ids(tokenizer, messages[-1].content)
    else:

        def encode_chat(messages):
            return [bos, *tokenizer.encode("\n".join(m.content for m in messages))]

    site = Site(
        name=trained.cfg.name if folder.name == "" else folder.name,
        worker=Worker(Engine(trained.model, tokenizer), tokenizer),
        encode=lambda text: [bos, *tokenizer.encode(text)],
        encode_chat=encode_chat,
        context=trained.model.cfg.max_position_embeddings,
        token=token,
        hosts=HOSTS if args.host in LOOPBACK else (*HOSTS, args.host.lower()),
    )
    return listen(site, args.host, port, as_json=args.json)


def listen(site: Site, host: str, port: int, *, as_json: bool) -> int:
    """Serve until SIGINT or SIGTERM; what runs then has a few seconds."""
    from minids.serve.http import Server

    try:
        server: Server = Server((host, port), site)
    except OSError as error:
        what = f"{host}:{port}: {error.strerror}"
        raise UserError("--port", what, "a free port; 0 takes one") from error
    heard: list[int] = []
    done = threading.Event()

    def stop(number: int, _frame: object) -> None:
        heard.append(number)
        done.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    address = f"http://{host}:{server.server_port}"
    if as_json:
        print(json.dumps({"url": address, "model": site.name, "token": site.token}), flush=True)
    else:
        print(f"{site.name} at {address}   (ctrl-c ends; a page there, and /v1/chat/completions)")
        if site.token:
            print(f"token: {site.token}")
        sys.stdout.flush()
    if host not in LOOPBACK:
        show.warn(f"{host} may be reached by others; who knows the token may use it")
    while not done.wait(0.5):
        pass
    server.shutdown()
    site.worker.close(GRACE)
    server.server_close()
    return 128 + heard[0]


def tuned(folder: Path) -> bool:
    """Whether the run learned from conversations: by sft or by rl."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record.get("sft") or record.get("rl"))
