"""What a million served tokens cost, from the roofline and how much of it is reached.

A node's hour costs what it costs, so the price of a token is decided by how many tokens it makes:
by whatever runs out first, arithmetic, bandwidth, memory or the reader's patience. How much of the
roofline is reached is taken from the one operator who published it (DeepSeek, February 2025).
Axes: e experts, k experts per token.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from minids import config
from minids.config import ModelConfig
from minids.count import flops, memory, published
from minids.count.hardware import Hardware, find
from minids.count.params import count, main_weights
from minids.count.roofline import Work, least_seconds

HOUR = 3600


class Serving(NamedTuple):
    """A deployment that decodes, and what a million tokens of it cost."""

    devices: int
    batch: int  # answers at a time
    limit: str  # what the batch ran into: memory, patience or enough
    tokens_per_s: float  # of one reader
    node_tokens_per_s: float  # decoded, of 8 devices
    prefill_tokens_per_s: float  # of 8 devices
    input_dollars: float  # per million tokens
    output_dollars: float
    kv_bytes_per_token: float


class Assumptions(NamedTuple):
    """What a price depends on beside the model and the machine."""

    context: int = int(published.DAY_CACHE.value)  # tokens in the cache of an answer, mean
    speed: float = published.DAY_SPEED.value  # tokens per second a reader waits for
    decode_use: float = 0.0  # share of the roofline; 0: what DeepSeek reached, see day_6
    prefill_use: float = 0.0
    dtype: str = "fp8"  # of weights and matrix products
    cache_dtype: str = "bfloat16"
    free: float = 0.9  # of the memory, for weights and cache
    busy: float = published.DAY_NODES.value / published.DAY_PEAK.value  # of the hours paid


WIDEST = 144  # devices that share experts: DeepSeek's decoding units, day 6


def touched(cfg: ModelConfig, batch: float) -> float:
    """Weights that a batch reads: of e experts, those that at least one token chose.

    A token misses an expert with probability 1 − k/e, so a batch touches 1 − (1 − k/e)^batch.
    """
    fixed, experts, share = parts(cfg)
    return fixed + experts * (1 - (1 - share) ** batch)


@cache
def parts(cfg: ModelConfig) -> tuple[int, int, float]:
    """Numbers every token uses, numbers in routed experts, the share of those one token uses."""
    routed = [weight for weight in main_weights(cfg) if ".experts." in weight.name]
    experts, used = sum(w.count for w in routed), sum(w.active for w in routed)
    return count(cfg).active - used, experts, used / experts if experts else 0.0


@cache
def per_answer(cfg: ModelConfig, context: int, dtype: str) -> tuple[float, float]:
    """FLOPs of one more token of an answer, and bytes of its cache."""
    return flops.decode(cfg, context), memory.kv_cache(cfg, context, 1, dtype)


def step_seconds(
    cfg: ModelConfig, machine: Hardware, devices: int, batch: int, at: Assumptions
) -> float:
    """The least time to decode one token of every answer: arithmetic or traffic."""
    done, cached = per_answer(cfg, at.context, at.cache_dtype)
    read = touched(cfg, batch) * memory.size_of(at.dtype) + batch * cached
    return least_seconds(Work(batch * done, read), machine.rates(at.dtype, devices))


@cache
def day_6() -> tuple[float, float]:
    """The shares of the roofline that DeepSeek's nodes reached in February 2025: decode, prefill.

    Decoding: its batch follows from the published rates (tokens per second and node over those of
    one reader), on 18 nodes. Prefill: hits cost nothing, so only misses are counted. Both shares
    are of FP8's peak, though the attention core ran in bfloat16.
    """
    cfg, h800 = config.load("deepseek-v3").model, find("h800")
    nodes, at = WIDEST // 8, Assumptions(decode_use=1, prefill_use=1)
    batch = int(nodes * published.DAY_DECODE.value / published.DAY_SPEED.value)
    floor = step_seconds(cfg, h800, 8 * nodes, batch, at)
    hit, miss = published.DAY_HIT.value, published.DAY_MISS.value
    computed = published.DAY_PREFILL.value * miss / (hit + miss)
    done = computed * flops.prefill(cfg, at.context) / at.context
    return floor * published.DAY_SPEED.value, done / (8 * h800.flops("fp8"))


def settled(at: Assumptions) -> Assumptions:
    """The same with DeepSeek's shares where none was given."""
    if at.decode_use and at.prefill_use:
        return at
    decode, prefill = day_6()
    return at._replace(decode_use=at.decode_use or decode, prefill_use=at.prefill_use or prefill)


def sizes(cfg: ModelConfig, machine: Hardware, at: Assumptions) -> list[int]:
    """Deployments to try: what holds the weights, then doubled.

    Dense weights are shared inside a node at most (more devices are more copies); experts further.
    """
    needed = memory.weights(cfg, at.dtype) / (at.free * machine.memory_bytes)
    fewest = machine.per_node * math.ceil(needed / machine.per_node)
    if needed <= machine.per_node:
        fewest = 2 ** math.ceil(math.log2(max(needed, 1)))
    most = WIDEST if cfg.n_routed_experts else max(machine.per_node, 2 * fewest)
    found = [fewest]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def serve(
    cfg: ModelConfig,
    machine: Hardware,
    price: float,
    at: Assumptions | None = None,
) -> Serving:
    """The cheapest deployment that reads fast enough, by the roofline and a utilisation.

    Every system is served the same way, so the prices compare models, not companies. Nobody's
    margin, idle hours beyond `busy` or engineers are in it.
    """
    at = settled(at or Assumptions())
    tried = [deploy(cfg, machine, price, at, devices) for devices in sizes(cfg, machine, at)]
    return min(tried, key=lambda serving: serving.output_dollars)


def deploy(
    cfg: ModelConfig, machine: Hardware, price: float, at: Assumptions, devices: int
) -> Serving:
    """On so many devices, with the largest batch that fits and is fast enough."""
    room = at.free * devices * machine.memory_bytes - memory.weights(cfg, at.dtype)
    most = int(room // per_answer(cfg, at.context, at.cache_dtype)[1])

    def speed(batch: int) -> float:
        return at.decode_use / step_seconds(cfg, machine, devices, batch, at)

    batch, limit = largest(lambda n: speed(n) >= at.speed, most)
    tokens = batch * speed(batch) if batch else 0.0
    done = flops.prefill(cfg, at.context) / at.context
    prefill = devices * machine.flops(at.dtype) * at.prefill_use / done
    hour = devices * price / at.busy
    return Serving(
        devices,
        batch,
        limit,
        speed(max(batch, 1)),
        tokens * 8 / devices,
        prefill * 8 / devices,
        1e6 * hour / (prefill * HOUR),
        1e6 * hour / (tokens * HOUR) if tokens else math.inf,
        memory.kv_bytes_per_token(cfg, at.cache_dtype),
    )


def largest(is_fast: Callable[[int], bool], most: int) -> tuple[int, str]:
    """The largest batch up to `most` that is fast enough, and what stopped it."""
    if most < 1:
        return 0, "memory"
    if not is_fast(1):
        return 0, "patience"
    if is_fast(most):
        return most, "memory"
    low, high = 1, most  # low is fast enough, high is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_fast(middle) else (low, middle)
    return low, "patience"


class Rung(NamedTuple):
    """One batch size of a deployment: what readers feel and what the operator pays."""

    batch: int
    step_s: float
    tokens_per_s: float  # of one reader
    all_tokens_per_s: float
    cache_bytes: float
    memory_bytes: float  # weights and cache, of all devices
    fits: bool
    dollars: float  # per million output tokens


def ladder(
    cfg: ModelConfig, machine: Hardware, price: float, at: Assumptions, devices: int
) -> list[Rung]:
    """Batches 1, 4, 16, … until the memory is full: latency against throughput."""
    at, rungs, batch = settled(at), [], 1
    while True:
        seconds = step_seconds(cfg, machine, devices, batch, at) / at.decode_use
        cached = batch * per_answer(cfg, at.context, at.cache_dtype)[1]
        held = memory.weights(cfg, at.dtype) + cached
        fits = held <= at.free * devices * machine.memory_bytes
        rate = batch / seconds
        dollars = 1e6 * devices * price / HOUR / rate
        rungs.append(Rung(batch, seconds, 1 / seconds, rate, cached, held, fits, dollars))
        if not fits or batch >= 1 << 20:
            return rungs
        batch *= 4


def first_token_s(cfg: ModelConfig, machine: Hardware, at: Assumptions, devices: int) -> float:
    """A prompt of `context` tokens, alone on the deployment: bound by arithmetic."""
    rate = devices * machine.flops(at.dtype) * settled(at).prefill_use
    return flops.prefill(cfg, at.context) / rate
