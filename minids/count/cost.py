"""From FLOPs to dollars: what a training run and a million served tokens cost, and why.

Training: tokens · FLOPs per token ÷ (peak · utilisation) → device seconds → hours · price. Five
factors, and a claim about cost is a claim about one of them. Rental prices stand for everything
else; people, data and failed attempts are not in.
Axes: s tokens of a sequence.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from minids import config
from minids.config import ModelConfig
from minids.count import flops, published
from minids.count.hardware import Hardware, equivalence, find
from minids.count.params import count
from minids.count.published import Fact
from minids.count.serving import Assumptions, Serving, serve, settled

HOUR, DAY = 3600, 24
OPEN = (  # systems whose weights and sizes are public, in the order of the tables
    "deepseek-v2-lite", "moonlight-16b-a3b", "deepseek-v2", "deepseek-v3", "deepseek-v3.2",
    "deepseek-v4-flash", "deepseek-v4-pro", "kimi-k2", "mixtral-8x7b", "llama-3.3-70b",
    "llama-3.1-405b", "llama-4-maverick", "qwen2.5-72b", "qwen3-235b-a22b", "glm-4.5",
    "ernie-4.5-300b-a47b",
)  # fmt: skip


# Training


class Training(NamedTuple):
    """A run's bill."""

    flops: float
    hours: float  # of devices
    days: float  # on so many devices
    dollars: float
    mfu: float  # model FLOPs utilisation: of the peak named
    energy_kwh: float  # of the devices alone


def total(facts: Iterable[Fact]) -> float:
    """The sum of published numbers."""
    return sum(fact.value for fact in facts)


def days(hours: float, devices: float) -> float:
    """Wall-clock days of so many device hours. V3: 2.664M on 2,048 are 54.2."""
    return hours / devices / DAY


def training_flops(cfg: ModelConfig, tokens: float, s: int = flops.CONTEXT) -> float:
    """Of a whole run; V3: 14.8e12 · 250.45e9 = 3.707e24."""
    return tokens * flops.training(cfg, s)


def implied_mfu(done: float, hours: float, machine: Hardware, dtype: str = "bfloat16") -> float:
    """The share of the peak that a published number of hours tells. V3: 0.391 of bfloat16's."""
    return done / (hours * HOUR * machine.flops(dtype))


def train(
    done: float, machine: Hardware, mfu: float, devices: float, price: float, dtype: str
) -> Training:
    """The bill of `done` FLOPs at an assumed utilisation."""
    hours = done / (machine.flops(dtype) * mfu) / HOUR
    energy = hours * machine.watts / 1000
    return Training(done, hours, days(hours, devices), hours * price, mfu, energy)


# A day of serving


class Day(NamedTuple):
    """DeepSeek's overview of one day, recomputed."""

    dollars: float
    income: float  # if every token were paid at R1's list price
    profit_over_cost: float  # 5.45 is the "545 %"
    profit_over_income: float  # what is commonly called a margin
    input_floor: float  # dollars per million tokens at the published rates, hits included
    output_floor: float


def day_bill() -> Day:
    """$87,072, $562K, 545 %, 84.5 %."""
    p = published
    node_hour = 8 * p.V3_PRICE.value
    dollars = p.DAY_NODES.value * DAY * node_hour
    income = (
        p.DAY_HIT.value * p.R1_HIT.value
        + p.DAY_MISS.value * p.R1_MISS.value
        + p.DAY_OUTPUT.value * p.R1_OUTPUT.value
    ) / 1e6
    paid = p.DAY_INCOME.value
    return Day(
        dollars,
        income,
        paid / dollars - 1,
        1 - dollars / paid,
        1e6 * node_hour / HOUR / p.DAY_PREFILL.value,
        1e6 * node_hour / HOUR / p.DAY_DECODE.value,
    )


class System(NamedTuple):
    """One line of the comparison."""

    name: str
    params: int
    active: int
    tokens: float  # of pre-training; 0 if not published
    training: Training | None  # at the assumed utilisation
    published_hours: float  # 0 if not published
    serving: Serving


def compare(
    names: Iterable[str], machine: Hardware, price: float, *, mfu: float, devices: float,
    at: Assumptions | None = None, dtype: str = "bfloat16",
) -> list[System]:  # fmt: skip
    """Open systems side by side: trained and served alike on one machine."""
    rows, at = [], settled(at or Assumptions())
    for name in names:
        cfg = config.load(name).model
        numbers, tokens = count(cfg), published.TOKENS.get(name)
        bill = None
        if tokens:
            done = training_flops(cfg, tokens.value)
            bill = train(done, machine, mfu, devices, price, dtype)
        hours = published.HOURS[name].value if name in published.HOURS else 0.0
        served = serve(cfg, machine, price, at)
        amount = tokens.value if tokens else 0.0
        rows.append(System(name, numbers.main, numbers.active, amount, bill, hours, served))
    return rows


def published_bills() -> dict[str, Any]:
    """V3's and R1's bills, the day of serving and the H800's worth, as lines and as numbers."""
    price, gpus = published.V3_PRICE.value, published.V3_GPUS.value
    v3, r1 = total(published.V3_HOURS), total(published.R1_HOURS)
    stages = [(f"V3 {f.what.split(',')[0]}", f.value, f.value * price) for f in published.V3_HOURS]
    stages += [("V3 in all", v3, v3 * price)]
    stages += [(f.what.split(",")[0], f.value, f.value * price) for f in published.R1_HOURS]
    stages += [("R1 on top of V3", r1, r1 * price)]
    h800, pre = find("h800"), published.V3_HOURS[0].value
    done = training_flops(config.load("deepseek-v3").model, published.V3_TOKENS.value)
    mfu, day, worth = implied_mfu(done, pre, h800), day_bill(), equivalence(h800, find("h100"))
    trillion = days(published.V3_PER_TRILLION.value, gpus)
    notes = [
        f"on 2,048 H800: {days(pre, gpus):.1f} days of pre-training, {days(v3, gpus):.1f} in all, "
        f"{trillion:.2f} per trillion tokens",
        f"{done:.3e} FLOPs in those hours: {mfu:.1%} of bfloat16's peak "
        f"(reported {published.V3_MFU.value:.2%})",
        f"an H800 is {worth.compute:g} H100 in arithmetic, {worth.memory:g} in memory, "
        f"{worth.link:.2f} in NVLink, {worth.network:g} in network",
        f"a day of serving, February 2025: ${day.dollars:,.0f}; income at R1's prices "
        f"${day.income:,.0f}: profit {day.profit_over_cost:.0%} of cost, "
        f"{day.profit_over_income:.1%} of income",
    ]
    return {
        "stages": stages,
        "notes": notes,
        "pretraining_days": days(pre, gpus),
        "all_days": days(v3, gpus),
        "days_per_trillion": trillion,
        "mfu_implied": mfu,
        "day": day._asdict(),
        "h800_in_h100": worth._asdict(),
    }


def closed() -> list[dict[str, Any]]:
    """What is said of systems that publish nothing; a rumour stays a rumour."""
    return [
        {"name": name, "rumoured_flops": fact.value if fact else None, "note": note}
        for name, (fact, note) in published.CLOSED.items()
    ]
