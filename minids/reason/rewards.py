"""What a completion earns: R1's two rules, accuracy and format, and nothing learned. (R1 §2.2.2)

A completion is `<think>…</think><answer>…</answer>` and nothing else. Two answers would be two
tries, so exactly one of each tag, in this order. Format pays little, and only for an answer that
could be read; else a policy learns to write empty tags and rests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minids.reason.holes import exact
from minids.reason.tasks import Problem
from minids.reason.verify import LONGEST_COMPLETION, Verdict, guarded

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class Weights(NamedTuple):
    """Share of each component in the reward."""

    accuracy: float = 1.0
    format: float = 0.1
    consistency: float = 0.0  # share of the thinking that is in the task's own language


PLAIN = Weights()


class Reward(NamedTuple):
    """One completion, judged."""

    total: float
    accuracy: float  # 0 or 1
    format: float  # 0 or 1
    consistency: float  # 0 … 1
    verdict: Verdict
    scorable: bool  # False: the verifier failed; the completion is left out of the update
    truth: float = 0.0  # 1 where the problem's own rule says so, whoever pays


def split_completion(text: str) -> tuple[str, str] | Verdict:
    """(thinking, answer), or why it has not the form."""
    if len(text) > LONGEST_COMPLETION:
        return Verdict("too_big", f"{len(text):,} characters, at most {LONGEST_COMPLETION:,}")
    for tag in TAGS:
        if (n := text.count(tag)) != 1:
            return Verdict("malformed", f"{tag} stands there {n} times, not once")
    a, b, c, d = (text.index(tag) for tag in TAGS)
    between = text[b + len("</think>") : c]
    after = text[d + len("</answer>") :]
    if not a < b < c < d or text[:a].strip() or between.strip() or after.strip():
        return Verdict("malformed", "tags out of order, or text outside of them")
    return text[a + len("<think>") : b], text[c + len("<answer>") : d]


def judge(
    problem: Problem,
    completion: str,
    weights: Weights = PLAIN,
    verify: Callable[[Problem, str], Verdict] = exact,
) -> Reward:
    """The reward of a completion; `verify` replaces the problem's own rule (and may be wrong)."""
    parts = split_completion(completion)
    if isinstance(parts, Verdict):
        return Reward(0.0, 0.0, 0.0, 0.0, parts, True)
    thinking, answer = parts
    verdict = guarded(lambda text: verify(problem, text), answer)
    accuracy, form = float(verdict.right), float(verdict.well_formed)
    own = consistency(thinking, problem.alphabet)
    truth = float(guarded(problem.verify, answer).right)
    total = weights.accuracy * accuracy + weights.format * form + weights.consistency * form * own
    scorable = verdict.kind != "unscorable"
    return Reward(total if scorable else 0.0, accuracy, form, own, verdict, scorable, truth)


def consistency(thinking: str, alphabet: str) -> float:
    """Share of characters that the task's scratchpad uses; 0 for no thinking at all."""
    return sum(c in alphabet for c in thinking) / len(thinking) if thinking else 0.0
