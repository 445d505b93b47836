"""Byte-pair encoding: the trainer against a slow twin, the rule against tiktoken."""

from collections import Counter
from itertools import pairwise

import pytest
import regex
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.data import bpe

TEXT = (
    "the cat sat on the mat and the cat ate the rat, then that cat sat on that hat. "
    "aaaaaa aaaaaaa baaab bbbaaa 12 345 don't 'tis  (a+b)*c\n\n\tend "
) * 3


def slow_train(text: str, vocab_size: int) -> list[bytes]:
    """The definition: count all pairs of all pieces again for every merge."""
    pieces = [[bytes([b]) for b in p.encode()] for p in regex.findall(bpe.PIECE, text)]
    vocabulary = [bytes([b]) for b in range(256)]
    while len(vocabulary) < vocab_size:
        count = Counter(pair for parts in pieces for pair in pairwise(parts))
        if not count or max(count.values()) < 2:
            break
        best = min(count, key=lambda pair: (-count[pair], pair))
        for n, parts in enumerate(pieces):
            merged, i = [], 0
            while i < len(parts):
                both = tuple(parts[i : i + 2]) == best
                merged.append(b"".join(parts[i : i + 1 + both]))
                i += 1 + both
            pieces[n] = merged
        if best[0] + best[1] not in vocabulary:
            vocabulary.append(best[0] + best[1])
    return vocabulary


def encoding(vocabulary: list[bytes]) -> tiktoken.Encoding:
    ranks = {token: rank for rank, token in enumerate(vocabulary)}
    return tiktoken.Encoding("t", pat_str=bpe.PIECE, mergeable_ranks=ranks, special_tokens={})


def test_the_incremental_trainer_finds_what_counting_everything_again_finds():
    assert bpe.train([TEXT], 330) == slow_train(TEXT, 330)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab c", max_size=80), st.integers(256, 280))
def test_trainers_agree_on_texts_full_of_ties_and_runs(text, vocab_size):
    assert bpe.train([text], vocab_size) == slow_train(text, vocab_size)


def test_the_order_of_the_texts_does_not_matter():
    words = TEXT.split(" ")
    assert bpe.train(words, 300) == bpe.train(words[::-1], 300)


VOCABULARY = bpe.train([TEXT], 330)
RANK = {token: rank for rank, token in enumerate(VOCABULARY)}
ENCODING = encoding(VOCABULARY)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("abcehmnorst 'd.,(\n1é世🙂"), max_size=60))
def test_the_plain_rule_gives_the_ids_of_tiktoken(text):
    assert bpe.encode(text, RANK) == ENCODING.encode_ordinary(text)


@pytest.mark.parametrize("n", range(1, 40))
def test_runs_of_one_letter_are_merged_alike(n):
    assert bpe.encode("a" * n, RANK) == ENCODING.encode_ordinary("a" * n)


@given(st.text(max_size=200))
def test_pieces_lose_no_character(text):
    assert "".join(regex.findall(bpe.PIECE, text)) == text


def test_digits_stand_alone_and_words_take_one_blank():
    pieces = regex.findall(bpe.PIECE, 'In 1984 she said:  "don\'t!"\n')
    expected = ["In", " ", "1", "9", "8", "4", " she", " said", ":", " ", ' "', "don", "'t"]
    assert pieces == [*expected, '!"', "\n"]


def test_a_million_blanks_neither_overflow_nor_take_long():
    blanks = " " * 1_000_000
    assert len(ENCODING.encode_ordinary(blanks)) <= len(blanks)
    assert len(bpe.train([blanks], 300)) < 270


def test_a_text_without_repeated_pairs_leaves_the_bytes():
    assert bpe.train(["", "abc"], 1000) == bpe.BYTES
