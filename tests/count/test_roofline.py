"""The floor under a time, against published figures and hand-made cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minids import config
from minids.count import flops, memory
from minids.count.roofline import (
    H800,
    Rates,
    Work,
    decode,
    least_seconds,
    matmul,
    training_step,
)

V3 = config.load("deepseek-v3").model
positive = st.floats(1e-3, 1e12)


def test_a_product_multiplies_and_adds_for_every_triple_and_moves_three_matrices():
    done = sum(2 for _ in range(2) for _ in range(3) for _ in range(5))
    assert matmul(2, 3, 5, size=4) == (done, 4 * (6 + 15 + 10))


def test_one_token_brings_one_flop_per_byte_in_bfloat16():
    assert matmul(1, 7168, 2048, size=2).intensity == pytest.approx(1, rel=1e-3)


def test_many_tokens_bring_as_many_flops_per_byte_as_there_are_tokens():
    assert matmul(64, 1 << 20, 1 << 20, size=2).intensity == pytest.approx(64, rel=1e-3)


def test_an_h800_wants_295_flops_per_byte():
    assert H800.ridge == pytest.approx(295, abs=0.5)


@given(positive, positive, positive, positive)
def test_work_at_the_ridge_takes_as_long_either_way_and_the_slower_side_decides(f, b, x, y):
    work, rates = Work(x, y), Rates(f, b)
    assert least_seconds(work, rates) in (x / f, y / b)
    assert least_seconds(work, rates) * f >= x * (1 - 1e-12)
    assert least_seconds(work, rates) * b >= y * (1 - 1e-12)
    assert least_seconds(Work(rates.ridge * y, y), rates) == pytest.approx(y / b)


def test_a_decoded_token_of_v3_takes_11_ms_in_fp8_at_h800_bandwidth():
    assert least_seconds(decode(V3, dtype="fp8"), H800) == pytest.approx(11e-3, abs=0.1e-3)


def test_a_longer_context_adds_its_cache_to_the_bytes():
    more = decode(V3, 4096).moved_bytes - decode(V3).moved_bytes
    assert more == 4096 * 70_272


def test_training_v3_is_bound_by_arithmetic_and_takes_21_of_its_54_days_at_least():
    tokens = 15_360 * 4096
    step = training_step(V3, tokens, 4096)
    assert least_seconds(step, H800) == step.flops / H800.flops_per_s
    assert step.moved_bytes == 2 * memory.training(V3).total
    without_mtp = step.flops * flops.training(V3) / flops.training(V3, with_mtp=True)
    days = without_mtp / tokens * 14.8e12 / (2048 * H800.flops_per_s) / 86_400
    assert days == pytest.approx(0.391 * 54.2, rel=2e-3)


def test_sequences_share_the_weights_but_not_the_cache():
    v3 = config.load("deepseek-v3").model
    one, eight, fresh = decode(v3, 4096), decode(v3, 4096, sequences=8), decode(v3)
    assert eight.flops == 8 * one.flops
    assert eight.moved_bytes - one.moved_bytes == 7 * 4096 * 70_272
    assert one.moved_bytes - fresh.moved_bytes == 4096 * 70_272
