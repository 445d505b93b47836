"""Without network: where MINIDS_OFFLINE=1 asks for it, no cell reaches beyond this machine.

The course needs no network, and its tests must notice when that stops being true. Python's audit
events see every connection that Python code opens; they are a check, no sandbox.
"""

from __future__ import annotations

import os
import socket
import sys

SWITCH = "MINIDS_OFFLINE"
CONNECTING = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
installed: list[str] = []  # a hook cannot be taken back, and one is enough


class Offline(ConnectionError):
    """Somebody wanted to leave this machine."""


def is_here(host: object) -> bool:
    """Whether a name or address is this machine."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str):  # None: any address of this machine
        return host is None
    own = ("", "localhost", "localhost.localdomain", "::1", "0.0.0.0", "::", socket.gethostname())
    return host in own or host.startswith("127.")


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: raises Offline where a connection would leave this machine."""
    if event not in CONNECTING:
        return
    host = arguments[0]
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a path: a socket of this machine
            return
        host = address[0]
    if not is_here(host):
        raise Offline(f"{host}: the network is switched off here ({SWITCH}=1)")


def switch_off() -> None:
    """Once a process, and for as long as it lives. Does nothing unless the environment asks."""
    if os.environ.get(SWITCH) == "1" and not installed:
        installed.append(SWITCH)
        sys.addaudithook(refuse)
