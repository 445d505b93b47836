"""Notebooks under test stay on this machine."""

import os
import socket
import subprocess
import sys

import pytest

from minids.lab import offline

CELL = """
import socket
import minids.lab
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
print("here", flush=True)
import urllib.request
urllib.request.urlopen("http://192.0.2.1/", timeout=1)
"""


def cell(**environment):
    return subprocess.run(
        [sys.executable, "-c", CELL], capture_output=True, text=True, check=False,
        env=os.environ | environment,
    )  # fmt: skip


def test_a_cell_reaches_this_machine_and_no_other():
    done = cell(MINIDS_OFFLINE="1")
    assert done.stdout == "here\n" and done.returncode == 1
    assert "192.0.2.1: the network is switched off here (MINIDS_OFFLINE=1)" in done.stderr


def test_only_where_the_environment_asks(monkeypatch):
    hooks = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(offline, "installed", [])
    monkeypatch.delenv("MINIDS_OFFLINE", raising=False)
    offline.switch_off()
    assert hooks == []
    monkeypatch.setenv("MINIDS_OFFLINE", "1")
    offline.switch_off()
    offline.switch_off()
    assert hooks == [offline.refuse]


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("socket.connect", (None, ("10.0.0.1", 80))),
        ("socket.sendto", (None, ("10.0.0.1", 53))),
        ("socket.getaddrinfo", ("huggingface.co", 443, 0, 0, 0)),
        ("socket.getaddrinfo", (b"huggingface.co", 443, 0, 0, 0)),
        ("socket.gethostbyname", ("huggingface.co",)),
    ],
)
def test_every_way_out_is_refused(event, arguments):
    with pytest.raises(offline.Offline, match="switched off"):
        offline.refuse(event, arguments)


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("socket.connect", (None, "/tmp/socket")),
        ("socket.connect", (None, ("127.0.0.1", 80))),
        ("socket.connect", (None, ("::1", 80, 0, 0))),
        ("socket.getaddrinfo", (None, 0, 0, 0, 0)),
        ("socket.getaddrinfo", (socket.gethostname(), 0, 0, 0, 0)),
        ("open", ("huggingface.co",)),
    ],
)
def test_this_machine_is_open(event, arguments):
    offline.refuse(event, arguments)
