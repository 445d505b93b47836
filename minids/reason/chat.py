"""The chat template: who speaks is a special token, so nobody can type it.

    <|bos|> <|user|> 2+2 <|assistant|> <think> … </think> <answer> 4 </answer> <|eos|>

The tags of thinking and answering are special tokens too, but only a completion may hold them: in
what a user writes they stay letters. Learned is what the assistant says, its end token included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minids.data.tokenizer import REASONING, Tokenizer
from minids.errors import UserError

TAG = re.compile("(" + "|".join(map(re.escape, REASONING)) + ")")
ROLES = ("user", "assistant")


class Example(NamedTuple):
    """One conversation as tokens, and which of them are to be foretold."""

    tokens: list[int]
    learn: list[bool]  # as long as tokens; the first is never learned


class Turn(NamedTuple):
    """What one side says."""

    role: str  # user · assistant
    text: str


def encode_tagged(tokenizer: Tokenizer, text: str) -> list[int]:
    """A completion as ids, its tags as special tokens."""
    ids: list[int] = []
    for part in TAG.split(text):
        ids += [tokenizer.specials[part]] if part in REASONING else tokenizer.encode(part)
    return ids


def decode_tagged(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of a completion with its tags spelled out, without end and padding."""
    silent = {tokenizer.bos, tokenizer.eos, tokenizer.pad}
    return tokenizer.decode([i for i in ids if i not in silent], specials=True)


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A question, up to where the assistant begins."""
    special = tokenizer.specials
    user = [special["<|user|>"], *tokenizer.encode(prompt)]
    return [tokenizer.bos, *user, special["<|assistant|>"]]


def conversation(tokenizer: Tokenizer, turns: Sequence[Turn]) -> Example:
    """Turns as one example. Raises UserError for a role or an order that does not exist."""
    tokens, learn = [tokenizer.bos], [False]
    for number, turn in enumerate(turns):
        if turn.role != ROLES[number % 2]:
            raise UserError(
                f"turn {number + 1}", f"{turn.role!r} speaks", f"{ROLES[number % 2]} at this place"
            )
        own = turn.role == "assistant"
        if own and not turn.text:
            raise UserError(f"turn {number + 1}", "the assistant says nothing", "some text")
        ids = encode_tagged(tokenizer, turn.text) if own else tokenizer.encode(turn.text)
        end = [tokenizer.eos] if own else []
        tokens += [tokenizer.specials[f"<|{turn.role}|>"], *ids, *end]
        learn += [False, *[own] * (len(ids) + len(end))]
    if not any(learn):
        raise UserError("conversation", "the assistant says nothing", "an answer to learn")
    return Example(tokens, learn)


def example(tokenizer: Tokenizer, prompt: str, completion: str) -> Example:
    """A question with its answer."""
    return conversation(tokenizer, [Turn("user", prompt), Turn("assistant", completion)])


def everything(found: Example) -> Example:
    """The same, learned from its first token on: text as a base model reads it."""
    return Example(found.tokens, [False, *[True] * (len(found.tokens) - 1)])
