"""What a teacher writes that its verifier accepts: R1's way of distilling, and of its own data.

Rejection sampling: several completions of every problem, the right ones kept, each different one
once. Text is all that passes from teacher to student, so their vocabularies may differ. (R1 §2.3.3)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minids.data.tokenizer import Tokenizer
from minids.nn.transformer import Transformer
from minids.reason.chat import Example, example
from minids.reason.passrate import attempt
from minids.reason.tasks import Problem, problem

SAMPLES = 4  # completions of a problem


def drawn(tasks: Sequence[tuple[str, int]], n: int, seed: int) -> list[Problem]:
    """n problems, tasks in turn."""
    return [problem(*tasks[i % len(tasks)], seed, i // len(tasks)) for i in range(n)]


def accepted(
    teacher: Transformer,
    tokenizer: Tokenizer,
    tasks: Sequence[tuple[str, int]],
    n: int,
    *,
    seed: int,
    longest: int,
    to: Tokenizer | None = None,
) -> Iterator[Example]:
    """Right answers among n completions, in the vocabulary `to` of the student."""
    tried = attempt(
        teacher, tokenizer, drawn(tasks, n // SAMPLES, seed), samples=SAMPLES, temperature=1.0,
        longest=longest, seed=seed,
    )  # fmt: skip
    right = {(a.problem.prompt, a.text) for a in tried if a.reward.verdict.right}
    for prompt, text in sorted(right):
        yield example(to or tokenizer, prompt, text)
