"""Which layers run in FP8: the linear layers of all blocks, and nothing else.

As published for V3, embedding, output head, router, norms and the attention core stay in bfloat16
or float32. The parameters stay where they are, float32 under the same names, so checkpoints,
optimizer and gradients know nothing of it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from minids.errors import UserError
from minids.lowp.backends import have_kernels
from minids.lowp.linear import V3, Fp8Linear, Recipe, fp8_grouped_linear
from minids.nn.experts import Experts
from minids.nn.transformer import Transformer

FP8 = ("fp8", "fp8-sim")


def to_fp8(model: Transformer, recipe: Recipe = V3) -> list[str]:
    """Put FP8 layers around the parameters of every block → names of the layers that changed."""
    changed = []
    for block_name, block in (("layers", model.layers), ("mtp", model.mtp)):
        for name, module in list(block.named_modules()):
            if isinstance(module, Experts):
                module.grouped = partial(fp8_grouped_linear, recipe=recipe)
            elif isinstance(module, nn.Linear) and not isinstance(module, Fp8Linear):
                parent, _, own = name.rpartition(".")
                setattr(block.get_submodule(parent), own, Fp8Linear.around(module, recipe))
            else:
                continue
            changed.append(f"{block_name}.{name}")
    return changed


def recipe_of(precision: str) -> Recipe:
    """`fp8-sim` in plain torch; `fp8` by our kernels, without Triton by torch's scaled matmul."""
    if precision == "fp8-sim":
        return V3
    return Recipe(backend="kernel" if have_kernels() else "scaled_mm")


def check_fp8(device: str) -> None:
    """Real FP8 needs units for it. Raises UserError, which offers the simulation by name."""
    found = device
    if device == "cuda":
        if torch.cuda.get_device_capability() >= (8, 9):
            return
        found = torch.cuda.get_device_name()
    raise UserError(
        "train.precision",
        f"fp8 needs a GPU with FP8 units (Ada, Hopper or newer), here: {found}",
        "fp8-sim (the same codes, simulated, on any machine), bfloat16, float32",
    )
