"""The server from outside, over a real socket: answers, refusals, a client that leaves."""

import http.client
import json
import socket
import threading

import pytest
import torch

from minids.generate.engine import Engine
from minids.generate.settings import Sampling
from minids.serve.http import LARGEST_BODY, Server, Site
from minids.serve.worker import QUEUE, Worker

HEAD = (
    "POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
)
ASK = {"prompt": "Once", "max_tokens": 8, "seed": 3}


@pytest.fixture
def serve(tiny_model, tokenizer):
    """serve(token=…) → (port, site), with the random model behind it."""
    open_servers = []

    def start(model=None, **changes):
        model = model or tiny_model()
        worker = Worker(Engine(model, tokenizer), tokenizer)
        site = Site(
            name="tiny-001",
            worker=worker,
            encode=lambda text: [tokenizer.bos, *tokenizer.encode(text)],
            encode_chat=lambda talk: [tokenizer.bos, *tokenizer.encode(talk[-1].content)],
            context=model.cfg.max_position_embeddings,
            **changes,
        )
        server = Server(("127.0.0.1", 0), site)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        open_servers.append((server, worker))
        return server.server_port, site

    yield start
    for server, worker in open_servers:
        server.shutdown()
        server.server_close()
        worker.close(2)


def ask(port, body=None, path="/v1/completions", method="POST", **headers):
    """→ status, headers, body"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    given = {"Content-Type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    connection.request(method, path, body=content, headers=given)
    answer = connection.getresponse()
    found = answer.read()
    connection.close()
    return answer.status, answer.headers, found


def raw(port, data: bytes) -> bytes:
    """Bytes to the socket → all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plug:
        plug.sendall(data)
        plug.shutdown(socket.SHUT_WR)
        found = b""
        while piece := plug.recv(4096):
            found += piece
    return found


def events(body: bytes):
    return [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]


def test_an_answer_is_the_engines(serve, tiny_model, tokenizer):
    port, _ = serve()
    status, _, body = ask(port, ASK | {"n": 2})
    found = json.loads(body)
    prompt = [tokenizer.bos, *tokenizer.encode("Once")]
    wanted = Engine(tiny_model(), tokenizer).complete([prompt], Sampling(seed=3), 8, 2)
    assert status == 200 and [c["text"] for c in found["choices"]] == [w.text for w in wanted]
    assert found["usage"]["prompt_tokens"] == len(prompt)
    assert found["usage"]["completion_tokens"] == sum(len(w.tokens) for w in wanted)


def test_a_stream_says_the_same_and_ends(serve):
    port, _ = serve()
    whole = json.loads(ask(port, ASK)[2])["choices"][0]
    _, headers, body = ask(port, ASK | {"stream": True})
    assert headers["Content-Type"].startswith("text/event-stream")
    *parts, last = events(body)
    assert last == "[DONE]"
    choices = [json.loads(part)["choices"][0] for part in parts]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == [whole["finish_reason"]]


def test_a_conversation_is_answered(serve):
    port, _ = serve()
    talk = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    found = json.loads(ask(port, talk, "/v1/chat/completions")[2])
    assert found["choices"][0]["message"]["role"] == "assistant"
    body = ask(port, talk | {"stream": True}, "/v1/chat/completions")[2]
    assert events(body)[-1] == "[DONE]" and b"delta" in body


def test_text_ends_before_a_stop_string(serve):
    port, _ = serve()
    text = json.loads(ask(port, ASK)[2])["choices"][0]["text"]
    found = json.loads(ask(port, ASK | {"stop": text[2:4]})[2])["choices"][0]
    assert found == {"index": 0, "finish_reason": "stop", "text": text[: text.index(text[2:4])]}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:999", "", "127.0.0.1"]
)
def test_another_name_is_refused_before_anything(serve, host):
    port, site = serve()
    status, headers, body = ask(port, ASK, Host=host)
    assert status in (400, 403) and b"Host" in body
    assert not any(name.lower().startswith("access-control") for name in headers)
    assert ask(port, path="/", method="GET", Host=host)[0] in (400, 403)
    assert site.worker.line.empty()


def test_two_hosts_or_none_are_refused(serve):
    port, _ = serve()
    twice = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: localhost:{port}\r\n\r\n"
    assert b" 400 " in raw(port, twice.encode()).split(b"\r\n")[0]
    assert b" 400 " in raw(port, b"GET / HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_another_site_may_not_ask(serve):
    port, _ = serve()
    status, headers, _ = ask(port, ASK, Origin="https://evil.example")
    assert status == 403 and not any("access-control" in name.lower() for name in headers)
    assert ask(port, ASK, Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert ask(port, method="OPTIONS")[0] in (405, 501)


def test_a_token_is_asked_for(serve):
    port, _ = serve(token="secret")
    assert ask(port, ASK)[0] == 401
    assert ask(port, ASK, Authorization="Bearer wrong")[0] == 401
    assert ask(port, ASK, path="/v1/completions?token=secret")[0] in (401, 404)
    assert ask(port, ASK, Authorization="Bearer secret")[0] == 200


def test_bodies_are_bounded_and_say_their_length_once(serve):
    port, _ = serve()
    post = HEAD.format(port=port)
    for rest, status in (
        (f"Content-Length: {LARGEST_BODY + 1}\r\n\r\n", b"413"),
        ("Content-Length: 99\r\n\r\n{}", b"400"),
        ("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"400"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"400"),
        ("Content-Length: -1\r\n\r\n", b"411"),
        ("\r\n", b"411"),
    ):
        assert raw(port, (post + rest).encode()).split(b" ")[1] == status, rest
    assert ask(port, b"{}", Content_Type="text/plain")[0] == 400
    big = b'{"prompt": "' + b" " * (LARGEST_BODY - 14) + b'"}'
    assert len(big) == LARGEST_BODY
    assert b"characters" in ask(port, big)[2]


def test_a_byte_a_second_does_not_hold_a_connection(serve, monkeypatch):
    monkeypatch.setattr("minids.serve.http.READ_SECONDS", 0.3)
    port, _ = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plug:
        plug.sendall(b"POST /v1/completions HTTP/1.1\r\nHost:")
        assert plug.recv(100) == b""  # closed, though we would still have spoken
    assert ask(port, ASK)[0] == 200


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/x", "///x", "/page/index.html", "/x\\y"]
)
def test_only_known_files_exist(serve, path):
    port, _ = serve()
    assert ask(port, path=path, method="GET")[0] == 404
    assert ask(port, path="/" + "a" * 3000, method="GET")[0] == 414


def test_the_page_holds_no_script_of_others(serve):
    port, _ = serve()
    status, headers, body = ask(port, path="/", method="GET")
    assert status == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"http" not in body and b"onclick" not in body
    script = ask(port, path="/page.js", method="GET")[2]
    assert b"innerHTML" not in script and b"textContent" in script


def test_errors_name_the_field(serve):
    port, _ = serve()
    status, _, body = ask(port, ASK | {"temperature": 3})
    error = json.loads(body)["error"]
    assert status == 400 and "temperature" in error["field"] and error["allowed"]
    status, _, body = ask(port, ASK | {"prompt": "word " * 500})
    assert status == 400 and json.loads(body)["error"]["field"] == "prompt"


def test_weights_that_are_not_finite_are_told_and_the_server_stays(serve, tiny_model):
    model = tiny_model()
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    port, _ = serve(model)
    status, _, body = ask(port, ASK)
    assert status == 500 and b"not finite" in body
    assert events(ask(port, ASK | {"stream": True})[2])[-1].startswith('{"error"')
    assert json.loads(ask(port, path="/health", method="GET")[2])["status"] == "degraded"


def slow(site, gate, steps):
    """The engine waits at a gate before every token and counts them."""
    generate = site.worker.engine.generate

    def held(*args):
        for step in generate(*args):
            gate.wait(20)
            steps.append(step)
            yield step

    site.worker.engine.generate = held


def test_a_full_line_answers_at_once_and_health_does_not_wait(serve):
    port, site = serve()
    gate, steps, answers = threading.Event(), [], []
    slow(site, gate, steps)
    threads = [
        threading.Thread(target=lambda: answers.append(ask(port, ASK)[0])) for _ in range(QUEUE + 6)
    ]
    for thread in threads:
        thread.start()
    while len(answers) < 4:  # those for whom there was no place; nobody else can be done
        pass
    assert set(answers) == {503}
    assert ask(port, path="/health", method="GET")[0] == 200
    gate.set()
    for thread in threads:
        thread.join()
    assert answers.count(200) + answers.count(503) == len(threads)
    assert answers.count(200) >= QUEUE


def test_a_client_that_leaves_stops_the_generation(serve):
    port, site = serve()
    gate, steps = threading.Event(), []
    slow(site, gate, steps)
    body = json.dumps(ASK | {"stream": True, "max_tokens": 60, "temperature": 0}).encode()
    plug = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = HEAD.format(port=port)
    plug.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    plug.recv(10)  # the headers come before the first token
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    plug.close()
    gate.set()
    status, _, _ = ask(port, ASK)  # its turn comes once the other has ended
    assert status == 200
    assert len(steps) < 60 + 8


def test_load_changes_no_text(serve):
    port, _ = serve()
    alone, found = ask(port, ASK)[2], []
    threads = [
        threading.Thread(target=lambda: found.append(ask(port, ASK)[2])) for _ in range(QUEUE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {json.loads(body)["choices"][0]["text"] for body in [alone, *found]}
    assert len(texts) == 1
