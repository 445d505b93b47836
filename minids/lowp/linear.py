"""Linear layers that multiply in FP8, as DeepSeek-V3 trained: three products, three quantisations.

| product            | left                          | right                          | out     |
|--------------------|-------------------------------|--------------------------------|---------|
| y = x Wᵀ           | x, tiles of 128 inputs        | W, blocks of 128×128           | as x    |
| ∂x = ∂y W          | ∂y, tiles of 128 outputs      | W, the same codes              | as x    |
| ∂W = ∂yᵀ x         | ∂y, tiles of 128 tokens       | x, tiles of 128 tokens         | float32 |

A product can apply a scale only where it is constant along what is summed, so the tiles turn with
the sum. x is kept for the way back as codes, half the bytes of bfloat16, and tiled anew there.
Weights, gradients and optimizer state stay float32 ("master weights"; moments may be bfloat16).
Not here: the E5M6 that V3 gives the input of the projection behind attention.
Axes: T tokens, i inputs, o outputs, R rows sorted by expert, e experts.  (DeepSeek-V3 §3.3)
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from minids.lowp import backends
from minids.lowp.backends import Operand
from minids.lowp.scaling import (
    AMAX_FLOOR,
    GRAD_FLOOR,
    ScaleKind,
    dequantize_block,
    quantize_block,
    quantize_tensor,
    quantize_tile,
)

Backend = Literal["sim", "kernel", "scaled_mm"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a layer quantises and multiplies. The defaults are V3's."""

    groups: Literal["tile", "tensor"] = "tile"  # tiles and blocks, or one scale per tensor
    scale: ScaleKind = "float"
    grad_floor: float = GRAD_FLOOR  # smallest largest gradient of a group
    backend: Backend = "sim"
    bits: int = 0  # sim: kept by the running sum inside the unit; 0 means float32
    interval: int = 128  # sim: elements between promotions; 0 never

    def tiles(self, x: Tensor, floor: float = AMAX_FLOOR) -> Operand:
        """A factor whose last axis is summed: tiles along it.  x [m k]"""
        if self.groups == "tensor":
            code, scale = quantize_tensor(x, self.scale, floor)
            return Operand(code, scale, "tensor")
        rule = backends.kernel("quantize_tile") if self.backend == "kernel" else quantize_tile
        code, scale = rule(x, scale=self.scale, floor=floor)
        return Operand(code, scale, "tile")

    def blocks(self, w: Tensor) -> Operand:
        """A weight: blocks, so that it can be summed along either axis.  w [o i]"""
        if self.groups == "tensor":
            code, scale = quantize_tensor(w, self.scale)
            return Operand(code, scale, "tensor")
        rule = backends.kernel("quantize_block") if self.backend == "kernel" else quantize_block
        code, scale = rule(w, scale=self.scale)
        return Operand(code, scale, "block")

    def multiply(self, a: Operand, b: Operand, dtype: torch.dtype) -> Tensor:
        """a bᵀ.  a [m k], b [n k] → [m n]"""
        if self.backend == "sim":
            return backends.simulate(a, b, dtype, self.bits, self.interval)
        rule = backends.by_kernel if self.backend == "kernel" else backends.by_scaled_mm
        return rule(a, b, dtype)


V3 = Recipe()
V3_HOPPER = Recipe(bits=14)  # with the tensor core's short sums, promoted every 128
V3_UNPROMOTED = Recipe(bits=14, interval=0)  # and what they do if left alone
PER_TENSOR = Recipe(groups="tensor", bits=14)  # one scale per tensor, everything else alike


class Gradients(NamedTuple):
    """Of one matrix product."""

    x: Tensor  # [T i]
    weight: Tensor  # [o i]


def forward(x: Tensor, weight: Tensor, recipe: Recipe) -> tuple[Tensor, Operand, Operand]:
    """x [T i], weight [o i] → y [T o], and the codes of both"""
    left, right = recipe.tiles(x), recipe.blocks(weight)
    return recipe.multiply(left, right, x.dtype), left, right


def backward(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    """grad [T o] of y, codes of x [T i] and of the weight [o i] → both gradients"""
    floor = recipe.grad_floor
    to_x = recipe.multiply(recipe.tiles(grad, floor), right.T, grad.dtype)
    by_token = recipe.tiles(left.value().T)
    to_w = recipe.multiply(recipe.tiles(grad.T, floor), by_token, torch.float32)
    return Gradients(to_x, to_w)


class Fp8Product(torch.autograd.Function):
    """y = x Wᵀ with the three quantised products.  x [T i], weight [o i] → [T o]"""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, recipe: Recipe) -> Tensor:
        y, left, right = forward(x, weight, recipe)
        ctx.save_for_backward(*left[:2], *right[:2])
        ctx.kinds, ctx.recipe, ctx.weight_dtype = (left.groups, right.groups), recipe, weight.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x_code, x_scale, w_code, w_scale = ctx.saved_tensors
        left, right = Operand(x_code, x_scale, ctx.kinds[0]), Operand(w_code, w_scale, ctx.kinds[1])
        found = backward(grad, left, right, ctx.recipe)
        return found.x, found.weight.to(ctx.weight_dtype), None


class Fp8Linear(nn.Linear):
    """`Linear` whose three products run in FP8; the same parameters under the same names.

    x [… in] bfloat16 or float32 → [… out] in x's dtype. Loads a released checkpoint's pair of
    `weight` (E4M3) and `weight_scale_inv` as well as a plain weight.
    """

    def __init__(
        self, width_in: int, width_out: int, *, bias: bool = False, recipe: Recipe = V3
    ) -> None:
        super().__init__(width_in, width_out, bias=bias)
        self.recipe = recipe

    @classmethod
    def around(cls, linear: nn.Linear, recipe: Recipe) -> "Fp8Linear":
        """The same layer in FP8, with the very parameters of a plain one."""
        with torch.device("meta"):
            made = cls(linear.in_features, linear.out_features, recipe=recipe)
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = Fp8Product.apply(flat, self.weight, self.recipe)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """torch's hook: a scale beside the weight multiplies it (whatever its name says)."""
        scale = state_dict.pop(prefix + "weight_scale_inv", None)
        if scale is not None:
            code = state_dict[prefix + "weight"]
            state_dict[prefix + "weight"] = dequantize_block(code, scale.float())
        super()._load_from_state_dict(state_dict, prefix, *rest)


def fp8_grouped_linear(x: Tensor, weight: Tensor, counts: list[int], recipe: Recipe = V3) -> Tensor:
    """Rows sorted by expert, each times its expert's matrix.  x [R i], weight [e o i] → [R o]"""
    return Fp8Grouped.apply(x, weight, counts, recipe)


class Fp8Grouped(torch.autograd.Function):
    """One quantised product per expert. Tiles along tokens end where an expert's rows end.

    An expert without rows gets a zero gradient. With kernels, forward and ∂x are one launch each.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, counts: list[int], recipe: Recipe) -> Tensor:
        left = recipe.tiles(x)
        right = [recipe.blocks(w) for w in weight]
        ctx.save_for_backward(*left[:2], *(t for w in right for t in w[:2]))
        ctx.kinds = left.groups, right[0].groups
        ctx.counts, ctx.recipe, ctx.weight_dtype = counts, recipe, weight.dtype
        return each(left, right, counts, recipe, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        recipe, counts, (code, scale, *pairs) = ctx.recipe, ctx.counts, ctx.saved_tensors
        right = [
            Operand(c, s, ctx.kinds[1]).T for c, s in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        left = Operand(code, scale, ctx.kinds[0])
        floor = recipe.grad_floor
        to_x = each(recipe.tiles(grad, floor), right, counts, recipe, grad.dtype)
        to_w = grad.new_zeros(len(right), grad.shape[1], code.shape[1], dtype=torch.float32)
        rows = zip(grad.split(counts), left.value().split(counts), to_w, strict=True)
        for g, visits, out in rows:
            if len(g):
                by_token = recipe.tiles(g.T, floor), recipe.tiles(visits.T)
                out.copy_(recipe.multiply(*by_token, torch.float32))
        return to_x, to_w.to(ctx.weight_dtype), None, None


def each(
    left: Operand, right: list[Operand], counts: list[int], recipe: Recipe, dtype: torch.dtype
) -> Tensor:
    """Every expert's rows times its own matrix.  left [R k], right e × [n k] → [R n]"""
    if recipe.backend == "kernel" and recipe.groups == "tile":
        return backends.grouped_by_kernel(left, right, counts, dtype)
    parts = [
        recipe.multiply(rows, w, dtype)
        for rows, w in zip(left.split(counts), right, strict=True)
        if len(rows.code)
    ]
    empty = left.code.new_zeros(0, len(right[0].code), dtype=dtype)
    return torch.cat([empty, *parts])
