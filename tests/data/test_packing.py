"""Rows are as full as they can be, and every piece goes somewhere."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.data.packing import Piece, best_fit, cut, take_row, windows


def whole(document: int, length: int) -> Piece:
    return cut(document, np.arange(length), 0, length)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 20), max_size=9), st.integers(0, 40))
def test_best_fit_is_as_good_as_trying_every_subset(lengths, room):
    chosen = best_fit(lengths, room)
    sums = [sum(c) for n in range(len(lengths) + 1) for c in combinations(lengths, n)]
    assert sum(lengths[i] for i in chosen) == max(s for s in sums if s <= room)
    assert chosen == sorted(set(chosen))


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=8),
    st.integers(2, 17),
    st.integers(0, 10**9),
)
def test_windows_hold_every_token_exactly_once(lengths, context, phase):
    lengths = np.array(lengths)
    document, start, length = windows(lengths, np.full(len(lengths), phase), context)
    assert length.max() <= context and length.min() >= 1
    for i, n in enumerate(lengths):
        covered = [
            t for d, s, k in zip(document, start, length, strict=True) if d == i
            for t in range(s, s + k)
        ]  # fmt: skip
        assert covered == list(range(n))
        if n <= context:
            assert (document == i).sum() == 1


def test_the_borders_of_windows_follow_the_phase():
    _, start, _ = windows(np.array([10]), np.array([3]), 4)
    assert start.tolist() == [0, 3, 7]


@given(st.lists(st.integers(1, 32), min_size=1, max_size=30))
def test_the_oldest_piece_is_always_taken(lengths):
    waiting = [whole(i, n) for i, n in enumerate(lengths)]
    assert take_row(list(waiting), 32)[0] == waiting[0]


@given(st.lists(st.integers(1, 32), min_size=1, max_size=30))
def test_a_row_never_overflows_and_at_most_one_document_is_cropped(lengths):
    waiting = [whole(i, n) for i, n in enumerate(lengths)]
    seen = []
    while waiting:
        row = take_row(waiting, 32)
        assert sum(p.length for p in row) <= 32
        assert sum(not p.is_whole for p in row) <= 1
        seen += [p.document for p in row]
    assert sorted(seen) == list(range(len(lengths)))


def test_a_document_is_cropped_only_for_a_gap_that_is_worth_it():
    row = take_row([whole(0, 20), whole(1, 30), whole(2, 25)], 32)
    assert [(p.document, p.length) for p in row] == [(0, 20), (2, 12)]
    sliver = take_row([whole(0, 30), whole(1, 30)], 32)
    assert [p.document for p in sliver] == [0]


def test_the_rest_of_a_cropped_window_waits_for_another_row():
    tokens = np.arange(100)
    waiting = [whole(0, 20), cut(7, tokens, 32, 32), whole(2, 13)]
    row = take_row(waiting, 32)
    assert [(p.label, p.length) for p in row] == [("0", 20), ("7:32", 12)]
    assert [(p.label, p.length) for p in waiting] == [("7:44", 20), ("2", 13)]
    assert row[1].tokens.tolist() == list(range(32, 45))  # with its true next token
    assert waiting[0].tokens.tolist() == list(range(44, 65))
