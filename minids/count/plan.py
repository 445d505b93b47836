"""Does it fit, how long does it take, what does it cost: a training run over many devices, planned.

Every rank holds its share of weights, gradients and moments, the activations of the micro-batches
in flight, and room for what is gathered; it computes, talks inside its node and between nodes, and
waits in the pipeline's bubble. Each of these is counted, none is measured: utilisation of the
arithmetic is an assumption (`use`), and so is how much of the talking hides behind it (`overlap`).
Axes: s tokens of a sequence, d hidden_size, e experts, k experts per token; p pipeline stages,
m micro-batches, G data-parallel ranks, E expert-parallel ranks (E divides G).
"""

import math
from typing import NamedTuple

from minids.config import ModelConfig, RunConfig
from minids.count import activations, flops, memory
from minids.count.hardware import Hardware
from minids.count.params import main_weights, mtp_weights
from minids.errors import UserError

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb1p", "dualpipe", "dualpipev")
RESERVE = 0.06  # of the memory: kernels, communication buffers, fragments


class Layout(NamedTuple):
    """How a run is spread."""

    gpus: int
    data: int  # G
    expert: int  # E
    pipeline: int  # p
    micro_batches: int  # m, of each pipeline
    rows: int  # sequences of one micro-batch on one rank
    zero: int = 3  # 3: weights are sharded too (FSDP2); 1: moments alone (as V3 was trained)
    schedule: str = "1f1b"
    recompute: bool = False


class Assumptions(NamedTuple):
    """What cannot be counted."""

    use: float = 0.45  # of the peak, while arithmetic runs
    overlap: float = 1.0  # share of communication that hides behind arithmetic
    dtype: str = "bfloat16"  # of matrix products
    dispatch: str = "bfloat16"  # of tokens on their way to experts (V3: fp8)


class Memory(NamedTuple):
    """Bytes on the fullest rank."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    gathered: float  # whole weights of the blocks at work
    logits: float
    reserve: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


class Plan(NamedTuple):
    """The answer."""

    layout: Layout
    memory: Memory
    fits: bool
    compute_s: float  # of one step, without waiting
    bubble: float  # share of the pipeline's time that is waiting
    all_to_all_bytes: float  # of one rank and step, between nodes and inside
    reduce_bytes: float  # gathered and reduced
    pipeline_bytes: float
    talk_s: float  # all three over their links
    step_s: float
    tokens_per_step: int
    tokens_per_s: float
    mfu: float  # of the whole step
    steps: int
    hours: float  # wall clock
    gpu_hours: float
    dollars: float
    energy_kwh: float  # of the devices alone


def layout_of(
    cfg: RunConfig, gpus: int, *, micro_batches: int = 0, zero: int = 3, schedule: str = "1f1b",
    recompute: bool = False,
) -> Layout:  # fmt: skip
    """The config's layout on so many devices; raises UserError for what cannot be."""
    parallel, model = cfg.parallel, cfg.model
    p, expert = parallel.pipeline, parallel.expert
    if gpus % p:
        raise UserError("parallel.pipeline", f"{p} stages on {gpus} ranks", f"divisors of {gpus}")
    layers = model.num_hidden_layers
    if p > layers:
        raise UserError("parallel.pipeline", f"{p} stages for {layers} layers", f"1 … {layers}")
    data = gpus // p
    if data % expert:
        what = f"{expert} expert ranks among {data} data ranks"
        raise UserError("parallel.expert", what, f"divisors of {data}")
    experts = model.n_routed_experts
    if expert > 1 and (not experts or experts % expert):
        what = f"{expert} ranks for {experts} experts"
        raise UserError("parallel.expert", what, f"divisors of {experts or 1}")
    if cfg.train.batch_size % data:
        what = f"{cfg.train.batch_size} sequences over {data} data ranks"
        raise UserError("train.batch_size", what, f"multiples of {data}")
    share = cfg.train.batch_size // data
    m = micro_batches or (min(share, 4 * p) if p > 1 else 1)
    while not micro_batches and share % m:
        m -= 1
    if share % m:
        what = f"{share} sequences of a rank in {m} micro-batches"
        raise UserError("--micro-batches", what, f"divisors of {share}")
    recompute = recompute or cfg.train.activation_checkpointing == "full"
    return Layout(gpus, data, expert, p, m, share // m, zero, schedule, recompute)


def bubble(schedule: str, p: int, m: int, *, chunks: int = 2) -> float:
    """Waiting over all time of a rank, with a backward pass twice as long as a forward.

    Of V3's Table 2, in units of F = 1, B = 2 (of which W = 1 is for the weights), F&B = 3:
    1F1B (p−1)(F+B) · ZB1P (p−1)(F+B−2W) · DualPipe (p/2−1)(F&B+B−3W). Interleaving v chunks divides
    1F1B's by v. `minids.dist.schedules` has them as timetables and agrees.
    """
    f, b, w, both = 1.0, 2.0, 1.0, 3.0
    waiting = {
        "gpipe": (p - 1) * (f + b),
        "1f1b": (p - 1) * (f + b),
        "interleaved": (p - 1) * (f + b) / chunks,
        "zb1p": (p - 1) * (f + b - 2 * w),
        "dualpipe": max(0.0, p / 2 - 1) * (both + b - 3 * w),
        "dualpipev": (p - 1) * (both + b - 3 * w) / 2,  # 2p half stages on p ranks
    }
    if schedule not in waiting:
        raise UserError("--schedule", f"{schedule!r} is unknown", ", ".join(SCHEDULES))
    return waiting[schedule] / (waiting[schedule] + m * (f + b)) if p > 1 else 0.0


def rank_numbers(cfg: ModelConfig, p: int) -> tuple[float, float]:
    """Numbers of the fullest of p stages: what every data rank holds, and routed experts.

    Layers go to stages as evenly as they can; embedding, head and MTP share the last one, as in V3.
    """
    weights = [*main_weights(cfg), *mtp_weights(cfg)]
    per_stage = math.ceil(cfg.num_hidden_layers / p)
    last = cfg.num_hidden_layers - per_stage  # first layer of the last stage
    fixed, experts = [0.0, 0.0], [0.0, 0.0]  # of the stage before the last, and the last
    for w in weights:
        layer = int(w.name.split(".")[1]) if w.name.startswith("layers.") else -1
        places = [1] if layer < 0 or layer >= last else []
        if p > 1 and 0 <= last - per_stage <= layer < last:
            places.append(0)
        for place in places:
            (experts if ".experts." in w.name else fixed)[place] += w.count
    fullest = max((0, 1), key=lambda i: fixed[i] + experts[i])
    return fixed[fullest], experts[fullest]


def rank_memory(
    cfg: RunConfig, layout: Layout, machine: Hardware, at: Assumptions, *, s: int
) -> Memory:
    """Bytes on the fullest rank. Master weights, gradients and moments are float32."""
    model, p = cfg.model, layout.pipeline
    fixed, experts = rank_numbers(model, p)
    whole = fixed + experts / layout.expert  # numbers a rank works with
    shard = (fixed + experts) / layout.data  # numbers it alone keeps
    moments = 2 if cfg.train.optimizer == "adamw" else 1.1  # Muon: one, AdamW's tables two
    z = memory.size_of(at.dtype)
    if layout.zero == 3:
        weights, gradients = 4 * shard, 4 * shard
        gathered = 2 * z * whole * p / model.num_hidden_layers + 4 * whole / max(
            1, model.num_hidden_layers / p
        )
    else:
        weights, gradients, gathered = z * whole + 4 * shard, 4 * whole, 0.0
    if layout.data == 1:
        gathered = z * whole if at.dtype != "float32" else 0.0
    in_flight = min(p, layout.micro_batches)
    if layout.schedule == "gpipe":
        in_flight = layout.micro_batches
    if layout.schedule.startswith("dualpipe"):
        in_flight = min(p + 1, layout.micro_batches)
        weights, gradients = weights * 2, gradients * 2
    if layout.schedule == "dualpipev":
        weights, gradients = weights / 2, gradients / 2
    fused = machine.name != "cpu"
    kept = activations.kept(
        model, layout.rows, s, at.dtype, recompute=layout.recompute, fused=fused
    )
    kept -= activations.casts(model, at.dtype, recompute=layout.recompute)
    rows = min(layout.rows * s, max(activations.SHORTEST, activations.NEAR // model.vocab_size))
    logits = rows * model.vocab_size * (2 * z + 8)
    acts = kept / p * in_flight
    reserve = RESERVE * machine.memory_bytes
    return Memory(weights, gradients, 4 * moments * shard, acts, gathered, logits, reserve)


def traffic(
    cfg: RunConfig, layout: Layout, machine: Hardware, at: Assumptions, *, s: int
) -> tuple[float, float, float, float]:
    """Bytes one rank sends in a step (all-to-all, gather and reduce, pipeline) and their seconds.

    To experts: a token goes to at most `topk_group` other nodes once, is handed on inside, and
    comes back as bfloat16; the backward pass does the same the other way. Links count one way.
    """
    model, d = cfg.model, cfg.model.hidden_size
    tokens = layout.rows * layout.micro_batches * s
    link = machine.link_rate / 2 or machine.memory_rate / 4
    network = machine.network_rate or link
    moe = sum(model.is_moe_layer(i) for i in range(model.num_hidden_layers)) / layout.pipeline
    each = d * (memory.size_of(at.dispatch) + 2) * 2  # there and back, forward and backward
    far = near = 0.0
    if layout.expert > 1:
        nodes = math.ceil(layout.expert / machine.per_node)
        k = model.num_experts_per_tok
        reached = min(model.topk_group if model.n_group > 1 else k, nodes) * (nodes - 1) / nodes
        far = tokens * moe * each * reached
        near = tokens * moe * each * k * (layout.expert - 1) / layout.expert - far
        near = max(near, 0.0)
    fixed, experts = rank_numbers(model, layout.pipeline)
    whole, others = fixed + experts / layout.expert, (layout.data - 1) / layout.data
    passes = 2 * 2 * layout.micro_batches + 4 if layout.zero == 3 else 2 + 4
    reduced = whole * passes * others
    inside = layout.data <= machine.per_node
    stage = 2 * 2 * tokens * d if layout.pipeline > 1 else 0.0
    seconds = far / network + near / link + reduced / (link if inside else network)
    seconds += stage / (network if layout.gpus > machine.per_node else link)
    return far + near, reduced, stage, seconds


def plan(
    cfg: RunConfig,
    layout: Layout,
    machine: Hardware,
    price: float,
    at: Assumptions,
    *,
    tokens: float = 0,
) -> Plan:
    """A whole run: of `tokens`, or of the config's steps."""
    s, model = cfg.data.context, cfg.model
    per_step = cfg.train.batch_size * cfg.train.grad_accum * s
    steps = math.ceil(tokens / per_step) if tokens else cfg.train.max_steps
    held = rank_memory(cfg, layout, machine, at, s=s)
    done = per_step * flops.training(model, s, with_mtp=True)
    peak = machine.flops(at.dtype)
    extra = 4 / 3 if layout.recompute else 1
    compute = extra * done / (layout.gpus * peak * at.use)
    share = bubble(layout.schedule, layout.pipeline, layout.micro_batches)
    to_experts, reduced, stage, talk = traffic(cfg, layout, machine, at, s=s)
    talk *= cfg.train.grad_accum
    hidden = at.overlap * talk
    step = compute / (1 - share) + (talk - hidden) + max(0.0, hidden - compute)
    hours = steps * step / 3600
    return Plan(
        layout, held, held.total <= machine.memory_bytes, compute, share, to_experts, reduced,
        stage, talk, step, per_step, per_step / step, done / (layout.gpus * peak * step), steps,
        hours, hours * layout.gpus, hours * layout.gpus * price,
        hours * layout.gpus * machine.watts / 1000,
    )  # fmt: skip
