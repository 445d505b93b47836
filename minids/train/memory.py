"""How many bytes a training run will hold, before it holds any."""

from __future__ import annotations

import os
from pathlib import Path

from minids.config import RunConfig
from minids.count.params import count

BYTES_PER_PARAMETER = 16  # float32 weight and gradient, Muon's or AdamW's moments, a cast copy


def parameters(cfg: RunConfig) -> int:
    """Parameters of the model, MTP modules included."""
    total = count(cfg.model)
    return total.main + total.mtp


def checkpoint_bytes(cfg: RunConfig) -> int:
    """Size of one checkpoint: float32 weights and at most two moments."""
    return 12 * parameters(cfg)


def needed_bytes(cfg: RunConfig) -> int:
    """An estimate: parameters and their states, activations of one micro-batch, logits."""
    m, tokens = cfg.model, cfg.train.batch_size * cfg.data.context
    per_layer = 24 * m.hidden_size + m.num_attention_heads * min(cfg.data.context, 512)
    layers = m.num_hidden_layers + m.num_nextn_predict_layers
    if cfg.train.activation_checkpointing == "full":  # inputs of all blocks, the rest of one
        layers, per_layer = 1, per_layer + layers * m.hidden_size
    logits = (1 + m.num_nextn_predict_layers) * m.vocab_size
    return BYTES_PER_PARAMETER * parameters(cfg) + 4 * tokens * (layers * per_layer + 2 * logits)


def available_bytes() -> int:
    """Memory that can be taken now; 0 where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return 0
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
