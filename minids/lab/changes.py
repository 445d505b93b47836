"""What may stand in place of a piece of code: the slips of a hand, one at a time.

Left out is what no check asks for: the order of symmetric arguments, a number as a number or as a
tensor of one, arguments that only refuse bad input, summands that only keep zero from a division.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPPOSITE = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
OPERATOR = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = [
    ("sin", "cos"), ("max", "min"), ("sum", "mean"), ("tril", "triu"), ("zeros", "ones"),
    ("exp", "log"), ("sqrt", "square"), ("softmax", "sigmoid"), ("argmax", "argmin"),
    ("cumsum", "sum"), ("repeat_interleave", "repeat"), ("ceil", "floor"), ("any", "all"),
    ("amax", "amin"), ("rsqrt", "sqrt"), ("zeros_like", "ones_like"), ("append", "extend"),
]  # fmt: skip
SYMMETRIC = {"max", "min", "maximum", "minimum", "promote_types", "add", "mul", "isclose"}
PLAIN = {"item", "tolist", "contiguous", "cpu", "numpy"}  # the check does not ask for these
SAFETY = {"strict"}  # arguments that only refuse bad input
TINY = 1e-5  # summands below it keep zero from being divided by
OTHER_NAME = {a: b for pair in NAMES for a, b in (pair, pair[::-1])}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand there instead."""
    for kind, rule in RULES:
        if isinstance(node, kind):
            yield from rule(copy.deepcopy(node))


def of_constant(node: ast.Constant) -> Iterator[ast.AST]:
    """Numbers one up and one down, truths turned, patterns with two axes swapped."""
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str) and "->" in value:
        left, _, right = value.partition("->")
        axes = right.split()
        if len(axes) > 1 and "(" not in right:
            yield ast.Constant(f"{left}-> {' '.join([axes[1], axes[0], *axes[2:]])}")
            if len(axes) > 2:
                yield ast.Constant(f"{left}-> {' '.join([*axes[:-2], axes[-1], axes[-2]])}")
    elif isinstance(value, str) and value in OTHER_NAME:
        yield ast.Constant(OTHER_NAME[value])


def of_compare(node: ast.Compare) -> Iterator[ast.AST]:
    """With and without equality; the other way round."""
    for table in (COMPARE, OPPOSITE):
        if type(node.ops[0]) in table:
            yield ast.Compare(
                node.left, [table[type(node.ops[0])](), *node.ops[1:]], node.comparators
            )


def of_binary(node: ast.BinOp) -> Iterator[ast.AST]:
    """The opposite operator; one side alone. Guards against dividing by zero stay."""
    sides = (side.value for side in (node.left, node.right) if isinstance(side, ast.Constant))
    if any(isinstance(value, float) and 0 < abs(value) < TINY for value in sides):
        return
    if type(node.op) in OPERATOR:
        yield ast.BinOp(node.left, OPERATOR[type(node.op)](), node.right)
    if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult)):
        yield ast.BinOp(node.right, node.op, node.left)
    yield node.left
    yield node.right


def of_unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    """Without sign or negation."""
    yield node.operand


def of_boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    """and for or; the first alone."""
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    yield from node.values


def of_call(node: ast.Call) -> Iterator[ast.AST]:
    """Not called; called with arguments swapped or fewer; a neighbour called instead."""
    function = node.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if isinstance(function, ast.Attribute):
        if name not in PLAIN and not (
            isinstance(function.value, ast.Name) and function.value.id in ("torch", "F", "math")
        ):
            yield function.value
        if function.attr in OTHER_NAME:
            other = ast.Attribute(function.value, OTHER_NAME[function.attr], ast.Load())
            yield ast.Call(other, node.args, node.keywords)
    elif isinstance(function, ast.Name) and function.id in OTHER_NAME:
        yield ast.Call(ast.Name(OTHER_NAME[function.id], ast.Load()), node.args, node.keywords)
    if isinstance(function, ast.Name) or (
        isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    ):
        yield from node.args[:1]
    if (
        len(node.args) > 1
        and name not in SYMMETRIC
        and not any(isinstance(a, ast.Starred) for a in node.args[:2])
    ):
        yield ast.Call(function, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for i in [i for i, k in enumerate(node.keywords) if k.arg not in SAFETY]:
        yield ast.Call(function, node.args, node.keywords[:i] + node.keywords[i + 1 :])


def of_slice(node: ast.Slice) -> Iterator[ast.AST]:
    """Without its begin, without its end."""
    if node.lower is not None:
        yield ast.Slice(None, node.upper, node.step)
    if node.upper is not None:
        yield ast.Slice(node.lower, None, node.step)


def of_tuple(node: ast.Tuple) -> Iterator[ast.AST]:
    """Two neighbours swapped."""
    axes = all(isinstance(e, (ast.Constant, ast.UnaryOp)) for e in node.elts)
    if isinstance(node.ctx, ast.Load) and len(node.elts) > 1 and not axes:
        yield ast.Tuple([node.elts[1], node.elts[0], *node.elts[2:]], node.ctx)


def of_branch(node: ast.If | ast.IfExp | ast.While) -> Iterator[ast.AST]:
    """Always, and never."""
    for truth in (True, False) if not isinstance(node, ast.While) else (False,):
        new = copy.deepcopy(node)
        new.test = ast.Constant(truth)
        yield new


def of_step(node: ast.AugAssign) -> Iterator[ast.AST]:
    """The opposite operator, or plain assignment."""
    if type(node.op) in OPERATOR:
        yield ast.AugAssign(node.target, OPERATOR[type(node.op)](), node.value)
    yield ast.Assign([node.target], node.value)
    yield ast.Pass()


def of_statement(_node: ast.AST) -> Iterator[ast.AST]:
    """Left out."""
    yield ast.Pass()


RULES: list[tuple[Any, Callable[[Any], Iterator[ast.AST]]]] = [
    (ast.Constant, of_constant), (ast.Compare, of_compare), (ast.BinOp, of_binary),
    (ast.UnaryOp, of_unary), (ast.BoolOp, of_boolean), (ast.Call, of_call), (ast.Slice, of_slice),
    (ast.Tuple, of_tuple), ((ast.If, ast.IfExp, ast.While), of_branch), (ast.AugAssign, of_step),
    ((ast.Expr, ast.Continue, ast.Break), of_statement),
]  # fmt: skip
