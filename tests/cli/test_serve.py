"""minids serve from outside: it says where it is, answers, ends on a signal; what it refuses."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys

import pytest


def start(place, *args):
    """→ the process and the line in which it says where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "minids_cli", "serve", "tiny-001", "--port", "0", "--json", *args],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, json.loads(process.stdout.readline())


def ask(url: str, path: str, body: dict, **headers) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request(
        "POST", path, json.dumps(body), {"Content-Type": "application/json"} | headers
    )
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_answers_and_ends_on_a_signal(tiny_run):
    process, about = start(tiny_run)
    try:
        status, body = ask(about["url"], "/v1/completions", {"prompt": "Once", "max_tokens": 5})
        assert status == 200 and json.loads(body)["usage"]["completion_tokens"] <= 5
        talk = {"messages": [{"role": "user", "content": "Once"}], "max_tokens": 5}
        assert ask(about["url"], "/v1/chat/completions", talk)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    finally:
        process.kill()


def test_an_automatic_token_is_told_and_asked_for(tiny_run):
    process, about = start(tiny_run, "--token", "auto", "--template", "chat")
    try:
        talk = {"messages": [{"role": "user", "content": "Once"}], "max_tokens": 5}
        assert len(about["token"]) >= 16
        assert ask(about["url"], "/v1/chat/completions", talk)[0] == 401
        sent = {"Authorization": f"Bearer {about['token']}"}
        assert ask(about["url"], "/v1/chat/completions", talk, **sent)[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--port", "70000"), "0 … 65535"),
        (("--port", "web"), "--port"),
        (("--host", "0.0.0.0"), "--token"),
        (("--template", "none"), "auto"),
    ],
)
def test_bad_flags_are_one_line(refused, words, says):
    assert says in refused("serve", "tiny-001", *words)


def test_a_run_that_is_not_there(refused):
    assert "tiny-009" in refused("serve", "tiny-009")


def test_a_port_that_is_taken_is_one_line(minids, tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = minids("serve", "tiny-001", "--port", port, cwd=tiny_run)
    assert said.code == 2 and port in said.err and len(said.err.splitlines()) == 1, said
