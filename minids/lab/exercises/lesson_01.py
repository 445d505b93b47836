"""Lesson 01: merging a pair, counting pairs, choosing one, encoding by the age of the merges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import regex
import torch

from minids.data import bpe
from minids.data.bpe import PIECE, Pair, split_bytes
from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.lab.exercises.lesson_00 import whole


def choice(generator: torch.Generator, options: Sequence[bytes]) -> bytes:
    """One of them."""
    return options[whole(generator, 0, len(options) - 1)]


# 01.1 merge


def merges(generator: torch.Generator) -> Iterator[Case]:
    """Runs, borders that fall otherwise, then random parts."""
    a, b = b"a", b"b"
    yield Case(([a, b], (a, b)), "one pair")
    yield Case(([a, a, a], (a, a)), "a run: a a a")
    yield Case(([b"ab", b"c", a, b"bc"], (a, b"bc")), "ab|c and a|bc, merge a with bc")
    yield Case(([], (a, b)), "nothing to merge")
    for _ in range(6):
        known = [a, b, b"c", b"ab", b"bc"][: whole(generator, 2, 5)]
        parts = [choice(generator, known) for _ in range(whole(generator, 8, 24))]
        left = choice(generator, known)
        pair = left, left if whole(generator, 0, 1) else choice(generator, known)
        spelled = b"|".join(parts).decode()
        yield Case((parts, pair), f"{spelled}, merge {pair[0].decode()} with {pair[1].decode()}")


def overlapping(parts: list[bytes], pair: Pair) -> list[bytes]:
    both = [tuple(parts[i : i + 2]) == pair for i in range(len(parts))]
    return [part + pair[1] if both[i] else part for i, part in enumerate(parts)]


def first_only(parts: list[bytes], pair: Pair) -> list[bytes]:
    for i, neighbours in enumerate(pairwise(parts)):
        if neighbours == pair:
            return [*parts[:i], pair[0] + pair[1], *parts[i + 2 :]]
    return list(parts)


def from_the_right(parts: list[bytes], pair: Pair) -> list[bytes]:
    merged: list[bytes] = []
    for part in reversed(parts):
        if merged and (part, merged[0]) == pair:
            merged[0] = part + merged[0]
        else:
            merged.insert(0, part)
    return merged


def by_spelling(parts: list[bytes], pair: Pair) -> list[bytes]:
    merged: list[bytes] = []
    for part in parts:
        if merged and merged[-1] + part == pair[0] + pair[1]:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


# 01.2 count_pairs


def count_pairs(spelling: list[list[bytes]], weight: list[int]) -> Counter[Pair]:
    """How often each pair of neighbours stands in the text."""
    count: Counter[Pair] = Counter()
    for parts, times in zip(spelling, weight, strict=True):
        for pair in pairwise(parts):
            count[pair] += times
    return count


def spellings(generator: torch.Generator) -> Iterator[Case]:
    """A word, a run, then random words with weights."""
    yield Case(([[b"a", b"b"]], [1]), "one word")
    yield Case(([[b"a", b"a", b"a"]], [1]), "a run: a a a")
    yield Case(([[b"a", b"b"], [b"c"], [b"b", b"a"]], [5, 2, 1]), "ab 5 times, c twice, ba once")
    known = [b"a", b"b", b"ab"]
    for _ in range(4):
        n = whole(generator, 2, 5)
        words = [
            [choice(generator, known) for _ in range(whole(generator, 1, 9))] for _ in range(n)
        ]
        weight = [whole(generator, 1, 9) for _ in words]
        both = zip(words, weight, strict=True)
        shown = ", ".join(f"{b'|'.join(parts).decode()} ×{times}" for parts, times in both)
        yield Case((words, weight), shown)


def across_words(spelling: list[list[bytes]], weight: list[int]) -> Counter[Pair]:
    text = [part for parts, n in zip(spelling, weight, strict=True) for part in parts * n]
    return Counter(pairwise(text))


def without_overlap(spelling: list[list[bytes]], weight: list[int]) -> Counter[Pair]:
    count: Counter[Pair] = Counter()
    for parts, times in zip(spelling, weight, strict=True):
        used: dict[Pair, int] = {}
        for place, pair in enumerate(pairwise(parts)):
            if used.get(pair, -2) < place - 1 or pair[0] != pair[1]:
                used[pair] = place
                count[pair] += times
    return count


def once_per_word(spelling: list[list[bytes]], weight: list[int]) -> Counter[Pair]:
    count: Counter[Pair] = Counter()
    for parts, times in zip(spelling, weight, strict=True):
        for pair in set(pairwise(parts)):
            count[pair] += times
    return count


def either_order(spelling: list[list[bytes]], weight: list[int]) -> Counter[Pair]:
    count: Counter[Pair] = Counter()
    for (left, right), times in count_pairs(spelling, weight).items():
        count[min(left, right), max(left, right)] += times
    return count


# 01.3 most_frequent


def most_frequent(count: Mapping[Pair, int]) -> Pair | None:
    """The pair to merge next; None if none occurs twice."""
    best = min(count, key=lambda pair: (-count[pair], pair), default=None)
    return best if best is not None and count[best] >= 2 else None


def counts(generator: torch.Generator) -> Iterator[Case]:
    """Clear, tied, none, then random counts with many ties."""
    a, b, c = b"a", b"b", b"c"
    yield Case(({(a, b): 3, (b, c): 2},), "ab 3 times, bc twice")
    yield Case(({(b, c): 2, (a, b): 2, (b, a): 2},), "bc, ab, ba twice each")
    yield Case(({(a, b): 1, (b, c): 1},), "two pairs, once each")
    yield Case(({},), "no pair at all")
    yield Case(({(b, a): 4, (b"ab", b): 4, (a, b"bc"): 4},), "b|a, ab|b and a|bc, 4 times each")
    known = [a, b, c, b"d", b"ab", b"cd"]
    for _ in range(4):
        pairs = [(choice(generator, known), choice(generator, known)) for _ in range(9)]
        yield Case(({pair: whole(generator, 2, 3) for pair in pairs},), "many ties")


def chosen(
    count: Mapping[Pair, int], key: Callable[[Pair], Any], least: int = 2, choose: Any = min
) -> Pair | None:
    """Another choice among the pairs that occur at least so often."""
    return choose((pair for pair in count if count[pair] >= least), key=key, default=None)


# 01.4 encode


def texts(generator: torch.Generator) -> Iterator[Case]:
    """Words full of shared syllables, ranks learned from some of them."""
    syllables = [b"an", b"na", b"ban", b"nab", b"ab", b"ba", b"bb", b"aan", b"\xc3\xa4n"]
    learned = [*bpe.BYTES, b"b ", b"xyz", b"ab", b" b", b"ba"]
    rank = {token: i for i, token in enumerate(learned)}
    yield Case(("ab", rank), "one merge")
    yield Case(("bab", rank), "ab is older than ba")
    yield Case(("äb ab b", rank), "a letter of two bytes, a token that ends in a blank")
    yield Case(("xyz", rank), "xyz is a token, but neither xy nor yz is")
    for _ in range(5):
        words = [
            b"".join(choice(generator, syllables) for _ in range(whole(generator, 1, 4))).decode()
            for _ in range(60)
        ]
        vocabulary = bpe.train([" ".join(words)], 256 + whole(generator, 14, 30))
        text = " ".join(words[:3] + words[-3:])
        yield Case((text, {token: i for i, token in enumerate(vocabulary)}), f"{text!r}")


def encoder(
    pick: Callable[[list[tuple[int, int]]], tuple[int, int]] = min,
    cut: Callable[[str], list[str]] = lambda text: regex.findall(PIECE, text),
    split: Callable[[str], list[bytes]] = split_bytes,
) -> Callable[[str, Mapping[bytes, int]], list[int]]:
    """The plain rule, with another choice among (rank, place), other pieces or other parts."""

    def encode(text: str, rank: Mapping[bytes, int]) -> list[int]:
        ids = []
        for piece in cut(text):
            parts = split(piece)
            while mergeable := [
                (rank[left + right], place)
                for place, (left, right) in enumerate(pairwise(parts))
                if left + right in rank
            ]:
                _, place = pick(mergeable)
                parts[place : place + 2] = [parts[place] + parts[place + 1]]
            ids += [rank[part] for part in parts]
        return ids

    return encode


def longest_match(text: str, rank: Mapping[bytes, int]) -> list[int]:
    ids = []
    for piece in regex.findall(PIECE, text):
        rest = piece.encode()
        while rest:
            size = max(n for n in range(1, len(rest) + 1) if rest[:n] in rank)
            ids.append(rank[rest[:size]])
            rest = rest[size:]
    return ids


EXERCISES = (
    Exercise(
        id="01.1",
        name="merge",
        title="all occurrences of a pair become one part",
        reference=bpe.merge,
        cases=merges,
        mistakes=(
            Mistake(
                "a part is used twice",
                "After a merge both of its parts are spent. Here the right one stays, so the "
                "result is longer than the text, and in a run like a a a the pairs overlap.",
                overlapping,
            ),
            Mistake(
                "only the first occurrence",
                "Training and encoding replace the pair wherever it stands, not once.",
                first_only,
            ),
            Mistake(
                "from right to left",
                "In a run of three the order decides: from the left aaa is aa, a. Both would do, "
                "but a vocabulary is a contract, and everybody else's starts at the left.",
                from_the_right,
            ),
            Mistake(
                "compares the joined bytes",
                "ab + c and a + bc spell the same, but they are different pairs with counts of "
                "their own. Only the pair itself may be merged.",
                by_spelling,
            ),
        ),
        hints=(
            "Walk through the parts once, from the left, and build a new list.",
            "Compare what you wrote last with what comes now: together they are the pair, or not.",
            "If (last written, current) is the pair, the last written one grows by the current "
            "one; in any other case the current one is written behind it.",
        ),
    ),
    Exercise(
        id="01.2",
        name="count_pairs",
        title="how often each pair of neighbours occurs",
        reference=count_pairs,
        cases=spellings,
        mistakes=(
            Mistake(
                "weights ignored",
                "Each distinct word is spelled once but stands in the text `weight` times. "
                "Without that, a word seen once counts as much as `the`.",
                lambda spelling, weight: count_pairs(spelling, [1] * len(weight)),
            ),
            Mistake(
                "pairs across words",
                "The end of one word and the beginning of the next are no neighbours: pieces "
                "come out of a bag, and a token never crosses a border.",
                across_words,
            ),
            Mistake(
                "overlaps counted once",
                "In a a a the pair (a, a) stands at two places. Only one of them can be merged, "
                "but the count, here and in every known trainer, is of places.",
                without_overlap,
            ),
            Mistake(
                "once per word",
                "A pair that stands twice in a word counts twice.",
                once_per_word,
            ),
            Mistake(
                "order ignored",
                "(a, b) and (b, a) are different pairs and become different tokens.",
                either_order,
            ),
        ),
        hints=(
            "`itertools.pairwise` gives the neighbours of one word.",
            "Two loops: over words with their weights, and over the pairs of each.",
            "Every place where a pair stands adds the weight of its word to the pair's count.",
        ),
    ),
    Exercise(
        id="01.3",
        name="most_frequent",
        title="the pair to merge next",
        reference=most_frequent,
        cases=counts,
        mistakes=(
            Mistake(
                "ties by order of appearance",
                "Which pair was counted first depends on the order of the texts. Shuffle them, "
                "and the vocabulary changes: nobody could repeat your tokenizer.",
                lambda count: chosen(count, lambda pair: -count[pair]),
            ),
            Mistake(
                "the last of a tie wins",
                "Among equally frequent pairs the alphabetically first is wanted.",
                lambda count: chosen(count, lambda pair: (count[pair], pair), choose=max),
            ),
            Mistake(
                "ties by the joined bytes",
                "Pairs are compared as pairs, left part first: (a, bc) comes before (ab, b), "
                "although abc comes after abb.",
                lambda count: chosen(count, lambda p: (-count[p], p[0] + p[1], p)),
            ),
            Mistake(
                "merges what occurs once",
                "A pair that stands once saves one token in this text and most likely none in "
                "any other. Training ends when nothing occurs twice.",
                lambda count: chosen(count, lambda pair: (-count[pair], pair), least=1),
            ),
        ),
        hints=(
            "`min` and `max` take a key; a key may be a tuple.",
            "Largest count first, then smallest pair: one of the two has to change its sign.",
            "min over (−count, pair). Before returning: is there a pair at all, and does it occur "
            "at least twice?",
        ),
    ),
    Exercise(
        id="01.4",
        name="encode",
        title="text to ids: the oldest merge first",
        reference=bpe.encode,
        cases=texts,
        mistakes=(
            Mistake(
                "from left to right",
                "That merges whatever comes first in the text. Training merged the most frequent "
                "pair first, and encoding has to repeat its order, or it makes tokens that "
                "training never made there.",
                encoder(lambda found: min(found, key=lambda one: one[1])),
            ),
            Mistake(
                "newest merge first",
                "A rank is an age: the smallest is the oldest, and the oldest merge comes first.",
                encoder(max),
            ),
            Mistake(
                "longest match",
                "Taking the longest known token is another algorithm (WordPiece does so). It "
                "often gives fewer tokens, but not those the model was trained on.",
                longest_match,
            ),
            Mistake(
                "across pieces",
                "The text has to be cut by PIECE first. Otherwise the end of one word may merge "
                "with the beginning of the next.",
                encoder(cut=lambda text: [text]),
            ),
            Mistake(
                "characters instead of bytes",
                "The alphabet has 256 bytes. ä is two of them; as one part it is in no rank table.",
                encoder(split=lambda piece: [letter.encode() for letter in piece]),
            ),
        ),
        hints=(
            "For one piece: start with its bytes, and merge until nothing can be merged.",
            "Two neighbours can be merged if their joined bytes have a rank. Which of the "
            "possible merges did training do first?",
            "Collect (rank of the joined bytes, place) for all neighbours; the smallest of these "
            "is merged; then collect anew. At the end every part has a rank.",
        ),
    ),
)

PREDICTIONS = (
    Prediction(
        "01.a",
        "A vocabulary learned from tales encodes Python source. How many bytes does a token hold "
        "on average?",
        "bytes per token",
        3.0,
        0.5,
        20.0,
    ),
)
