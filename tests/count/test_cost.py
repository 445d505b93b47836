"""Published bills to the dollar, and what has to hold for any bill."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minids import config
from minids.count import cost, memory, published
from minids.count.hardware import TABLE, equivalence, find
from minids.count.params import count
from minids.count.serving import Assumptions, day_6, deploy, largest, serve, touched
from minids.errors import UserError

V3 = config.load("deepseek-v3").model
LLAMA = config.load("llama-3.1-405b").model
H800, H100 = find("h800"), find("h100")


def test_v3_took_2_788_million_hours_and_5_576_million_dollars():
    assert cost.total(published.V3_HOURS) == 2_664_000 + 119_000 + 5_000 == 2_788_000
    assert cost.total(published.V3_HOURS) * published.V3_PRICE.value == 5_576_000


def test_a_trillion_tokens_takes_3_7_days_on_2048_and_14_8_take_54():
    assert cost.days(180_000, 2048) == pytest.approx(3.66, abs=0.005)
    assert 14.8 * 180_000 == 2_664_000
    assert cost.days(2_664_000, 2048) == pytest.approx(54.2, abs=0.05)


def test_v3_s_hours_imply_39_percent_of_bfloat16_s_peak_as_reported():
    done = cost.training_flops(V3, 14.8e12)
    assert done == pytest.approx(3.707e24, rel=1e-3)
    mfu = cost.implied_mfu(done, 2_664_000, H800)
    assert mfu == pytest.approx(0.391, abs=5e-4)
    assert mfu == pytest.approx(published.V3_MFU.value, rel=0.005)
    assert cost.implied_mfu(done, 2_664_000, H800, "fp8") == pytest.approx(mfu / 2)


def test_a_bill_at_the_implied_utilisation_gives_the_published_hours_back():
    done = cost.training_flops(V3, 14.8e12)
    mfu = cost.implied_mfu(done, 2_664_000, H800)
    bill = cost.train(done, H800, mfu, 2048, 2.0, "bfloat16")
    assert bill.hours == pytest.approx(2_664_000)
    assert bill.dollars == pytest.approx(5_328_000)
    assert bill.energy_kwh == pytest.approx(2_664_000 * 0.7)


def test_a_day_of_serving_is_87_072_dollars_and_545_percent():
    day = cost.day_bill()
    assert day.dollars == 87_072
    assert day.income == pytest.approx(562_027, rel=2e-4)
    assert day.profit_over_cost == pytest.approx(5.45, abs=0.01)
    assert day.profit_over_income == pytest.approx(0.845, abs=5e-4)
    assert (day.input_floor, day.output_floor) == pytest.approx((0.060, 0.300), abs=1e-3)


def test_r1_added_147_thousand_hours():
    assert cost.total(published.R1_HOURS) == 147_000
    assert cost.total(published.R1_HOURS) * 2 == 294_000


def test_an_h800_is_an_h100_in_arithmetic_and_less_than_half_in_links():
    assert equivalence(H800, H100) == (1, 1, pytest.approx(400 / 900), 1)


def test_the_roofline_gives_back_the_rates_it_was_fitted_to():
    decode, prefill = day_6()
    assert 0.1 < prefill < decode < 0.5
    at = Assumptions(decode_use=decode, prefill_use=prefill)
    at_144 = deploy(V3, H800, 2.0, at, 144)
    assert at_144.node_tokens_per_s == pytest.approx(14_800, rel=0.01)
    miss = published.DAY_MISS.value / (published.DAY_MISS.value + published.DAY_HIT.value)
    assert at_144.prefill_tokens_per_s == pytest.approx(miss * 73_700, rel=1e-6)


def test_a_batch_touches_one_share_then_nearly_all_experts():
    assert touched(V3, 1) == pytest.approx(count(V3).active, rel=1e-9)
    assert touched(V3, 1e6) == pytest.approx(count(V3).main - count(V3).embedding, rel=1e-3)
    one = 1 - (1 - 8 / 256) ** 64
    experts = 58 * 256 * 44_040_192
    fixed = count(V3).active - 58 * 8 * 44_040_192
    assert touched(V3, 64) == pytest.approx(fixed + experts * one)


def test_a_dense_model_reads_the_same_whatever_the_batch():
    assert touched(LLAMA, 1) == touched(LLAMA, 999) == count(LLAMA).active


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_largest_batch_is_fast_enough_and_one_more_is_not(most, wall):
    batch, limit = largest(lambda n: n <= wall, most)
    assert batch == min(most, wall)
    if batch:
        assert limit == ("memory" if most <= wall else "patience")


@pytest.mark.parametrize("name", cost.OPEN)
def test_every_open_system_fits_and_has_a_price(name):
    cfg = config.load(name).model
    found = serve(cfg, H800, 2.0)
    held = memory.weights(cfg, "fp8") + found.batch * memory.kv_cache(cfg, 4989)
    assert held <= found.devices * H800.memory_bytes
    assert 0 < found.input_dollars < math.inf and 0 < found.output_dollars < math.inf
    assert found.tokens_per_s >= 21
    twice = serve(cfg, H800, 4.0)
    assert twice.output_dollars == pytest.approx(2 * found.output_dollars)


def test_latents_make_v3_cheaper_to_serve_than_a_dense_model_of_half_its_size():
    assert serve(V3, H800, 2.0).output_dollars < serve(LLAMA, H800, 2.0).output_dollars / 10


def test_what_nobody_published_is_marked():
    assert all(row["note"].startswith("undisclosed") for row in cost.closed())
    assert published.GPT4_FLOPS.mark == "press" and "rumour" in published.GPT4_FLOPS.source


def test_every_machine_has_a_source_and_rates_that_make_sense():
    for machine in TABLE:
        assert machine.source
        assert 0 <= machine.fp8 <= 2.03 * machine.bfloat16
        assert machine.float32 <= (machine.bfloat16 or machine.float32)
        assert machine.flops("fp8") > 0 and machine.memory_bytes < machine.memory_rate


def test_an_unknown_machine_is_an_error_with_the_nearest():
    with pytest.raises(UserError, match="allowed: h100") as error:
        find("h8000")
    assert error.value.hint == "did you mean h800?"
