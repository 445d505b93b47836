"""One answer on one case: what it returned, its gradients, what it did to its inputs, its error."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minids.lab.compare import (
    SHORT,
    Difference,
    Tolerance,
    difference,
    dtype,
    shown,
    size,
    tensors,
)
from minids.lab.exercise import Case, Exercise


class Outcome(NamedTuple):
    """What happened."""

    value: Any = None
    gradients: dict[str, Tensor] | None = None
    after: dict[str, Tensor] | None = None  # arguments after the call
    changed: tuple[str, ...] = ()  # names of those that are not as before
    error: BaseException | None = None
    gradient_error: BaseException | None = None  # the value is there, going backward failed


def attempt(exercise: Exercise, answer: Any, case: Case, seed: int) -> Outcome:
    """Call the answer on copies of the case's arguments, and again with gradients where asked."""
    mine = copied(case)
    with own_randomness(), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        try:
            value = exercise.call(answer, mine)
        except (Exception, SystemExit) as error:
            return Outcome(error=error)
        before, after = arguments(exercise, case), arguments(exercise, mine)
        changed = tuple(n for n in before if not unchanged(before[n], after.get(n)))
        gradients = None
        if exercise.gradients and (exercise.may_change_inputs or not changed):
            torch.default_generator.manual_seed(seed)
            try:
                gradients = gradients_of(exercise, answer, case)
            except (Exception, SystemExit) as error:
                return Outcome(value, None, after, changed, gradient_error=error)
    return Outcome(value, gradients, after, changed)


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """The student's random state is the same afterwards.

    Only the CPU's generator: torch.manual_seed formats a stack for every device it may have, 4 ms.
    """
    state = torch.default_generator.get_state()  # [bytes]
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def gradients_of(exercise: Exercise, answer: Any, case: Case) -> dict[str, Tensor]:
    """Of a fixed random sum of all outputs, by every floating-point argument; zero where none."""
    mine = copied(case)
    leaves = {n: x for n, x in arguments(exercise, mine).items() if x.is_floating_point()}
    for leaf in leaves.values():
        leaf.requires_grad_().grad = None
    value = exercise.call(answer, mine)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)  # []
    for _, out in tensors(value, ""):
        if out.is_floating_point():
            weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)  # [...]
            total = total + (out.double() * weight.to(out.device)).sum().cpu()
    if total.requires_grad:
        total.backward()
    return {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in leaves.items()}


def unlike(want: Outcome, got: Outcome, exercise: Exercise) -> Difference | None:
    """How `got` differs from `want`, None if it does not."""
    tolerance = Tolerance(exercise.atol, exercise.rtol)
    if got.error is not None or want.error is not None:
        if same_error(want.error, got.error):
            return None
        return Difference("error", "your code stopped", shown(want.value), str(got.error))
    if found := difference(want.value, got.value, tolerance):
        return found
    if exercise.may_change_inputs and want.value is None:
        if found := difference(want.after, got.after, tolerance, "after the call"):
            return found
    elif not exercise.may_change_inputs and got.changed != want.changed:
        names = " and ".join(got.changed) or "nothing"
        says = f"your function changes its input {names}"
        fix = "an operation whose name ends in _ or an assignment x[...] = works in place"
        return Difference("input", says, "inputs as before", f"{names} changed", fix)
    if got.gradient_error is not None or want.gradient_error is not None:
        if same_error(want.gradient_error, got.gradient_error):
            return None
        return Difference("error", "going backward stopped", "gradients", str(got.gradient_error))
    for name, wanted in (want.gradients or {}).items():
        found = (got.gradients or {}).get(name, torch.zeros_like(wanted))
        if not found.any() and wanted.any():
            says = f"no gradient reaches {name}"
            hint = "detach(), .data, .item(), no_grad() or a rounding cuts the path"
            return Difference("gradient", says, "a gradient", "zero everywhere", hint)
        if part := difference(wanted, found, tolerance, f"the gradient of {name}"):
            return part._replace(what="gradient")
    return None


def same_error(want: BaseException | None, got: BaseException | None) -> bool:
    """Two failures of one cause, as far as one can see."""
    return want is not None and type(want) is type(got) and str(want) == str(got)


def copied(case: Case) -> Case:
    """The case with inputs of its own; whatever cannot be copied is shared."""
    args, options = fresh((tuple(case.args), dict(case.options)), {})
    return case._replace(args=args, options=options)


def fresh(value: Any, memo: dict[int, Any]) -> Any:
    """A copy without graph; one tensor given twice stays one tensor."""
    if isinstance(value, Tensor) and not value.is_leaf:
        return memo.setdefault(id(value), value.detach().clone())
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(fresh(item, memo) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(fresh(item, memo) for item in value)
    if type(value) is dict:
        return {key: fresh(item, memo) for key, item in value.items()}
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def unchanged(before: Tensor, after: Tensor | None) -> bool:
    """The same numbers of the same shape."""
    if after is None or before.shape != after.shape or before.dtype != after.dtype:
        return False
    return bool(((before == after) | ((before != before) & (after != after))).all())


def arguments(exercise: Exercise, case: Case) -> dict[str, Tensor]:
    """Every tensor that goes in, by the name of its parameter."""
    found: dict[str, Tensor] = {}
    for name, value in named(exercise, case).items():
        found |= dict(tensors(value, name))
    return found


def named(exercise: Exercise, case: Case) -> dict[str, Any]:
    """Arguments by the reference's parameter names, numbered if they do not fit."""
    try:
        bound = inspect.signature(exercise.reference).bind(*case.args, **case.options)
    except (TypeError, ValueError):
        return {f"argument {i + 1}": x for i, x in enumerate(case.args)} | case.options
    return dict(bound.arguments)


def described(exercise: Exercise, case: Case) -> str:
    """What the case gives: "q [1 2 1 4] float32, scale 0.5"."""
    parts = []
    for name, value in named(exercise, case).items():
        if isinstance(value, Tensor):
            parts.append(f"{name} {size(value)} {dtype(value)}")
        elif isinstance(value, (int, float, str, bool)) or value is None:
            parts.append(f"{name} {shown(value)}")
        else:
            inside = [f"{size(x)} {dtype(x)}" for _, x in tensors(value, "")]
            plain = isinstance(value, (tuple, list, dict, bytes)) and not inside
            short = shown(value) if plain else ""
            told = f"({', '.join(inside[:4])})" if inside else short if len(short) <= SHORT else ""
            parts.append(f"{name} {told}".rstrip())
    text = " · ".join(parts)
    return text if len(text) <= 240 else text[:239] + "…"
