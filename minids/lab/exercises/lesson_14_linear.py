"""Lesson 14: the three products of a layer.

Axes: T tokens, i inputs, o outputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lowp.backends import Operand
from minids.lowp.linear import (
    PER_TENSOR,
    V3,
    V3_HOPPER,
    Gradients,
    Recipe,
    backward,
    forward,
)
from minids.lowp.scaling import quantize_block

Three = tuple[Tensor, Operand, Operand]
RECIPES = (
    ("V3", V3),
    ("V3, powers of two", Recipe(scale="ue8m0")),
    ("V3, 14-bit sums", V3_HOPPER),
    ("one scale per tensor", PER_TENSOR),
)


def matrices(generator: torch.Generator) -> Iterator[tuple[str, Recipe, Tensor, Tensor, Tensor]]:
    """Recipe, x [T i], weight [o i], grad [T o]; loud channel and token, small gradients."""
    shapes = ((3, 5, 4), (6, 200, 140), (150, 130, 6))
    for number, (name, recipe) in enumerate(RECIPES):
        T, i, o = shapes[number % 3]
        x = torch.randn(T, i, generator=generator)  # [T i]
        x[:, 1] *= 40
        grad = 1e-6 * torch.randn(T, o, generator=generator)  # [T o]
        grad[1] *= 300
        weight = torch.randn(o, i, generator=generator) / i**0.5  # [o i]
        yield f"{name}, T={T} i={i} o={o}", recipe, x, weight, grad
    T, i, o = 20, 140, 150
    x, weight = (torch.randn(n, i, generator=generator) for n in (T, o))  # [T i], [o i]
    x[:, 3] *= 40
    grad = 1e-6 * torch.randn(T, o, generator=generator)  # [T o]
    yield "V3, bfloat16 in", V3, x.bfloat16(), weight / i**0.5, grad.bfloat16()


# 14.1 forward


def inputs(generator: torch.Generator) -> Iterator[Case]:
    """x, weight, recipe."""
    for label, recipe, x, weight, _ in matrices(generator):
        yield Case((x, weight, recipe), label)


def in_numbers(answer, case: Case):
    """Codes as the numbers they mean, and how they were grouped."""
    y, left, right = answer(*case.args)
    if not (isinstance(left, Operand) and isinstance(right, Operand)):
        return y, left, right
    return y, left.value(), right.value(), left.groups, right.groups


def both_tiles(x: Tensor, weight: Tensor, recipe: Recipe) -> Three:
    left, right = recipe.tiles(x), recipe.tiles(weight)
    return recipe.multiply(left, right, x.dtype), left, right


def both_blocks(x: Tensor, weight: Tensor, recipe: Recipe) -> Three:
    left, right = recipe.blocks(x), recipe.blocks(weight)
    return recipe.multiply(left, right, x.dtype), left, right


def exact_product(x: Tensor, weight: Tensor, recipe: Recipe) -> Three:
    return F.linear(x, weight.to(x.dtype)), recipe.tiles(x), recipe.blocks(weight)


def wide_out(x: Tensor, weight: Tensor, recipe: Recipe) -> Three:
    left, right = recipe.tiles(x), recipe.blocks(weight)
    return recipe.multiply(left, right, torch.float32), left, right


def rounded_twice(x: Tensor, weight: Tensor, recipe: Recipe) -> Three:
    return forward(x, weight.bfloat16(), recipe)


FORWARD = Exercise(
    "14.1",
    "forward",
    "quantise both, multiply",
    forward,
    inputs,
    (
        Mistake(
            "tiles for the weight",
            "On the way back the weight is summed along its other axis. Tiles cannot be turned, "
            "square blocks can: one set of codes serves both ways.",
            both_tiles,
        ),
        Mistake(
            "blocks for the activations",
            "A block of 128 tokens shares its scale with the loudest of them. Activations get a "
            "scale per token and 128 channels.",
            both_blocks,
        ),
        Mistake(
            "multiplied before quantising",
            "The product was made from the wide numbers; the codes are only kept. Then nothing is "
            "saved, and the way back belongs to another product.",
            exact_product,
        ),
        Mistake(
            "result always float32",
            "Between the layers numbers travel as they came, here in bfloat16.",
            wide_out,
        ),
        Mistake(
            "the weight rounded twice",
            "The float32 weight goes to E4M3 directly; a stop at bfloat16 rounds some numbers the "
            "wrong way.",
            rounded_twice,
        ),
    ),
    (
        "Which of the two will be needed again along its other axis?",
        "The recipe knows how to make tiles and blocks and how to multiply; three calls do it.",
        "Activations by recipe.tiles, weight by recipe.blocks; multiply takes the dtype of the "
        "result as well.",
    ),
    call=in_numbers,
)


# 14.2 backward


def ways_back(generator: torch.Generator) -> Iterator[Case]:
    """grad, what forward kept, recipe."""
    for label, recipe, x, weight, grad in matrices(generator):
        _, left, right = forward(x, weight, recipe)
        yield Case((grad, left, right, recipe), label)


def along_outputs(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    right_one = backward(grad, left, right, recipe)
    by_output = recipe.tiles(grad, recipe.grad_floor).value()  # [T o]
    by_input = recipe.tiles(left.value()).value()  # [T i]
    return Gradients(right_one.x, by_output.T @ by_input)


def old_tiles(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    right_one = backward(grad, left, right, recipe)
    return Gradients(right_one.x, recipe.tiles(grad.T, recipe.grad_floor).value() @ left.value())


def floor_of_activations(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    to_x = recipe.multiply(recipe.tiles(grad), right.T, grad.dtype)
    by_token = recipe.tiles(left.value().T)
    return Gradients(to_x, recipe.multiply(recipe.tiles(grad.T), by_token, torch.float32))


def narrow_sum(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    found = backward(grad, left, right, recipe)
    return Gradients(found.x, found.weight.bfloat16())


def wide_gradient(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    del recipe
    to_x = (grad.float() @ right.value()).to(grad.dtype)
    return Gradients(to_x, grad.float().T @ left.value())


def in_blocks(grad: Tensor, left: Operand, right: Operand, recipe: Recipe) -> Gradients:
    def blocks(g: Tensor) -> Operand:
        return Operand(*quantize_block(g, scale=recipe.scale, floor=recipe.grad_floor), "block")

    if recipe.groups == "tensor":
        return backward(grad, left, right, recipe)
    to_x = recipe.multiply(blocks(grad), right.T, grad.dtype)
    by_token = recipe.tiles(left.value().T)
    return Gradients(to_x, recipe.multiply(blocks(grad.T), by_token, torch.float32))


BACKWARD = Exercise(
    "14.2",
    "backward",
    "both gradients, each with tiles along its sum",
    backward,
    ways_back,
    (
        Mistake(
            "weight gradient tiled along channels",
            "∂W is summed over tokens, so its tiles must run along tokens. Here they run along "
            "channels, and a GEMM could not apply their scales.",
            along_outputs,
        ),
        Mistake(
            "x with its old tiles",
            "The codes of x have a scale per token and 128 inputs. For a sum over tokens they "
            "must be read back and tiled again, 128 tokens each.",
            old_tiles,
        ),
        Mistake(
            "the floor of activations",
            "Gradients are means over all tokens of a step, far below 1e-4. With that floor most "
            "of them come out as 0; the recipe has another one for them.",
            floor_of_activations,
        ),
        Mistake(
            "weight gradient in bfloat16",
            "It will be added up over micro-batches and steps: V3 keeps it in float32.",
            narrow_sum,
        ),
        Mistake(
            "gradient not quantised",
            "Both products took ∂y as it came. That is accurate, but no FP8 unit can do it: two "
            "thirds of the work would stay in bfloat16.",
            wide_gradient,
        ),
        Mistake(
            "blocks for the gradient",
            "DeepSeek tried it: with 128×128 blocks for the gradients of activations a 16B model "
            "diverged (V3, appendix B.2). A loud token silences 127 others.",
            in_blocks,
        ),
    ),
    (
        "For each of the two products ask: which axis is summed?",
        "∂x is summed over outputs, ∂W over tokens. Tiles lie along the axis that is summed; what "
        "has them along the other must be turned first.",
        "right.T turns the blocks. left has tiles, so left.value() reads it back, and the "
        "transpose is tiled anew. ∂y is tiled twice, once each way, with recipe.grad_floor.",
    ),
    atol=1e-11,
)
