"""How large a step is, and when: up in a line, flat, down to the end, as V3 (§4.2)."""

import math

from minids.config import TrainConfig


def lr_factor(step: int, progress: float, cfg: TrainConfig) -> float:
    """Share of the peak learning rate for the step about to be taken.

    step counts from 0; progress in [0, 1) is the share of the run that lies behind, by steps or by
    the clock. The last `decay_share` of it falls to `min_lr_ratio`.
    """
    warm = min(1.0, (step + 1) / cfg.warmup_steps) if cfg.warmup_steps else 1.0
    left = (1.0 - progress) / cfg.decay_share if cfg.decay_share else 1.0
    if left >= 1.0:
        return warm
    if cfg.decay_shape == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    return warm * (cfg.min_lr_ratio + (1.0 - cfg.min_lr_ratio) * left)
