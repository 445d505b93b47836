"""Activation checkpointing: keep what enters a block, compute the rest again when it is asked for.

A backward pass needs what the forward pass computed. Kept, that is most of a training run's memory;
computed again, block by block from the stream that entered it, it costs one more forward pass: a
third more arithmetic. The second pass does the same sums in the same order, routers included, so
loss and gradients are the same bits; what a router counted is counted once, since only the first
pass hands it on. (arXiv 1604.06174 §4; DeepSeek-V3 §3.2.3 does so for RMSNorm and MLA's
up-projections alone)
"""

from __future__ import annotations

from functools import partial

from torch.utils.checkpoint import checkpoint

from minids.nn.block import Block
from minids.nn.transformer import Transformer


def recompute_blocks(model: Transformer) -> int:
    """Every block, MTP modules included, keeps its inputs alone → how many blocks.

    Parameters keep their names; sharding (FSDP2) gathers a block's weights for the second pass too.
    """
    blocks = [block for block in (*model.layers, *model.mtp) if isinstance(block, Block)]
    for block in blocks:
        # nothing in a block is random, and the hooks of shards must all have run: to its end
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False,
            early_stop=False,
        )  # fmt: skip
    return len(blocks)
