"""How often a model is right: completions of problems, judged by the problems' own rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from minids.data.tokenizer import Tokenizer
from minids.generate.settings import Sampling
from minids.nn.transformer import Transformer
from minids.reason.chat import decode_tagged, prompt_ids
from minids.reason.holes import Verify, exact
from minids.reason.rewards import PLAIN, Reward, Weights, judge
from minids.reason.rollout import Rollout, roll_out
from minids.reason.tasks import Problem

ROWS = 512  # completions sampled together


class Attempt(NamedTuple):
    """One completion and its verdict."""

    problem: Problem
    text: str
    tokens: list[int]
    reward: Reward
    confidence: float = 0.0  # mean log-probability of its tokens, nats


class PassRate(NamedTuple):
    """Over one completion or more of each problem."""

    hits: int
    n: int
    tokens: float  # mean length of a completion
    well_formed: int

    @property
    def value(self) -> float:
        """Share that was right."""
        return self.hits / self.n if self.n else 0.0


def judged(
    roll: Rollout,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    weights: Weights = PLAIN,
    verify: Verify = exact,
) -> list[Attempt]:
    """Every completion of a rollout with its reward; `problems` in the order of its groups."""
    group = len(roll.prompts) // len(problems)
    found = []
    for row, length in enumerate(roll.lengths.long().tolist()):
        ids = roll.tokens[row, :length].tolist()
        text, problem = decode_tagged(tokenizer, ids), problems[row // group]
        sure = roll.logp[row, :length].mean().item() if length else -math.inf
        found.append(Attempt(problem, text, ids, judge(problem, text, weights, verify), sure))
    return found


def attempt(
    model: Transformer,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    samples: int = 1,
    temperature: float = 0.6,
    top_p: float = 1.0,
    longest: int = 96,
    seed: int = 0,
) -> list[Attempt]:
    """`samples` completions of each problem, a problem's side by side, the same for equal seeds."""
    device = model.embed_tokens.weight.device
    rule, found = Sampling(temperature=temperature, top_p=top_p), []
    at_once = max(1, ROWS // samples)
    for start in range(0, len(problems), at_once):
        part = problems[start : start + at_once]
        prompts = [prompt_ids(tokenizer, p.prompt) for p in part]
        generator = torch.Generator(device).manual_seed(seed + start)
        roll = roll_out(model, tokenizer, prompts, samples, rule, longest, generator)
        found += judged(roll, tokenizer, part)
    return found


def pass_rate(attempts: Sequence[Attempt]) -> PassRate:
    """Right ones among all."""
    n = len(attempts)
    return PassRate(
        sum(a.reward.verdict.right for a in attempts),
        n,
        sum(len(a.tokens) for a in attempts) / max(1, n),
        sum(a.reward.verdict.well_formed for a in attempts),
    )
