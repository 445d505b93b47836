"""Byte-pair encoding: how a vocabulary is learned from text, and the rule that applies it.

Start with the 256 bytes, so that nothing is ever unknown. Then, again and again, make one new token
out of the two neighbours that stand together most often. A token's id is the order of its birth,
and encoding repeats the merges in that order. (Sennrich et al. 2016; on bytes: GPT-2, §2.2)

The price is one pass over the distinct words, not over the text: a word that occurs 10,000 times is
spelled once and weighs 10,000, and after a merge only the words that hold the pair are looked at.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

import regex

# A token never crosses the border of a piece: a word with the blank or apostrophe before it, one
# digit, other signs, white space (which leaves its last blank to the next word). Runs end after 64
# signs: without that bound a million blanks overflow the stack of tiktoken's matcher.
PIECE = r"[ ']?[\p{L}\p{M}]{1,64}|\p{N}| ?[^\s\p{L}\p{M}\p{N}]{1,64}|\s{1,64}(?!\S)|\s{1,64}"

BYTES = [bytes([value]) for value in range(256)]

Pair = tuple[bytes, bytes]


def train(texts: Iterable[str], vocab_size: int) -> list[bytes]:
    """The vocabulary, in order of birth: the 256 bytes, then one token for each merge.

    A token's id is its index. Equally frequent pairs: the alphabetically first wins, so the result
    depends on nothing but the text. Ends early when no pair is left that occurs twice.
    """
    words = Counter(piece for text in texts for piece in regex.findall(PIECE, text))
    weight = list(words.values())
    spelling = [split_bytes(word) for word in words]
    count: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # pair → words that may contain it
    for word, parts in enumerate(spelling):
        for pair in pairwise(parts):
            count[pair] += weight[word]
            holders[pair].add(word)
    heap = [(-times, pair) for pair, times in count.items()]
    heapq.heapify(heap)

    vocabulary = dict.fromkeys(BYTES)  # ordered, and holds no token twice
    while len(vocabulary) < vocab_size and (best := pop_most_frequent(heap, count)):
        token = best[0] + best[1]
        vocabulary[token] = None
        born: set[Pair] = set()
        for word in holders.pop(best):
            for pair in pairwise(spelling[word]):
                count[pair] -= weight[word]
            spelling[word] = merge(spelling[word], best)
            for pair in pairwise(spelling[word]):
                count[pair] += weight[word]
                if token in pair:
                    holders[pair].add(word)
                    born.add(pair)
        for pair in born:
            heapq.heappush(heap, (-count[pair], pair))
    return list(vocabulary)


def encode(text: str, rank: Mapping[bytes, int]) -> list[int]:
    """Text → ids by the plain rule: in each piece, merge the neighbours whose token is oldest.

    `tiktoken` gives the same ids by the same rule, about a hundred times faster.
    """
    ids = []
    for piece in regex.findall(PIECE, text):
        parts = split_bytes(piece)
        while mergeable := [
            (rank[left + right], place)
            for place, (left, right) in enumerate(pairwise(parts))
            if left + right in rank
        ]:
            _, place = min(mergeable)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [rank[part] for part in parts]
    return ids


def split_bytes(piece: str) -> list[bytes]:
    """A piece of text as its UTF-8 bytes, each a part of its own."""
    return [BYTES[value] for value in piece.encode()]


def merge(parts: list[bytes], pair: Pair) -> list[bytes]:
    """All occurrences of the pair become one part, from left to right: aaa → (aa, a)."""
    merged: list[bytes] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def pop_most_frequent(heap: list[tuple[int, Pair]], count: Counter[Pair]) -> Pair | None:
    """The pair that occurs most, at least twice, or None.

    Counts fall while a pair waits in the heap. Such an entry is put back with the count of now;
    that is cheaper than finding it there each time.
    """
    while heap:
        remembered, pair = heapq.heappop(heap)
        if -remembered == count[pair] >= 2:
            return pair
        if count[pair] >= 2:
            heapq.heappush(heap, (-count[pair], pair))
    return None
