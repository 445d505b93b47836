"""Does a check notice small changes of a right answer? Each is made once and judged.

What survives is either a hole in the check or the same function written otherwise; the second kind
is listed with its reason in tests/lab/survivors.toml. `python -m minids.lab.mutate 07` shows both.
"""

from __future__ import annotations

import ast
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from minids.lab import cells, exercises, master
from minids.lab.attempt import unlike
from minids.lab.check import Judging
from minids.lab.exercise import Exercise
from minids.lab.limits import Printed, TimeUp, limited, prints_kept

LIMIT_S = 0.25  # per case; the right answer needs milliseconds
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
OTHER_NAME = {a: b for pair in NAMES for a, b in (pair, pair[::-1])}


class Mutant(NamedTuple):
    """One change: "score * scale → score", and the cell with it."""

    name: str
    tree: ast.Module


class Survey(NamedTuple):
    """What happened to the mutants of one exercise."""

    id: str
    killed: tuple[str, ...]
    survived: tuple[str, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Share of the mutants that the check noticed."""
        total = len(self.killed) + len(self.survived)
        return len(self.killed) / total if total else 1.0


def mutants(source: str) -> Iterator[Mutant]:
    """All changes of what stands between BEGIN and END SOLUTION (of the whole cell without)."""
    tree = ast.parse(source)
    inside = solution_lines(source)
    count: dict[str, int] = {}
    for path, node in nodes(tree):
        if getattr(node, "lineno", 0) not in inside:
            continue
        for new in changes(node):
            after = copy.deepcopy(tree)
            put(after, path, new)
            before, now = (shortened(x) for x in (node, new))
            if before == now:
                continue
            name = f"{before} → {now}"
            count[name] = count.get(name, 0) + 1
            if count[name] > 1:
                name += f" ({count[name]})"
            yield Mutant(name, ast.fix_missing_locations(after))


def solution_lines(source: str) -> set[int]:
    """Line numbers inside the marks."""
    found, inside = set(), False
    lines = source.splitlines()
    for i, line in enumerate(lines, 1):
        if line.strip() == master.BEGIN:
            inside = True
        elif line.strip() == master.END:
            inside = False
        elif inside:
            found.add(i)
    return found or set(range(1, len(lines) + 1))


Step = tuple[str, int | None]


def nodes(tree: ast.AST, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], ast.AST]]:
    """Every node with the way to it; annotations, f-strings, docstrings and messages left out."""
    yield path, tree
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "type_comment", "decorator_list"):
            continue
        if isinstance(tree, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for i, item in items:
            doc = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            if isinstance(item, ast.AST) and not doc:
                yield from nodes(item, (*path, (field, i)))


def put(tree: ast.AST, path: tuple[Step, ...], new: ast.AST) -> None:
    """Replace the node at the end of the path."""
    parent = tree
    for field, i in path[:-1]:
        parent = getattr(parent, field) if i is None else getattr(parent, field)[i]
    field, i = path[-1]
    if i is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[i] = new


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
    """The opposite operator; one side alone."""
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
    if isinstance(function, ast.Attribute):
        if not (
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
    if len(node.args) > 1 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
        yield ast.Call(function, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for i in range(len(node.keywords)):
        yield ast.Call(function, node.args, node.keywords[:i] + node.keywords[i + 1 :])


def of_slice(node: ast.Slice) -> Iterator[ast.AST]:
    """Without its begin, without its end."""
    if node.lower is not None:
        yield ast.Slice(None, node.upper, node.step)
    if node.upper is not None:
        yield ast.Slice(node.lower, None, node.step)


def of_tuple(node: ast.Tuple) -> Iterator[ast.AST]:
    """Two neighbours swapped."""
    if isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
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


def shortened(node: ast.AST) -> str:
    """The code of a node on one line."""
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 90 else text[:89] + "…"


def survey(exercise: Exercise, source: str, names: dict[str, Any], seed: int = 0) -> Survey:
    """Judge all mutants of a solution cell; names: what the notebook knows before it."""
    start = time.perf_counter()
    bare = replace(exercise, mistakes=())
    judging = Judging(bare, None, seed, 0.0, LIMIT_S, Printed())
    judging.prepare()
    killed, survived = [], []
    for mutant in mutants(source):
        (killed if fails(judging, mutant, names) else survived).append(mutant.name)
    took = time.perf_counter() - start
    return Survey(exercise.id, tuple(killed), tuple(survived), took)


def fails(judging: Judging, mutant: Mutant, names: dict[str, Any]) -> bool:
    """Whether the check notices."""
    known = dict(names)
    name = judging.exercise.name
    try:
        with prints_kept(judging.printed):
            limited(lambda: exec(compile(mutant.tree, "mutant", "exec"), known), LIMIT_S)
            answer = known[name]
            for i, want in enumerate(judging.wanted):
                got = limited(lambda i=i: judging.outcome(answer, i), LIMIT_S)
                if unlike(want, got, judging.exercise) is not None:
                    return True
    except (Exception, TimeUp):
        return True
    return False


def of_notebook(path: Path) -> Iterator[Survey]:
    """All exercises of a master that have solutions in it."""
    for cell, names, failed in cells.definitions(cells.read(path), path.name):
        if failed is not None:
            raise failed
        assert cell.exercise is not None
        yield survey(exercises.find(cell.exercise), cell.source, names)


def main(lessons: list[str]) -> int:
    """Print kill rates and survivors."""
    for lesson in lessons or sorted(master.paths()):
        for one in of_notebook(master.paths()[master.find(lesson).number]):
            total = len(one.killed) + len(one.survived)
            sys.stdout.write(f"{one.id}  {one.rate:.1%} of {total} mutants, {one.seconds:.1f} s\n")
            sys.stdout.writelines(f"   survived  {name}\n" for name in one.survived)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
