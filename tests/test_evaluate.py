"""Bits per byte against the definition, windows, intervals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minids.config import load
from minids.data.load import Document, open_data
from minids.data.tales import Fact
from minids.evaluate import (
    answered_right,
    bits_per_byte,
    cloze,
    ending_logprobs,
    grouped,
    held_out_facts,
    quick_eval,
    ratio,
    wilson,
    windows,
)
from minids.nn.transformer import Transformer

CONTEXT = 23


def document(tokenizer, text: str, floor_bits: float | None = None) -> Document:
    tokens = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
    return Document(text, tokens, len(text.encode()), floor_bits)


def bits_by_definition(model, tokens: list[int]) -> float:
    """One document, one forward pass, no padding."""
    with torch.no_grad():
        logprobs = model(torch.tensor([tokens[:-1]]))[0].double().log_softmax(-1)
    picked = logprobs[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])]
    return -picked.sum().item() / math.log(2)


TEXTS = ["a", "Mia met Tom.", "né 日本", "a long story about a lamp", "", "x" * 22]


def test_documents_are_scored_as_if_each_were_alone(tiny_model, tokenizer):
    model, documents = tiny_model(), [document(tokenizer, text) for text in TEXTS]
    score = bits_per_byte(model, documents, 60)
    for found, d in zip(score.bits, documents, strict=True):
        assert found == pytest.approx(bits_by_definition(model, d.tokens), rel=1e-5)
    assert score.n_tokens == sum(len(d.tokens) - 1 for d in documents)
    assert score.n_windows == len(TEXTS)
    assert score.bpb.value == pytest.approx(sum(score.bits) / sum(len(t.encode()) for t in TEXTS))


def test_a_long_document_is_read_in_overlapping_windows(tiny_model, tokenizer):
    model, d = tiny_model(), document(tokenizer, "The cat sat on the mat, then it left it, and")
    n = len(d.tokens) - 1
    expected = bits_by_definition(model, d.tokens[: CONTEXT + 1])
    seen = CONTEXT
    while seen < n:
        end = min(n, seen + CONTEXT // 2)
        window = d.tokens[end - CONTEXT : end + 1]
        fresh = seen - (end - CONTEXT)
        expected += bits_by_definition(model, window) - bits_by_definition(
            model, window[: fresh + 1]
        )
        seen = end
    score = bits_per_byte(model, [d, document(tokenizer, "short")], CONTEXT)
    assert score.n_windows == 4
    assert score.bits[0] == pytest.approx(expected, rel=1e-5)


@given(n=st.integers(1, 400), context=st.integers(2, 50))
def test_windows_score_every_target_once_with_half_a_context_of_history(n, context):
    found = windows(7, n, context)
    assert [t for w in found for t in range(w.fresh, w.end)] == list(range(n))
    for w in found:
        assert w.document == 7
        assert 0 <= w.start <= w.fresh < w.end <= w.start + context
        assert w.start == 0 or w.fresh - w.start >= context - context // 2


@given(st.lists(st.integers(1, 9000), max_size=40))
def test_batches_hold_every_item_once_and_never_too_many_columns(lengths):
    items = list(range(len(lengths)))
    batches = list(grouped(items, lengths))
    assert sorted(i for batch in batches for i in batch) == items
    for batch in batches:
        columns = len(batch) * max(lengths[i] for i in batch)
        assert columns <= 8192 or len(batch) == 1


def test_a_model_that_knows_nothing_needs_log2_of_the_vocabulary(tiny_model, tokenizer):
    model = tiny_model()
    model.lm_head.weight.data.zero_()
    score = bits_per_byte(model, [document(tokenizer, "abcdefg", floor_bits=16.0)], CONTEXT)
    exact = 8 * math.log2(tokenizer.vocab_size)  # seven bytes and the end token
    assert score.bits[0] == pytest.approx(exact, rel=1e-6)
    assert score.loss == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)
    assert score.floor_bpb == 16 / 7
    assert score.above_floor.value == pytest.approx(exact / 16 - 1)


def test_without_every_floor_there_is_none(tiny_model, tokenizer):
    documents = [document(tokenizer, "a", 3.0), document(tokenizer, "b")]
    score = bits_per_byte(tiny_model(), documents, CONTEXT)
    assert score.floor_bpb is None
    assert score.above_floor is None


def test_evaluating_changes_nothing(tiny_model, tokenizer):
    model = tiny_model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    random = torch.random.get_rng_state()
    documents = [document(tokenizer, text) for text in TEXTS]
    assert bits_per_byte(model, documents, CONTEXT) == bits_per_byte(model, documents, CONTEXT)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), random)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_equal_ratios_leave_no_doubt():
    value, low, high = ratio([2.0, 4.0, 10.0], [1.0, 2.0, 5.0])
    assert (value, low, high) == (2.0, 2.0, 2.0)


def test_one_document_says_nothing_about_others():
    found = ratio([2.0], [1.0])
    assert found.value == 2.0
    assert not found.is_known
    assert ratio([2.0, 3.0], [1.0, 1.0]).is_known


def test_the_interval_of_a_ratio_holds_the_truth_19_times_in_20():
    generator = torch.Generator().manual_seed(5)
    inside = 0
    for _ in range(400):
        size = 1 + 9 * torch.rand(150, generator=generator)
        bits = size * (1.5 + 0.3 * torch.randn(150, generator=generator))
        _, low, high = ratio(bits.tolist(), size.tolist())
        inside += low <= 1.5 <= high
    assert 370 <= inside <= 392  # 380 expected; the band is ± 2.5 deviations


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),  # from the closed formula, by hand
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_intervals_are_the_published_ones(hits, n, low, high):
    share, found_low, found_high = wilson(hits, n)
    assert share == hits / n
    assert (found_low, found_high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_no_question_means_no_knowledge():
    assert math.isnan(wilson(0, 0).value)
    assert wilson(0, 0)[1:] == (0.0, 1.0)


FACTS = [
    Fact("The lamp belonged to", " Mia", [" Tom", " the old fox", " Mira"], "owner"),
    Fact("He came to the", " dock", [" creek"], "place"),
    Fact("She took the iron", " kite", [" kettle", " drum"], "thing"),
    Fact("The", " tea", [" teapot", " te"], "thing"),
]


def answers_by_definition(model, fact: Fact, tokenizer) -> bool:
    """Whole texts, one by one, no cache: the shared beginning costs all of them the same."""
    bits = []
    for choice in (fact.answer, *fact.distractors):
        ids = [tokenizer.bos, *tokenizer.encode(fact.prefix + choice)]
        bits.append(bits_by_definition(model, ids))
    return all(bits[0] < other for other in bits[1:])


@pytest.mark.parametrize("seed", range(6))
def test_cloze_compares_whole_texts(tiny_model, tokenizer, seed):
    model = tiny_model(seed)
    found = answered_right(model, FACTS, tokenizer)
    assert found == [answers_by_definition(model, fact, tokenizer) for fact in FACTS]


def test_endings_have_the_probability_they_have_alone(tiny_model, tokenizer):
    model = tiny_model()
    prompts = [[tokenizer.bos, 5, 6, 7], [tokenizer.bos, 9]]
    endings = [[[1, 2, 3], [4]], [[8], [9, 10], [11]]]
    for prompt, ends, scores in zip(
        prompts, endings, ending_logprobs(model, prompts, endings, tokenizer.pad), strict=True
    ):
        for ending, score in zip(ends, scores, strict=True):
            whole = bits_by_definition(model, prompt + ending) - bits_by_definition(model, prompt)
            assert score == pytest.approx(-whole * math.log(2), abs=1e-4)


def test_cloze_counts_by_kind_and_knows_chance(tiny_model, tokenizer):
    lines = cloze(tiny_model(), FACTS, tokenizer)
    assert [line.kind for line in lines] == ["owner", "place", "thing"]
    assert [line.n for line in lines] == [1, 1, 2]
    assert [line.chance for line in lines] == [1 / 4, 1 / 2, 1 / 3]
    assert all(line.share.low <= line.hits / line.n <= line.share.high for line in lines)


def test_a_model_that_knows_nothing_never_beats_a_distractor(tiny_model, tokenizer):
    model = tiny_model()
    model.lm_head.weight.data.zero_()  # all equal: a tie is not knowing
    even = [Fact("ab", " x", [" y", " z"], "thing")]
    assert [line.hits for line in cloze(model, even, tokenizer)] == [0]


@pytest.fixture(scope="module")
def tales_data():
    return open_data(load("tiny", ["data.documents=400", "train.eval_documents=7"]))


def test_questions_come_from_held_out_tales_one_of_a_kind_from_each(tales_data):
    facts = held_out_facts(tales_data, per_kind=9)
    texts = [document.text for document in tales_data.held_out]
    kinds = {fact.kind for fact in facts}
    assert {"owner", "place", "person", "thing"} <= kinds
    for kind in kinds:
        homes = [
            next(i for i, text in enumerate(texts) if text.startswith(fact.prefix + fact.answer))
            for fact in facts
            if fact.kind == kind
        ]
        assert len(set(homes)) == len(homes) <= 9


def test_a_training_run_watches_its_first_documents(tales_data):
    model = Transformer(tales_data.cfg.model)
    model.init_weights(torch.Generator().manual_seed(1))
    found = quick_eval(model, tales_data)
    score = bits_per_byte(model, tales_data.held_out[:7], tales_data.cfg.data.context)
    assert found["val_loss"] == score.loss == pytest.approx(math.log(1536), rel=0.02)
    assert found["bpb"] == score.bpb.value
    assert found["floor_bpb"] == sum(d.floor_bits for d in tales_data.held_out[:7]) / sum(
        d.n_bytes for d in tales_data.held_out[:7]
    )
    assert found["above_floor"] == pytest.approx(found["bpb"] / found["floor_bpb"] - 1)
