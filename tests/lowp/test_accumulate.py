"""Short sums, and what promotion gets back."""

import pytest
import torch

from minids.lowp.accumulate import accuracy, add_aligned, cut, matmul_fast, matmul_limited


def factors(k, m=24, n=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, k, generator=g).to(torch.float8_e4m3fn).float() for rows in (m, n))


def test_cut_keeps_the_leading_bits():
    x = torch.tensor([1 + 2**-13, 1 + 2**-14, -(1 + 2**-13 + 2**-14), 0.0, 2.0**-100])
    assert cut(x, 14).tolist() == [1 + 2**-13, 1.0, -(1 + 2**-13), 0.0, 2.0**-100]
    assert torch.equal(cut(x, 24), x)


def test_products_below_the_last_bit_vanish():
    """With 14 bits, 2^-13 beside 1 still counts, 2^-14 does not, however often it comes."""
    inside = torch.ones(1, 1)
    counted = add_aligned(inside, torch.full((1, 1, 32), 2.0**-13), 14)
    assert counted.item() == 1 + 32 * 2.0**-13
    assert add_aligned(inside, torch.full((1, 1, 32), 2.0**-14), 14).item() == 1
    assert add_aligned(inside * 0, torch.zeros(1, 1, 3), 14).item() == 0


def test_a_long_sum_of_ones_stands_still():
    """Of 8 bits, 256 is where adding 1 changes nothing any more; with promotion it does."""
    a, b = torch.ones(1, 1280), torch.ones(1, 1280)
    left_alone = matmul_limited(a, b, interval=0, group=1, bits=8).item()
    assert left_alone == 256
    assert matmul_limited(a, b, interval=128, group=1, bits=8).item() == 1280


@pytest.mark.parametrize("rule", [matmul_limited, matmul_fast])
def test_with_all_bits_it_is_a_matrix_product(rule):
    a, b = factors(300)
    found = rule(a, b, bits=24, interval=128)
    assert accuracy(found, a, b).largest < 1e-5
    empty = rule(a[:, :0], b[:, :0])
    assert torch.equal(empty, torch.zeros(24, 20))


@pytest.mark.parametrize("rule", [matmul_limited, matmul_fast])
def test_error_grows_with_k_unless_sums_are_promoted(rule):
    left, promoted = [], []
    for k in (256, 4096):
        a, b = factors(k)
        left.append(accuracy(rule(a, b, interval=0), a, b).largest)
        promoted.append(accuracy(rule(a, b, interval=128), a, b).largest)
    assert left[1] > 3 * left[0]
    assert 0.003 < left[1] < 0.03  # the report: nearly 2 % at K = 4096
    assert promoted[1] < 2 * promoted[0] and promoted[1] < 0.002


def test_intervals_count_elements():
    a, b = factors(640)
    whole = matmul_limited(a, b, interval=320)
    parts = [matmul_limited(a[:, h], b[:, h], interval=0) for h in (slice(320), slice(320, 640))]
    assert torch.equal(whole, parts[0] + parts[1])
    assert not torch.equal(whole, matmul_limited(a, b, interval=0))
    fast = [matmul_fast(a[:, h], b[:, h], interval=0) for h in (slice(320), slice(320, 640))]
    assert torch.equal(matmul_fast(a, b, interval=320), fast[0] + fast[1])


def test_accuracy_is_relative_to_the_results():
    a, b = factors(64)
    exact = a @ b.T
    size = exact.square().mean().sqrt()
    off = exact + 0.01 * size
    assert accuracy(off, a, b).typical == pytest.approx(0.01, rel=1e-3)
    off[0, 0] += size
    assert accuracy(off, a, b).largest == pytest.approx(1.01, rel=1e-3)
