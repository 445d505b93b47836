"""What a client may ask: the JSON of a request, held against ranges before a model sees it.

The fields are those of OpenAI's `/v1/completions` and `/v1/chat/completions`. A field that is not
known is refused, never ignored: a client that misspells `temperature` must hear of it. Token ids
are never taken from a client, so nobody can send the special tokens of a chat.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from minids.errors import UserError
from minids.generate.settings import Sampling

DEEPEST = 16  # nested lists and objects
LONGEST_TEXT = 32_000  # characters of one request
MOST_MESSAGES = 64
MOST_STOPS, LONGEST_STOP = 4, 64
MOST_CHOICES = 4
ROLES = ("system", "user", "assistant")
COMMON = ("model", "max_tokens", "temperature", "top_p", "top_k", "seed", "n", "stop", "stream")


class Message(NamedTuple):
    """What one side of a conversation said."""

    role: str
    content: str


class Request(NamedTuple):
    """One checked request; `messages` of a chat, `prompt` otherwise."""

    prompt: str
    messages: list[Message]
    sampling: Sampling
    max_tokens: int
    n: int
    stop: list[str]
    stream: bool


def read(body: bytes, *, chat: bool, most_tokens: int) -> Request:
    """The bytes of a body → Request. Raises UserError naming the field."""
    fields = parse(body)
    own = "messages" if chat else "prompt"
    known = (own, *COMMON)
    for name in fields:
        if name not in known:
            raise UserError(name, "is unknown", ", ".join(known))
    if own not in fields:
        raise UserError(own, "is missing", "text" if not chat else "a list of messages")
    stop = fields.get("stop") or []
    return Request(
        prompt="" if chat else text(own, fields[own], low=0),
        messages=messages(fields[own]) if chat else [],
        sampling=Sampling(
            temperature=number("temperature", fields.get("temperature", 1.0)),
            top_p=number("top_p", fields.get("top_p", 1.0)),
            top_k=whole("top_k", fields.get("top_k", 0), 0, 10_000_000),
            seed=whole("seed", fields.get("seed", 1), 0, (1 << 63) - 1),
        ),
        max_tokens=whole("max_tokens", fields.get("max_tokens", most_tokens), 1, most_tokens),
        n=whole("n", fields.get("n", 1), 1, MOST_CHOICES),
        stop=stops([stop] if isinstance(stop, str) else stop),
        stream=truth("stream", fields.get("stream", False)),
    )


def parse(body: bytes) -> dict[str, Any]:
    """JSON as the standard has it: one object, no NaN, no field twice, nothing nested deeply."""
    try:
        written = body.decode("utf-8")
        check_depth(written)
        found = json.loads(written, parse_constant=no_constant, object_pairs_hook=no_twins)
    except UnicodeDecodeError as error:
        raise UserError("body", f"is not UTF-8 at byte {error.start}", "JSON in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UserError("body", f"is not JSON: {error}", "one JSON object") from error
    if not isinstance(found, dict):
        raise UserError("body", f"is {kind(found)}", "one JSON object")
    return found


def check_depth(written: str) -> None:
    """Counted before parsing: a parser that recurses would meet its own limit first."""
    depth, inside, escaped = 0, False, False
    for character in written:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            if depth > DEEPEST:
                raise UserError("body", "is nested too deeply", f"up to {DEEPEST} levels")
        elif character in "]}":
            depth -= 1


def no_constant(name: str) -> None:
    raise UserError("body", f"holds {name}, which is not JSON", "finite numbers")


def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise UserError(twin, "stands there twice", "each field once")
    return found


def messages(value: Any) -> list[Message]:
    """A conversation that ends with what the user said."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_MESSAGES:
        raise UserError("messages", f"is {kind(value)}", f"a list of 1 … {MOST_MESSAGES} messages")
    found = []
    for place, item in enumerate(value):
        where = f"messages[{place}]"
        if not isinstance(item, dict) or set(item) != {"role", "content"}:
            raise UserError(where, f"is {kind(item)}", "an object with role and content alone")
        if item["role"] not in ROLES:
            raise UserError(f"{where}.role", f"is {item['role']!r}", ", ".join(ROLES))
        found.append(Message(item["role"], text(f"{where}.content", item["content"], low=1)))
    if found[-1].role != "user":
        raise UserError(f"messages[{len(found) - 1}].role", f"is {found[-1].role}", "user, at last")
    if sum(len(message.content) for message in found) > LONGEST_TEXT:
        raise UserError("messages", "are too long", f"up to {LONGEST_TEXT:,} characters in all")
    return found


def stops(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST_STOPS:
        raise UserError("stop", f"is {kind(value)}", f"a text or a list of up to {MOST_STOPS}")
    return [text("stop", item, low=1, high=LONGEST_STOP) for item in value]


def text(where: str, value: Any, *, low: int, high: int = LONGEST_TEXT) -> str:
    """A string that can be written as UTF-8: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str):
        raise UserError(where, f"is {kind(value)}", "text")
    if not low <= len(value) <= high:
        raise UserError(where, f"has {len(value):,} characters", f"{low} … {high:,}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(where, "holds half of a surrogate pair", "whole characters") from error
    return value


def number(where: str, value: Any) -> float:
    """The range is Sampling's; JSON's true is an int for Python, not for us."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(where, f"is {kind(value)}", "a number")
    return float(value) if abs(value) < 1e9 else 1e9


def whole(where: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        said = f"{value} is out of range" if type(value) is int else f"is {kind(value)}"
        raise UserError(where, said[:60], f"a whole number, {low} … {high:,}")
    return value


def truth(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(where, f"is {kind(value)}", "true or false")
    return value


def kind(value: Any) -> str:
    """What JSON calls it."""
    names: dict[type, str] = {dict: "an object", str: "text", bool: "true or false"}
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else names.get(type(value), "a number")


def sendable(held: str, stop: list[str]) -> tuple[int, bool]:
    """How many characters of a growing text may be sent, and whether a stop string was met.

    Nothing from the earliest stop string on; without one, all but an end that may be its beginning.
    """
    met = [place for s in stop if (place := held.find(s)) >= 0]
    if met:
        return min(met), True
    for start in range(len(held)):
        if any(s.startswith(held[start:]) for s in stop):
            return start, False
    return len(held), False


class Until:
    """Text as it grows, up to the first stop string."""

    def __init__(self, stop: list[str], send: Callable[[str], None]) -> None:
        self.stop, self.send = stop, send
        self.held, self.done = "", False

    def add(self, piece: str) -> bool:
        """Take a piece, pass on what is safe → whether a stop string was met."""
        if self.done:
            return True
        self.held += piece
        safe, self.done = sendable(self.held, self.stop)
        if safe:
            self.send(self.held[:safe])
        self.held = self.held[safe:]
        return self.done

    def end(self) -> None:
        """No more comes: what was held back began no stop string."""
        if not self.done and self.held:
            self.send(self.held)
        self.done = True
