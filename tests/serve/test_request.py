"""What a client may send: each field at its edges and beyond, and JSON that is none."""

import json

import pytest

from minids.errors import UserError
from minids.serve.request import Until, read

GOOD = {"prompt": "Once"}
TALK = {"messages": [{"role": "user", "content": "2+2"}]}


def refused(body, *, chat=False):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(UserError) as error:
        read(body, chat=chat, most_tokens=50)
    return error.value.where


def test_a_request_is_read_with_its_defaults():
    asked = read(json.dumps(GOOD).encode(), chat=False, most_tokens=50)
    assert (asked.prompt, asked.max_tokens, asked.n, asked.stop) == ("Once", 50, 1, [])
    assert asked.sampling.temperature == 1 and asked.sampling.top_p == 1 and not asked.stream


@pytest.mark.parametrize(
    ("field", "edge", "beyond"),
    [
        ("temperature", [0, 2, 0.5], [-0.1, 2.1, "1", True, None, 10**400]),
        ("top_p", [0.01, 1], [0, 1.01, [], False]),
        ("top_k", [0, 10_000_000], [-1, 10_000_001, 1.0]),
        ("seed", [0, 2**63 - 1], [-1, 2**63, "7"]),
        ("max_tokens", [1, 50], [0, 51, 5.0, True]),
        ("n", [1, 4], [0, 5, None]),
        ("stop", ["x", ["a", "b"]], [["a"] * 5, [""], "x" * 65, 7, [1]]),
        ("stream", [True, False], [0, "yes"]),
        ("prompt", ["", "a" * 32_000], ["a" * 32_001, None, ["a"], [1, 2], "\ud800"]),
    ],
)
def test_each_field_at_its_edges_and_beyond(field, edge, beyond):
    for value in edge:
        read(json.dumps(GOOD | {field: value}).encode(), chat=False, most_tokens=50)
    for value in beyond:
        where = refused(GOOD | {field: value})
        assert field in where or (field == "stop" and where == "stop"), (field, value, where)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"hello", "body"),
        (b"[1, 2]", "body"),
        (b"null", "body"),
        (b'{"prompt": "a", "temperature": NaN}', "body"),
        (b'{"prompt": "a", "prompt": "b"}', "prompt"),
        (b'{"prompt": "\xff"}', "body"),
        (b'{"prompt": ' + b"[" * 100_000, "body"),
        (b'{"prompt": "a", "seed": ' + b"9" * 100_000 + b"}", "body"),
        (b'{"prompt": "a", "temprature": 1}', "temprature"),
        (b'{"prompt": "a", "token_ids": [1]}', "token_ids"),
        (b"{}", "prompt"),
    ],
)
def test_what_is_no_request_is_refused_by_its_place(body, where):
    assert refused(body) == where


def test_brackets_inside_text_are_no_depth():
    read(json.dumps({"prompt": '["{' * 50}).encode(), chat=False, most_tokens=50)


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        ([], "messages"),
        ([{"role": "user", "content": "a"}] * 65, "messages"),
        ([{"role": "tool", "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user"}], "messages[0]"),
        ([{"role": "user", "content": "a", "name": "b"}], "messages[0]"),
        ([{"role": "assistant", "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": "a" * 20_000}] * 2, "messages"),
        ("hi", "messages"),
    ],
)
def test_conversations(messages, where):
    assert refused({"messages": messages}, chat=True) == where
    assert read(json.dumps(TALK).encode(), chat=True, most_tokens=5).messages[0].content == "2+2"


@pytest.mark.parametrize("cuts", range(1, 7))
@pytest.mark.parametrize(
    ("stop", "text", "wanted"),
    [
        (["END"], "one ENtwo END three", "one ENtwo "),
        (["aab"], "aaab aab", "a"),
        (["x", "yz"], "abc y", "abc y"),
        ([], "all of it", "all of it"),
        (["ab", "b"], "cab", "c"),
    ],
)
def test_text_ends_before_a_stop_string_however_it_is_cut(cuts, stop, text, wanted):
    said: list[str] = []
    until = Until(stop, said.append)
    for start in range(0, len(text), cuts):
        until.add(text[start : start + cuts])
    until.end()
    assert "".join(said) == wanted
