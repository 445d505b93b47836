"""A training step on one CPU, in seconds and bytes, before it is run.

Three kinds of work, each at its own rate: matrix products (FLOPs), passes over what is kept for the
backward pass (numbers read and written one by one), and the exponentials of attention and loss.
The rates are probed on the machine in a second (`minids.bench.plan`); how many passes a kept number
costs was fitted once to fourteen steps (three presets, two dtypes, one core of an EPYC with
bfloat16 units), raised by 5 % to meet medians, and is the same for both dtypes.
Muon is counted too: on a small batch it is a third of the step.
Axes: b sequences of s tokens, m and n the sides of a matrix, V vocabulary, h heads.
"""

import math
from typing import NamedTuple

from minids.config import ModelConfig
from minids.count import activations, flops, memory
from minids.count.params import main_weights, mtp_weights

PRODUCT = 1.28  # seconds per second at the probed rate: backward and small products are slower
PASSES = 13.9  # over each number kept, forward and backward together
EXP_PASSES = 19.5  # over each attention weight
LOSS_PASSES = 50.6  # over each logit: softmax, its log, the gradient, two casts
UPDATE_PASSES = 47.5  # over each parameter in both optimizers
NEWTON_SCHULZ = 5  # steps of Muon


class Speed(NamedTuple):
    """What one process does, in one dtype."""

    flops_per_s: float  # matrix products of the size training uses
    numbers_per_s: float  # element by element, near the processor


class Step(NamedTuple):
    """One optimizer step of one process."""

    gradient_s: float
    update_s: float
    peak_bytes: float  # beyond what the imports took
    kept_bytes: float  # of activations, at the end of the forward pass
    flops: float

    @property
    def seconds(self) -> float:
        """Both parts."""
        return self.gradient_s + self.update_s


def muon_flops(cfg: ModelConfig) -> float:
    """Newton-Schulz of every matrix: each step is two m·m·n products and one m·m·m, m the shorter.

    An expert's gate and up rows are two matrices in one tensor.
    """
    done = 0.0
    for weight in [*main_weights(cfg), *mtp_weights(cfg)]:
        if not (memory.is_trained(weight) and memory.is_muon(weight)):
            continue
        *stack, rows, columns = weight.shape
        copies = math.prod(stack)
        if weight.name.endswith("gate_up_proj"):
            rows, copies = rows // 2, copies * 2
        m, n = sorted((rows, columns))
        done += copies * NEWTON_SCHULZ * (4 * m * m * n + 2 * m**3)
    return done


def predict(
    cfg: ModelConfig, b: int, s: int, dtype: str, speed: Speed, optimizer: str = "muon",
    *, recompute: bool = False,
) -> Step:  # fmt: skip
    """b sequences of s tokens, one micro-batch, MTP included; `recompute`: one more forward."""
    tokens, depth = b * s, cfg.num_nextn_predict_layers
    layers, again = cfg.num_hidden_layers + depth, 4 / 3 if recompute else 1
    done = again * tokens * flops.training(cfg, s, with_mtp=True)
    plain = tokens * sum(activations.block(cfg, i, s, "float32", True) / 4 for i in range(layers))
    scores = tokens * layers * cfg.num_attention_heads * s
    logits = tokens * cfg.vocab_size * (1 + depth)
    passes = again * (PASSES * plain + EXP_PASSES * scores) + LOSS_PASSES * logits
    numbers = memory.training(cfg, optimizer).weights / memory.size_of("float32")
    orthogonal = muon_flops(cfg) if optimizer == "muon" else 0.0
    return Step(
        PRODUCT * done / speed.flops_per_s + passes / speed.numbers_per_s,
        orthogonal / speed.flops_per_s + UPDATE_PASSES * numbers / speed.numbers_per_s,
        peak(cfg, b, s, dtype, optimizer, recompute=recompute),
        activations.kept(cfg, b, s, dtype, recompute=recompute),
        done + orthogonal,
    )


def peak(
    cfg: ModelConfig, b: int, s: int, dtype: str, optimizer: str = "muon",
    *, recompute: bool = False,
) -> float:  # fmt: skip
    """Weights, gradients, moments; and the larger of the two moments that come and go.

    At the turn from forward to backward everything kept is there and one block of logits; while
    Muon works, several copies of its largest group of equal matrices.
    """
    stay = memory.training(cfg, optimizer).total
    rows = min(b * s, max(activations.SHORTEST, activations.NEAR // cfg.vocab_size))
    block = rows * cfg.vocab_size * (2 * memory.size_of(dtype) + 8)
    turn = activations.kept(cfg, b, s, dtype, recompute=recompute) + block
    if optimizer != "muon":
        return stay + max(turn, stay)  # AdamW holds roots and casts of everything once
    return stay + max(turn, largest_group(cfg) * (8 + 3 * memory.size_of(dtype)))


def largest_group(cfg: ModelConfig) -> int:
    """Numbers in all matrices of the most frequent shape: Muon takes them together."""
    groups: dict[tuple[int, int], int] = {}
    for weight in [*main_weights(cfg), *mtp_weights(cfg)]:
        if memory.is_trained(weight) and memory.is_muon(weight):
            rows, columns = weight.shape[-2:]
            if weight.name.endswith("gate_up_proj"):
                rows //= 2
            groups[rows, columns] = groups.get((rows, columns), 0) + weight.count
    return max(groups.values(), default=0)
