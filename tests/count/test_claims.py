"""Every row is computed from inputs that it cites, and says what the sources say."""

import pytest

from minids.count.claims import RULES, VERDICTS, all_claims

ROWS = {row.name: row for row in all_claims()}
EXPECTED = {
    "two-months": ({"pretraining_days": 54.2, "all_days": 56.7}, "misleading"),
    "six-million": ({"hours": 2_788_000, "dollars": 5_576_000}, "misleading"),
    "2048-h800-1500-h100": ({"compute": 2048, "link": 910.2, "days_on_1500": 77.4}, "misleading"),
    "eleven-times": ({"mfu": 0.391, "flops_ratio": 10.6, "hours_ratio": 11.06}, "holds"),
    "gpt-4-cost": ({"flops": 2.178e25, "dollars": 57e6}, "unknowable"),
    "gpt-4-dense": ({"flops_over_v3": 5.8}, "unknowable"),
    "inference-44": ({"input": 0.0603, "output": 0.3003, "ratio": 2.01}, "misleading"),
    "ten-times-cheaper": ({"output": 9.09, "input": 9.26, "reasoning": 27.4}, "holds"),
    "545-percent": ({"dollars": 87_072, "over_cost": 5.45, "over_income": 0.845}, "misleading"),
    "450-dollars": ({"hours": 152, "price": 2.96}, "misleading"),
    "r1-294k": ({"hours": 147_000, "dollars": 294_000, "with_base": 5_870_000}, "misleading"),
    "mla-93": ({"served": 0.933, "bfloat16": 0.822}, "holds"),
    "fp8-quarter-percent": ({"nats": 0.005}, "holds"),
}


def test_there_is_an_expectation_for_every_row():
    assert list(EXPECTED) == list(ROWS) and len(RULES) == len(ROWS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_says_what_the_arithmetic_gives(name):
    row, (values, verdict) = ROWS[name], EXPECTED[name]
    assert row.verdict == verdict and verdict in VERDICTS
    for key, value in values.items():
        assert row.values[key] == pytest.approx(value, rel=5e-3), key


@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_cites_its_inputs(name):
    row = ROWS[name]
    assert row.inputs and all(fact.source and fact.what for fact in row.inputs)
    assert row.claim and row.who and row.primary and row.arithmetic and row.because
    rumours = [fact for fact in row.inputs if "rumour" in fact.source]
    assert bool(rumours) == ("RUMOUR" in row.arithmetic)
    assert not rumours or row.verdict == "unknowable"
