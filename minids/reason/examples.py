"""Where examples come from: JSON lines, a task's reference solutions, the mixed text of a base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason.chat import Example, Turn, conversation
from minids.reason.corpus import base_text, worked_examples
from minids.reason.settings import parse_tasks

LONGEST_LINE = 1 << 20  # bytes
FORMS = "{prompt, completion} or {messages: [{role, content}, …]}"


def made(tokenizer: Tokenizer, plan: dict[str, Any]) -> list[Example]:
    """The examples that a run's plan names: data | task, examples, base, seed."""
    if plan["data"]:
        return list(from_lines(tokenizer, Path(plan["data"])))
    tasks = parse_tasks(plan["task"])
    make = base_text if plan["base"] else worked_examples
    return list(make(tokenizer, tasks, plan["examples"], plan["seed"]))


def from_lines(tokenizer: Tokenizer, path: Path) -> Iterator[Example]:
    """One example a line. Raises UserError naming the line that is not one."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}", f"{error.strerror}", "a file of JSON lines") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                yield conversation(tokenizer, turns_of(line))
            except UserError as error:
                raise UserError(where, error.line(), error.allowed) from None
            except (ValueError, RecursionError):
                raise UserError(where, "is no line of JSON", FORMS) from None


def turns_of(line: bytes) -> list[Turn]:
    """A line's turns. Raises UserError or ValueError."""
    if len(line) > LONGEST_LINE:
        raise UserError("line", f"{len(line):,} bytes", f"up to {LONGEST_LINE:,}")
    row = json.loads(line)
    if not isinstance(row, dict):
        raise UserError("line", f"a {type(row).__name__}", FORMS)
    if "messages" in row:
        messages = row["messages"]
        known = isinstance(messages, list) and all(isinstance(m, dict) for m in messages)
        pairs = [(m.get("role"), m.get("content")) for m in messages] if known else [(None, None)]
    else:
        pairs = [("user", row.get("prompt")), ("assistant", row.get("completion"))]
    turns = [Turn(r, t) for r, t in pairs if isinstance(r, str) and isinstance(t, str)]
    if len(turns) < len(pairs):
        raise UserError("line", f"has {', '.join(map(str, row)) or 'nothing'}", FORMS)
    return turns
