"""Test-time compute: every closed form against all subsets, budgets against their own rule."""

import random
from collections import Counter
from itertools import combinations
from statistics import mean

import pytest
import torch

from minids.config import ModelConfig
from minids.data.tokenizer import Tokenizer
from minids.nn.transformer import Transformer
from minids.reason import budget
from minids.reason.compute import best_of_k, bootstrap, majority_at_k, pass_at_k, points_at
from minids.reason.passrate import Attempt
from minids.reason.rewards import judge
from minids.reason.tasks import problem


def subsets(n, k):
    return list(combinations(range(n), k))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_pass_at_k_is_the_mean_over_all_subsets(k):
    for c in range(8):
        right = [i < c for i in range(7)]
        by_hand = mean(any(right[i] for i in s) for s in subsets(7, k)) if c < 8 else 1
        assert pass_at_k(7, min(c, 7), k) == pytest.approx(by_hand)


@pytest.mark.parametrize("k", range(1, 8))
def test_the_vote_is_the_mean_over_all_subsets_with_ties_by_lot(k):
    stream = random.Random(k)

    def won(drawn):
        votes = Counter(a for a in drawn if a is not None)
        best = [a for a, n in votes.items() if n == max(votes.values())]
        return ("A" in best) / len(best) if best else 0.0

    for _ in range(20):
        answers = [stream.choice(["A", "A", "B", "C", "D", None]) for _ in range(7)]
        by_hand = mean(won([answers[i] for i in s]) for s in subsets(7, k))
        assert majority_at_k(answers, "A", k) == pytest.approx(by_hand)


@pytest.mark.parametrize("k", range(1, 7))
def test_the_best_of_k_is_the_mean_over_all_subsets(k):
    stream = random.Random(k)
    for _ in range(20):
        score = [stream.randint(0, 3) for _ in range(6)]
        right = [stream.random() < 0.5 for _ in range(6)]

        def chosen(s, score=score, right=right):
            top = max(score[i] for i in s)
            return mean(right[i] for i in s if score[i] == top)

        by_hand = mean(chosen(s) for s in subsets(6, k))
        assert best_of_k(score, right, k) == pytest.approx(by_hand)


def test_a_judge_that_knows_is_pass_at_k_and_a_vote_of_one_is_a_try():
    right = [True, False, False, True, False]
    for k in range(1, 6):
        assert best_of_k([float(r) for r in right], right, k) == pytest.approx(pass_at_k(5, 2, k))
    assert majority_at_k(["A" if r else "B" for r in right], "A", 1) == pytest.approx(0.4)


def test_points_count_tokens_and_take_right_answers_for_one():
    made = problem("addition", 1, 1, 0)
    texts = [made.completion, f"<think></think><answer> {made.answer}</answer>", "x", "x"]
    tried = [
        Attempt(made, t, [0] * 5, judge(made, t), confidence=-float(i)) for i, t in enumerate(texts)
    ]
    found = {(p.way, p.k): p for p in points_at(tried, 4, (1, 2, 4))}
    assert found["pass", 2].values == [pytest.approx(5 / 6)]
    assert found["pass", 4].tokens == 20
    assert found["vote", 4].values == [1.0]
    assert found["confidence", 4].values == [1.0] and found["confidence", 1].values == [0.5]


def test_the_bootstrap_covers_the_mean_and_shrinks():
    stream = random.Random(3)
    few, many = ([stream.random() for _ in range(n)] for n in (20, 2000))
    for values in (few, many):
        at, low, high = bootstrap(values)
        assert low < at < high
    assert (bootstrap(many)[2] - bootstrap(many)[1]) < (bootstrap(few)[2] - bootstrap(few)[1]) / 5


TEXTS = Tokenizer.of_characters("0123456789+= wait")
BEGIN, END, ANSWER = (TEXTS.specials[t] for t in ("<think>", "</think>", "<answer>"))


def test_a_budget_closes_thinking_and_keeps_what_was_shorter():
    a, b, c, d = TEXTS.encode("1234")
    assert budget.closed(TEXTS, [BEGIN, a, b, c, d], 2) == [BEGIN, a, b, END, ANSWER]
    assert budget.closed(TEXTS, [BEGIN, a, END, ANSWER, b], 9) == [BEGIN, a, END, ANSWER]
    assert budget.closed(TEXTS, [BEGIN], 0) == [BEGIN, END, ANSWER]
    assert budget.closed(TEXTS, [BEGIN, a, TEXTS.eos], 9) == [BEGIN, a, END, ANSWER]


def test_wait_opens_thinking_again_unless_the_budget_is_spent():
    a = TEXTS.encode("1")[0]
    said = [BEGIN, a, END, ANSWER]
    assert budget.reopened(TEXTS, said, 20) == [BEGIN, a, *TEXTS.encode(" wait ")]
    assert budget.reopened(TEXTS, said, 5) == said


def test_thinking_is_never_longer_than_its_budget():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
             "intermediate_size": 48, "max_position_embeddings": 128}  # fmt: skip
    model = Transformer(ModelConfig(vocab_size=TEXTS.vocab_size, **sizes))
    model.init_weights(torch.Generator().manual_seed(1))
    made = [problem("addition", 2, 1, i) for i in range(6)]
    for most, waits in ((0, 0), (4, 0), (30, 2)):
        tried = budget.think_for(
            model.eval(), TEXTS, made, budget=most, waits=waits, temperature=1.0
        )
        assert [t.problem for t in tried] == made
        for one in tried:
            assert one.tokens.count(ANSWER) >= 1 and one.tokens[0] == BEGIN
            assert one.tokens.index(END) <= most + 1
