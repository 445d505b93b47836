"""How long a model thinks, decided from outside: a budget that ends it, a word that prolongs it.

Budget forcing (s1, 2501.19393): thinking that is still going on after so many tokens is closed for
the model, which must answer now; thinking that ends is opened again, its end replaced by "wait".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minids.data.tokenizer import Tokenizer
from minids.generate.settings import Sampling
from minids.nn.transformer import Transformer
from minids.reason.chat import decode_tagged, prompt_ids
from minids.reason.passrate import ROWS, Attempt
from minids.reason.rewards import judge
from minids.reason.rollout import roll_out
from minids.reason.tasks import Problem

WAIT = " wait "
ANSWER = 24  # tokens that an answer may have


def think_for(
    model: Transformer,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    budget: int,
    waits: int = 0,
    temperature: float = 0.6,
    seed: int = 0,
) -> list[Attempt]:
    """One completion of each problem, with at most `budget` tokens of thinking."""
    device = model.embed_tokens.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    rule = Sampling(temperature=temperature)

    def go_on(texts: list[list[int]], longest: int) -> list[list[int]]:
        found = []
        for start in range(0, len(texts), ROWS):
            part = texts[start : start + ROWS]
            roll = roll_out(model, tokenizer, part, 1, rule, longest, generator)
            lengths = roll.lengths.long().tolist()
            found += [roll.tokens[i, :n].tolist() for i, n in enumerate(lengths)]
        return found

    asked = [prompt_ids(tokenizer, p.prompt) for p in problems]
    said = [[tokenizer.specials["<think>"]] for _ in problems]
    for turn in range(waits + 1):
        if turn:
            said = [reopened(tokenizer, own, budget) for own in said]
        open_ = [i for i, own in enumerate(said) if is_open(tokenizer, own, budget)]
        if open_ and budget:
            more = go_on([asked[i] + said[i] for i in open_], budget)
            for i, own in zip(open_, more, strict=True):
                said[i] += own
        said = [closed(tokenizer, own, budget) for own in said]
    ends = go_on([q + own for q, own in zip(asked, said, strict=True)], ANSWER)
    found = []
    for problem, own, end in zip(problems, said, ends, strict=True):
        ids = own + end
        text = decode_tagged(tokenizer, ids)
        found.append(Attempt(problem, text, ids, judge(problem, text)))
    return found


def closed(tokenizer: Tokenizer, said: list[int], budget: int) -> list[int]:
    """Up to the end of thinking: its own, or one that the budget puts there; then the answer."""
    end = tokenizer.specials["</think>"]
    own = said[: said.index(end)] if end in said else said[: budget + 1]
    own = [i for i in own[: budget + 1] if i != tokenizer.eos]
    return [*own, end, tokenizer.specials["<answer>"]]


def reopened(tokenizer: Tokenizer, said: list[int], budget: int) -> list[int]:
    """Thinking that had ended below its budget, with another word put in place of its end."""
    own = said[: said.index(tokenizer.specials["</think>"])]
    longer = own + tokenizer.encode(WAIT)
    return longer if len(longer) <= budget else said


def is_open(tokenizer: Tokenizer, said: list[int], budget: int) -> bool:
    """Whether there is something left to think."""
    return tokenizer.specials["</think>"] not in said and len(said) <= budget
