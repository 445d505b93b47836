"""Sampling rules against exact enumeration over five tokens."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from minids.errors import UserError
from minids.generate.sample import filter_logits, logprob_of, pick
from minids.generate.settings import Sampling

SIXTEENTHS = [2, 8, 1, 4, 1]  # probabilities of five tokens, exact in binary
LOGITS = torch.tensor([[math.log2(s) for s in SIXTEENTHS]]) * math.log(2)


def kept(**changes) -> set[int]:
    return set(
        torch.isfinite(filter_logits(LOGITS, Sampling(**changes)))[0].nonzero()[:, 0].tolist()
    )


def smallest_set(p: Fraction) -> tuple[int, Fraction]:
    """Size and mass of the smallest set with mass ≥ p, the heaviest among those, by enumeration."""
    for size in range(1, 6):
        heaviest = max(sum(c) for c in itertools.combinations(SIXTEENTHS, size))
        if Fraction(heaviest, 16) >= p:
            return size, Fraction(heaviest, 16)
    raise AssertionError


@pytest.mark.parametrize(
    "p", [1e-9, 0.25, 0.49, 0.5, 0.51, 0.7, 0.75, 0.8, 0.875, 0.9, 0.93, 0.94, 0.999]
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(p):
    size, mass = smallest_set(Fraction(p) - Fraction(1, 10**7))  # float32 softmax is 1e-7 off
    stay = kept(top_p=p)
    assert len(stay) == size
    assert Fraction(sum(SIXTEENTHS[i] for i in stay), 16) == mass


@pytest.mark.parametrize("k", range(8))
def test_top_k_keeps_exactly_k_and_zero_or_too_many_keep_all(k):
    stay, wanted = kept(top_k=k), k if 0 < k < 5 else 5
    assert len(stay) == wanted
    assert sum(SIXTEENTHS[i] for i in stay) == sum(sorted(SIXTEENTHS)[-wanted:])


def test_top_k_comes_before_top_p():
    # 8/16 of all is 8/12 of the two best: after the cut it reaches 0.6 alone
    assert kept(top_k=2, top_p=0.6) == {1}
    assert kept(top_p=0.6) == {1, 3}


def test_temperature_comes_before_top_p():
    # at temperature 1/2 the shares are squares: 64 of 86
    assert kept(top_p=0.7, temperature=0.5) == {1}
    assert kept(top_p=0.7) == {1, 3}


def test_full_mass_is_bitwise_no_filter():
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filter_logits(logits, Sampling(top_p=1.0, top_k=0)), logits)


def test_half_precision_is_filtered_in_float32():
    assert filter_logits(LOGITS.bfloat16(), Sampling(top_p=0.9)).dtype == torch.float32


def test_frequencies_are_the_probabilities():
    generator = torch.Generator().manual_seed(3)
    n = 40_000
    ids = pick(LOGITS.expand(n, -1), Sampling(), generator)
    count = torch.bincount(ids, minlength=5).double()
    expected = torch.tensor(SIXTEENTHS).double() * n / 16
    # chi-square with 4 degrees of freedom exceeds 18.5 once in a thousand seeds
    assert ((count - expected) ** 2 / expected).sum() < 18.5


def test_a_cut_token_never_comes():
    generator = torch.Generator().manual_seed(3)
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(10_000, -1)
    assert set(pick(logits, Sampling(), generator).tolist()) == {1, 3}


def test_temperature_zero_is_the_argmax_whatever_the_seed():
    logits = torch.randn(13, 7, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(pick(logits, Sampling(temperature=0), generator), logits.argmax(-1))


def test_the_coldest_temperature_stays_finite():
    logits = torch.tensor([[900.0, -900.0, 899.0, 0.0, 1.0]])
    assert pick(logits, Sampling(temperature=0.01), torch.Generator().manual_seed(0)).tolist() == [
        0
    ]


def test_the_smallest_top_p_is_the_argmax():
    generator = torch.Generator().manual_seed(0)
    assert set(pick(LOGITS.expand(1000, -1), Sampling(top_p=1e-9), generator).tolist()) == {1}


def test_logprob_is_the_models_own():
    assert logprob_of(LOGITS, torch.tensor([3])).item() == pytest.approx(math.log(4 / 16), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0), ("temperature", 1e-9), ("temperature", 3.0),
        ("temperature", math.nan), ("temperature", math.inf),
        ("top_p", 0.0), ("top_p", -0.1), ("top_p", 1.1), ("top_p", math.nan),
        ("top_k", -1), ("seed", -1), ("seed", 1 << 63),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_named(name, value):
    with pytest.raises(UserError, match=rf"sampling\.{name}.*allowed") as caught:
        Sampling(**{name: value})
    assert caught.value.code == 2
