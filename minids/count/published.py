"""Figures that somebody published, each with its source and how far it can be trusted.

Everything that `cost` and `claims` compute starts here, so a doubt about a result is a doubt about
one of these lines. Marks: primary (a maker's paper, repository, model card or price page) · copy
(public copy of one) · press (newspapers, analysts) · assumed (a number chosen to calculate with).
"""

from typing import NamedTuple


class Fact(NamedTuple):
    """A number, what it says and who says so."""

    value: float
    what: str
    source: str
    mark: str = "primary"


V3_REPORT = "DeepSeek-V3 report, arXiv 2412.19437"
INSIGHTS = "Insights into DeepSeek-V3, arXiv 2505.09343"
DAY_6 = "deepseek-ai/open-infra-index, day 6 (Feb 2025)"
R1_PAPER = "DeepSeek-R1, Nature 645 supplement, arXiv 2501.12948v2"
SKY = "NovaSky-AI/SkyThought README"
API = "DeepSeek API price page"
V2_REPORT = "DeepSeek-V2 report, arXiv 2405.04434"
LLAMA_CARD = "Llama 3.1 model card"
GPT4_REPORT = "GPT-4 technical report, arXiv 2303.08774 §2"
RUMOUR = "SemiAnalysis, July 2023: a rumour, never confirmed"

# DeepSeek-V3: one final run
V3_HOURS = (
    Fact(2_664_000, "pre-training, H800 hours", f"{V3_REPORT} Table 1"),
    Fact(119_000, "context extension, H800 hours", f"{V3_REPORT} Table 1"),
    Fact(5_000, "post-training, H800 hours", f"{V3_REPORT} Table 1"),
)
V3_PRICE = Fact(2.0, "dollars per H800 hour", f"{V3_REPORT} §1, an assumption there too", "assumed")
V3_GPUS = Fact(2_048, "H800 in the cluster", f"{V3_REPORT} §3.1")
V3_TOKENS = Fact(14.8e12, "pre-training tokens", f"{V3_REPORT} §4.2")
V3_PER_TRILLION = Fact(180_000, "H800 hours per trillion tokens", f"{V3_REPORT} §1")
V3_MFU = Fact(0.3894, "utilisation, causal count, of bfloat16's peak", f"{INSIGHTS} Table 4")
V3_FLOPS = Fact(250e9, "FLOPs per token in training at 4K", f"{INSIGHTS} Table 2")
V3_FP8_LOSS = Fact(0.0025, "relative loss error of FP8 against bfloat16", f"{V3_REPORT} §3.3")
GPU_CAPITAL = Fact(27_500, "dollars to buy an H800, 25,000 to 30,000", "rough, ours", "assumed")

# DeepSeek-R1: on top of V3
R1_HOURS = (
    Fact(101_000, "R1-Zero, H800 hours", R1_PAPER, "copy"),
    Fact(5_000, "making the SFT data, H800 hours", R1_PAPER, "copy"),
    Fact(41_000, "R1, H800 hours", R1_PAPER, "copy"),
)
R1_GPUS = Fact(512, "H800, 64 nodes of 8", R1_PAPER, "copy")

# A day of serving V3 and R1
DAY_NODES = Fact(226.75, "nodes of 8 H800, mean of 24 hours", DAY_6)
DAY_PEAK = Fact(278, "nodes at the peak", DAY_6)
DAY_HIT = Fact(342e9, "input tokens found in the cache", DAY_6)
DAY_MISS = Fact(266e9, "input tokens computed: 608e9 less the hits", DAY_6)
DAY_OUTPUT = Fact(168e9, "output tokens", DAY_6)
DAY_INCOME = Fact(562_027, "dollars a day if all were paid as R1", DAY_6)
DAY_CACHE = Fact(4_989, "tokens in the cache of an answer, mean", DAY_6)
DAY_DECODE = Fact(14_800, "output tokens per second and node", DAY_6)
DAY_PREFILL = Fact(73_700, "input tokens per second and node, hits included", DAY_6)
DAY_SPEED = Fact(21, "tokens per second and reader, 20 to 22", DAY_6)

# Prices per million tokens
R1_HIT = Fact(0.14, "R1, cached input", API)
R1_MISS = Fact(0.55, "R1, input", API)
R1_OUTPUT = Fact(2.19, "R1, output", API)
V3_MISS = Fact(0.27, "V3 from February 2025, input", API)
V3_OUTPUT = Fact(1.10, "V3 from February 2025, output", API)
GPT4O_INPUT = Fact(2.50, "GPT-4o, input", "press, early 2025", "press")
GPT4O_OUTPUT = Fact(10.0, "GPT-4o, output", "press, early 2025", "press")
O1_OUTPUT = Fact(60.0, "o1, output", "press, February 2025", "press")
O3_MINI_OUTPUT = Fact(4.40, "o3-mini, output", "list price of early 2025, not read again", "press")

# Others
LLAMA_HOURS = Fact(30.84e6, "H100 hours of Llama 3.1 405B", LLAMA_CARD, "copy")
GPT4_FLOPS = Fact(2.15e25, "FLOPs of GPT-4's training", RUMOUR, "press")
GPT4_GPUS = Fact(25_000, "A100", RUMOUR, "press")
GPT4_DAYS = Fact(95, "days, 90 to 100", RUMOUR, "press")
GPT4_MFU = Fact(0.34, "utilisation, 0.32 to 0.36", RUMOUR, "press")
GPT4_SIZE = Fact(1.8e12, "parameters, 16 experts of which 2 work", RUMOUR, "press")
GPT4_PRICE = Fact(1.0, "dollars per A100 hour", RUMOUR, "press")
SKY_HOURS = Fact(19, "hours on 8 H100", SKY)
SKY_GPUS = Fact(8, "H100", SKY)
SKY_DOLLARS = Fact(450, "dollars", SKY)
QWEN_TOKENS = Fact(18e12, "tokens behind the Qwen2.5 base model", "Qwen2.5 report", "copy")
V2_BITS = Fact(6, "bits per number of V2's cache as served", f"{V2_REPORT} §3.2.3")
DS67_CACHE = Fact(389_120, "bytes per token of DeepSeek 67B: 95 layers of 8 heads", "its config")
CLAIMED_H100 = Fact(1_500, "H100 said to equal 2,048 H800", "popular articles", "press")
CLAIMED_INFERENCE = Fact(0.10, "dollars per million tokens, said of DeepSeek", "articles", "press")

# Tokens of pre-training, where published
TOKENS = {
    "deepseek-v2-lite": Fact(5.7e12, "tokens", V2_REPORT),
    "deepseek-v2": Fact(8.1e12, "tokens", V2_REPORT),
    "deepseek-v3": V3_TOKENS,
    "deepseek-v4-flash": Fact(32e12, "tokens", "DeepSeek-V4 report, arXiv 2606.19348"),
    "deepseek-v4-pro": Fact(33e12, "tokens", "DeepSeek-V4 report, arXiv 2606.19348"),
    "moonlight-16b-a3b": Fact(5.7e12, "tokens", "Muon is scalable, arXiv 2502.16982"),
    "kimi-k2": Fact(15.5e12, "tokens", "Kimi K2 report, arXiv 2507.20534"),
    "llama-3.3-70b": Fact(15e12, "tokens, 15T and more", "model card", "copy"),
    "llama-3.1-405b": Fact(15.6e12, "tokens", LLAMA_CARD, "copy"),
    "llama-4-maverick": Fact(22e12, "tokens, about", "model card", "copy"),
    "qwen2.5-72b": QWEN_TOKENS,
    "qwen3-235b-a22b": Fact(36e12, "tokens", "Qwen3 report", "copy"),
    "glm-4.5": Fact(23e12, "tokens", "GLM-4.5 report", "copy"),
}
HOURS = {
    "deepseek-v3": Fact(2_788_000, "H800 hours", f"{V3_REPORT} Table 1"),
    "deepseek-v2": Fact(172_800 * 8.1, "H800 hours: 172.8K per trillion tokens", V2_REPORT),
    "llama-3.1-405b": LLAMA_HOURS,
    "llama-3.3-70b": Fact(7.0e6, "H100 hours", "model card", "copy"),
    "llama-4-maverick": Fact(2.38e6, "H100 hours", "model card", "copy"),
}
CLOSED = {  # what is known of systems that tell nothing
    "GPT-4": (GPT4_FLOPS, "undisclosed; figures are a rumour (SemiAnalysis, July 2023)"),
    "Claude 3.5 Sonnet": (None, "undisclosed"),
    "Gemini": (None, "undisclosed"),
}
