"""One sampling for RL: groups of completions with their rewards and advantages.

Axes: B problems, G completions of each, N = B·G rows, s tokens of a completion.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minids.data.tokenizer import Tokenizer
from minids.generate.settings import Sampling
from minids.nn.transformer import Transformer
from minids.reason import grpo
from minids.reason.chat import prompt_ids
from minids.reason.holes import HOLES, Verify
from minids.reason.passrate import Attempt, judged
from minids.reason.rewards import Weights
from minids.reason.rollout import Rollout, roll_out
from minids.reason.settings import RLConfig
from minids.reason.tasks import Problem, problem

EVEN = 1e-9  # deviation of a group below which its rewards are equal


class Sampled(NamedTuple):
    """One sampling, judged."""

    roll: Rollout
    attempts: list[Attempt]
    reward: Tensor  # [N] float64, NaN where the verifier failed
    advantage: Tensor  # [N] float32


def take_problems(rl: RLConfig, drawn: int) -> list[Problem]:
    """B problems from number `drawn` on, tasks in turn."""
    tasks = rl.tasks
    numbered = ((tasks[i % len(tasks)], i // len(tasks)) for i in range(drawn, drawn + rl.prompts))
    return [problem(name, level, rl.seed, index) for (name, level), index in numbered]


def sample(
    model: Transformer,
    tokenizer: Tokenizer,
    problems: list[Problem],
    rl: RLConfig,
    scale: str,
    generator: torch.Generator,
) -> Sampled:
    """A group of completions of each problem, judged."""
    rule = Sampling(temperature=rl.temperature, top_p=rl.top_p, top_k=rl.top_k)
    prompts = [prompt_ids(tokenizer, p.prompt) for p in problems]
    roll = roll_out(
        model, tokenizer, prompts, rl.group, rule, rl.max_new_tokens, generator,
        keep_routing=rl.keep_routing,
    )  # fmt: skip
    if not rl.keep_mask:
        roll = roll._replace(kept=None)
    weights = Weights(rl.pay_accuracy, rl.pay_format, rl.pay_consistency)
    attempts = judged(roll, tokenizer, problems, weights, payer(rl.verifier))
    paid = [a.reward.total if a.reward.scorable else math.nan for a in attempts]
    late = grpo.overlong(roll.lengths, rl.max_new_tokens, rl.overlong).double()
    reward = torch.tensor(paid, dtype=torch.float64) + late  # [N]
    advantage = grpo.advantages(reward, rl.group, scale).float()  # [N]
    advantage[even(reward, rl.group)] = 0.0  # not the dust that rounding leaves of equal rewards
    if rl.drop_truncated:
        truncated = torch.tensor([stop != "eos" for stop in roll.stops])  # [N]
        roll = roll._replace(mask=roll.mask.masked_fill(truncated[:, None], 0.0))
    return Sampled(roll, attempts, reward, advantage)


def payer(name: str) -> Verify:
    """Who pays: a rule of ours, or mathematics as others compare it."""
    if name == "math":
        from minids.reason.gym import same_mathematics

        return same_mathematics
    return HOLES[name]


def even(reward: Tensor, group: int) -> Tensor:
    """Rows of groups whose rewards are all equal.  reward [N] → [N] bool"""
    spread = grpo.deviation(reward.view(-1, group))  # [B 1]
    return (spread < EVEN).expand(-1, group).flatten()


def described(sampled: Sampled, group: int) -> dict[str, Any]:
    """Numbers of a sampling for screen and metrics."""
    reward, attempts = sampled.reward, sampled.attempts
    known = reward[~reward.isnan()]
    n = max(1, len(attempts))
    sizes = {True: [0, 0], False: [0, 0]}  # completions and tokens, right and wrong
    for a in attempts:
        sizes[a.reward.verdict.right][0] += 1
        sizes[a.reward.verdict.right][1] += len(a.tokens)
    return {
        "reward": known.mean().item() if len(known) else 0.0,
        "reward_best": known.max().item() if len(known) else 0.0,
        "accuracy": sum(a.reward.accuracy for a in attempts) / n,
        "truth": sum(a.reward.truth for a in attempts) / n,
        "format": sum(a.reward.format for a in attempts) / n,
        "consistency": sum(a.reward.consistency for a in attempts) / n,
        "unscorable": sum(not a.reward.scorable for a in attempts),
        "length": sum(len(a.tokens) for a in attempts) / n,
        "length_right": sizes[True][1] / max(1, sizes[True][0]),
        "length_wrong": sizes[False][1] / max(1, sizes[False][0]),
        "truncated": sum(s != "eos" for s in sampled.roll.stops) / n,
        "no_signal": even(reward, group).double().mean().item(),
    }


def with_signal(made: Sampled, group: int) -> list[Sampled]:
    """The groups of a sampling whose rewards differ, one by one."""
    found = []
    for start in range(0, len(made.reward), group):
        rows = slice(start, start + group)
        if not made.advantage[rows].any():
            continue
        roll = made.roll
        part = Rollout(
            roll.prompts[rows], roll.tokens[rows], roll.mask[rows], roll.logp[rows],
            roll.stops[rows], None if roll.kept is None else roll.kept[rows],
            None if roll.asked is None else roll.asked[rows],
        )  # fmt: skip
        found.append(Sampled(part, made.attempts[rows], made.reward[rows], made.advantage[rows]))
    return found


def joined(parts: list[Sampled], pad: int) -> Sampled:
    """Groups as one sampling again, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    s = max(p.roll.tokens.shape[1] for p in parts)

    def wide(x: Tensor, value: float, columns: int = s) -> Tensor:
        axes = [0, 0] * (x.ndim - 2) + [0, columns - x.shape[1]]
        return torch.nn.functional.pad(x, axes, value=value)

    kept, asked = [p.roll.kept for p in parts], [p.roll.asked for p in parts]
    t = max(0 if a is None else a.shape[1] for a in asked)
    roll = Rollout(
        [prompt for p in parts for prompt in p.roll.prompts],
        torch.cat([wide(p.roll.tokens, pad) for p in parts]),
        torch.cat([wide(p.roll.mask, 0) for p in parts]),
        torch.cat([wide(p.roll.logp, 0) for p in parts]),
        [stop for p in parts for stop in p.roll.stops],
        None if kept[0] is None else torch.cat([wide(k, 1) for k in kept if k is not None]),
        None if asked[0] is None else torch.cat([wide(a, -1, t) for a in asked if a is not None]),
    )
    attempts = [a for p in parts for a in p.attempts]
    return Sampled(
        roll,
        attempts,
        torch.cat([p.reward for p in parts]),
        torch.cat([p.advantage for p in parts]),
    )
