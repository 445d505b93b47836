"""Popular claims about DeepSeek, each recomputed from what somebody actually published.

A row holds the claim, who says it, what primary sources say, what arithmetic gives, and a verdict:
holds · misleading (true of something else, or of less) · unknowable (nobody has published it). The
arithmetic is done here, now, from the inputs that the row cites (`published`).
"""

from collections.abc import Callable
from typing import NamedTuple

from minids import config
from minids.count import cost, memory, published
from minids.count.hardware import equivalence, find
from minids.count.published import Fact

P = published
VERDICTS = ("holds", "misleading", "unknowable")
ARTICLES = "popular articles"


class Claim(NamedTuple):
    """One row of the table."""

    name: str
    claim: str
    who: str
    primary: str  # what primary sources say
    arithmetic: str  # what follows from them, in words and numbers
    verdict: str  # holds, misleading, unknowable
    because: str
    values: dict[str, float]
    inputs: tuple[Fact, ...]


def all_claims() -> list[Claim]:
    """Every row, computed."""
    return [rule() for rule in RULES]


def two_months() -> Claim:
    """54 days of pre-training."""
    pre, every = P.V3_HOURS[0].value, cost.total(P.V3_HOURS)
    gpus = P.V3_GPUS.value
    run, whole = cost.days(pre, gpus), cost.days(every, gpus)
    trillion = cost.days(P.V3_PER_TRILLION.value, gpus)
    return Claim(
        "two-months",
        "DeepSeek-V3 was built in two months (60 days)",
        ARTICLES,
        "pre-training took less than two months on 2,048 H800; 3.7 days per trillion tokens",
        f"{pre:,.0f} h / {gpus:,.0f} / 24 = {run:.1f} days, all stages {whole:.1f}; "
        f"{trillion:.2f} days per trillion tokens",
        "misleading",
        "true of the final run; the architecture was published from January 2024 on",
        {"pretraining_days": run, "all_days": whole, "days_per_trillion": trillion},
        (*P.V3_HOURS, P.V3_GPUS, P.V3_PER_TRILLION),
    )


def six_million() -> Claim:
    """$5.576M of rent for one run."""
    hours, price = cost.total(P.V3_HOURS), P.V3_PRICE.value
    dollars, cluster = hours * price, P.V3_GPUS.value * P.GPU_CAPITAL.value
    return Claim(
        "six-million",
        "DeepSeek-V3 cost less than $6M",
        ARTICLES,
        "2.788M H800 hours at an assumed $2; research, ablations and data are excluded there",
        f"{hours:,.0f} h · ${price:g} = ${dollars:,.0f}; to buy the cards: about "
        f"${cluster / 1e6:.0f}M",
        "misleading",
        "the rent of the final run, not what it took to get there",
        {"hours": hours, "dollars": dollars, "cluster_dollars": cluster},
        (*P.V3_HOURS, P.V3_PRICE, P.V3_GPUS, P.GPU_CAPITAL),
    )


def h800_equivalence() -> Claim:
    """No single exchange rate gives 1,500."""
    worth = equivalence(find("h800"), find("h100"))
    n, said = P.V3_GPUS.value, P.CLAIMED_H100.value
    need = cost.days(cost.total(P.V3_HOURS), said)
    return Claim(
        "2048-h800-1500-h100",
        "2,048 H800 are equal to 1,500 H100",
        ARTICLES,
        "the H800 is an H100 whose NVLink is cut to 400 GB/s (and its FP64)",
        f"in arithmetic {n * worth.compute:,.0f} H100, in memory {n * worth.memory:,.0f}, in "
        f"NVLink {n * worth.link:,.0f}, in network {n * worth.network:,.0f}; on {said:,.0f} cards "
        f"the same hours take {need:.0f} days",
        "misleading",
        "no resource gives that ratio, and no source was found for it",
        {"compute": n * worth.compute, "link": n * worth.link, "days_on_1500": need},
        (P.CLAIMED_H100, P.V3_GPUS, *P.V3_HOURS),
    )


def utilisation() -> Claim:
    """MFU from FLOPs and hours, against what was reported."""
    cfg, h800 = config.load("deepseek-v3").model, find("h800")
    done, hours = cost.training_flops(cfg, P.V3_TOKENS.value), P.V3_HOURS[0].value
    mfu = cost.implied_mfu(done, hours, h800)
    fp8 = cost.implied_mfu(done, hours, h800, "fp8")
    llama = config.load("llama-3.1-405b").model
    dense = cost.training_flops(llama, P.TOKENS["llama-3.1-405b"].value, 8192)
    ratio, times = dense / done, P.LLAMA_HOURS.value / cost.total(P.V3_HOURS)
    return Claim(
        "eleven-times",
        "DeepSeek-V3 took eleven times less compute than Llama 3.1 405B",
        "comparisons of the two reports",
        "2.788M H800 hours against 30.84M H100 hours; V3 reports 38.94 % utilisation",
        f"FLOPs {done:.3g} against {dense:.3g}: {ratio:.1f} times; hours: {times:.1f} times; V3's "
        f"hours imply {mfu:.1%} of the bfloat16 peak ({fp8:.1%} of FP8's)",
        "holds" if 9 < ratio < 13 and 9 < times < 13 else "misleading",
        "fewer active parameters, not better use of the cards: FLOPs and hours agree",
        {"flops": done, "mfu": mfu, "mfu_fp8": fp8, "flops_ratio": ratio, "hours_ratio": times},
        (P.V3_TOKENS, *P.V3_HOURS, P.V3_MFU, P.TOKENS["llama-3.1-405b"], P.LLAMA_HOURS),
    )


def gpt4_cost() -> Claim:
    """The rumour holds together, and names another card."""
    done = P.GPT4_GPUS.value * P.GPT4_DAYS.value * 86_400 * find("a100").bfloat16
    done *= P.GPT4_MFU.value
    hours = P.GPT4_GPUS.value * P.GPT4_DAYS.value * 24
    dollars = hours * P.GPT4_PRICE.value
    h100 = cost.train(P.GPT4_FLOPS.value, find("h100"), 0.39, 25_000, 2.0, "bfloat16")
    return Claim(
        "gpt-4-cost",
        "GPT-4 took 25,000 H100, 90 to 120 days and more than $100M",
        ARTICLES,
        "OpenAI gives no size, hardware, data or cost",
        f"RUMOUR: 25,000 A100 · {P.GPT4_DAYS.value:.0f} days · 312 TFLOP/s · "
        f"{P.GPT4_MFU.value:.0%} = {done:.3g} FLOPs (it says {P.GPT4_FLOPS.value:.3g}), "
        f"${dollars / 1e6:.0f}M at $1; on 25,000 H100 that is {h100.days:.0f} days",
        "unknowable",
        "the rumour names A100s; H100s came after its training",
        {"flops": done, "dollars": dollars, "h100_days": h100.days},
        (P.GPT4_GPUS, P.GPT4_DAYS, P.GPT4_MFU, P.GPT4_FLOPS, P.GPT4_PRICE),
    )


def gpt4_dense() -> Claim:
    """The only detailed rumour says the opposite."""
    done = cost.training_flops(config.load("deepseek-v3").model, P.V3_TOKENS.value)
    ratio = P.GPT4_FLOPS.value / done
    return Claim(
        "gpt-4-dense",
        "GPT-4 is dense and computes in FP16",
        ARTICLES,
        "undisclosed",
        f"RUMOUR: {P.GPT4_SIZE.value / 1e12:.1f}T parameters in 16 experts, so not dense; its "
        f"FLOPs are {ratio:.1f} times V3's; A100s have no FP8 units, so 16 bits are plausible",
        "unknowable",
        "neither the claim nor the rumour against it can be checked",
        {"flops_over_v3": ratio},
        (P.GPT4_SIZE, P.GPT4_FLOPS, P.V3_TOKENS),
    )


def inference_price() -> Claim:
    """A cost of one is held against another's price."""
    day = cost.day_bill()
    ratio = P.O3_MINI_OUTPUT.value / P.R1_OUTPUT.value
    return Claim(
        "inference-44",
        "a million tokens cost $0.10 with DeepSeek and $4.40 with OpenAI",
        ARTICLES,
        "R1's output was sold at $2.19, V3's at $1.10 (and $0.28 before February 2025)",
        f"at the published rates a node makes a million input tokens for ${day.input_floor:.2f}, "
        f"a million output tokens for ${day.output_floor:.2f}; price against price (R1, o3-mini, "
        f"output): {ratio:.1f} times",
        "misleading",
        "one side's cost (or input) against the other side's output price",
        {"input": day.input_floor, "output": day.output_floor, "ratio": ratio},
        (P.CLAIMED_INFERENCE, P.O3_MINI_OUTPUT, P.R1_OUTPUT, P.DAY_PREFILL, P.DAY_DECODE),
    )


def ten_times() -> Claim:
    """Which pair?"""
    chat = P.GPT4O_OUTPUT.value / P.V3_OUTPUT.value
    read = P.GPT4O_INPUT.value / P.V3_MISS.value
    reason = P.O1_OUTPUT.value / P.R1_OUTPUT.value
    return Claim(
        "ten-times-cheaper",
        "DeepSeek's API is ten times cheaper",
        ARTICLES,
        "V3 $0.27 in, $1.10 out; R1 $0.55 in, $2.19 out",
        f"V3 against GPT-4o: {read:.1f} times in, {chat:.1f} times out; R1 against o1: "
        f"{reason:.1f} times out",
        "holds" if 8 < chat < 12 and 8 < read < 12 else "misleading",
        "for V3 and GPT-4o in early 2025; every pair and month has its own ratio",
        {"output": chat, "input": read, "reasoning": reason},
        (P.V3_MISS, P.V3_OUTPUT, P.R1_OUTPUT, P.GPT4O_INPUT, P.GPT4O_OUTPUT, P.O1_OUTPUT),
    )


def margin() -> Claim:
    """545 % of the cost, 84.5 % of the income."""
    day = cost.day_bill()
    return Claim(
        "545-percent",
        "DeepSeek earns a margin of 545 %",
        ARTICLES,
        "a theoretical income if every token were paid as R1; the real one is said to be far lower",
        f"226.75 nodes · 8 · 24 h · $2 = ${day.dollars:,.0f} a day; income ${day.income:,.0f}; "
        f"profit is {day.profit_over_cost:.0%} of the cost, {day.profit_over_income:.1%} of the "
        "income",
        "misleading",
        "right arithmetic on an income that nobody had; margins are shares of income",
        {
            "dollars": day.dollars,
            "income": day.income,
            "over_cost": day.profit_over_cost,
            "over_income": day.profit_over_income,
        },
        (P.DAY_NODES, P.V3_PRICE, P.DAY_HIT, P.DAY_MISS, P.DAY_OUTPUT, P.DAY_INCOME),
    )


def four_hundred_fifty() -> Claim:
    """The last stage of somebody else's model."""
    hours = P.SKY_HOURS.value * P.SKY_GPUS.value
    price = P.SKY_DOLLARS.value / hours
    qwen = cost.training_flops(config.load("deepseek-r1-distill-qwen-32b").model, 18e12)
    base = cost.train(qwen, find("h100"), 0.39, 1000, price, "bfloat16")
    share = P.SKY_DOLLARS.value / (base.dollars + P.SKY_DOLLARS.value)
    return Claim(
        "450-dollars",
        "Berkeley trained a reasoning model for $450",
        ARTICLES,
        "Sky-T1: fine-tuning of Qwen2.5-32B-Instruct on 17K answers of QwQ; 19 h on 8 H100",
        f"{hours:.0f} H100 h at ${price:.2f}; the base model underneath, 32B on 18T tokens: about "
        f"${base.dollars / 1e6:.0f}M at 39 %, so $450 is {share:.4%} of it",
        "misleading",
        "true of the last stage; base model and teacher were given",
        {"hours": hours, "price": price, "base_dollars": base.dollars},
        (P.SKY_HOURS, P.SKY_GPUS, P.SKY_DOLLARS, P.QWEN_TOKENS),
    )


def r1_cost() -> Claim:
    """147K hours on top of V3."""
    hours = cost.total(P.R1_HOURS)
    dollars = hours * P.V3_PRICE.value
    base = cost.total(P.V3_HOURS) * P.V3_PRICE.value
    zero = cost.days(P.R1_HOURS[0].value, P.R1_GPUS.value)
    return Claim(
        "r1-294k",
        "R1 cost $294,000",
        "press on the Nature paper, September 2025",
        "101K H800 hours for R1-Zero, 5K for data, 41K for R1",
        f"{hours:,.0f} h · $2 = ${dollars:,.0f}, {dollars / base:.1%} of V3's ${base:,.0f} "
        f"underneath; R1-Zero: {zero * 24:.0f} h on 512 cards",
        "misleading",
        "what R1 added to V3; together they are " + f"${(dollars + base) / 1e6:.2f}M",
        {"hours": hours, "dollars": dollars, "with_base": dollars + base, "zero_days": zero},
        (*P.R1_HOURS, P.R1_GPUS, P.V3_PRICE, *P.V3_HOURS),
    )


def cache_cut() -> Claim:
    """93.3 % needs the 6-bit cache."""
    elements = memory.kv_elements_per_token(config.load("deepseek-v2").model)
    before = P.DS67_CACHE.value
    served, plain = elements * P.V2_BITS.value / 8, 2 * elements
    return Claim(
        "mla-93",
        "MLA cuts the KV cache by 93.3 %",
        "DeepSeek-V2 report, abstract",
        "against DeepSeek 67B (grouped heads), with V2's cache in about 6 bits",
        f"{elements:,.0f} numbers: in 6 bits {served:,.0f} bytes, {1 - served / before:.1%} less "
        f"than {before:,.0f}; in bfloat16 {1 - plain / before:.1%} less",
        "holds" if abs(1 - served / before - 0.933) < 0.001 else "misleading",
        "of the whole deployment; MLA alone is the second number",
        {"served": 1 - served / before, "bfloat16": 1 - plain / before},
        (P.V2_BITS, P.DS67_CACHE),
    )


def fp8_loss() -> Claim:
    """A statement about loss."""
    share = P.V3_FP8_LOSS.value
    spread = 2.0 * share
    return Claim(
        "fp8-quarter-percent",
        "training in FP8 loses less than 0.25 %",
        "DeepSeek-V3 report and articles",
        "relative error of the loss against bfloat16, at 16B and 230B parameters",
        f"at a loss of 2.0 nats: {spread:.3f} nats; about exp({spread:.3f}) − 1 = "
        f"{2.718281828**spread - 1:.2%} of perplexity",
        "holds",
        "as stated there, of the loss, not of every task",
        {"nats": spread},
        (P.V3_FP8_LOSS,),
    )


RULES: tuple[Callable[[], Claim], ...] = (
    two_months,
    six_million,
    h800_equivalence,
    utilisation,
    gpt4_cost,
    gpt4_dense,
    inference_price,
    ten_times,
    margin,
    four_hundred_fifty,
    r1_cost,
    cache_cut,
    fp8_loss,
)
