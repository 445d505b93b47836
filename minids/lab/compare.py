"""Where two results part: kind, then shape, dtype, device, and only then values.

A result is a tensor, number, text, or nested tuples, lists and dicts of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

FEW = 12  # numbers that are shown in full
SHORT = 150  # characters of a list or dict that is shown whole


class Difference(NamedTuple):
    """One sentence, and what stood on both sides."""

    what: str  # "shape", "dtype", "device", "value", "kind", "gradient", "input", "error"
    says: str  # "the shape of output 1 is wrong"
    expected: str
    got: str
    where: str = ""  # "largest error 0.3 at [0, 2], 4 of 12 numbers differ"


class Tolerance(NamedTuple):
    """How far numbers may be apart; low precision widens it by itself."""

    atol: float
    rtol: float

    def allowed(self, want: Tensor) -> Tensor:
        """Largest error per number: float64, shape of want."""
        atol, rtol = self.atol, self.rtol
        if want.dtype in (torch.bfloat16, torch.float16):
            eps = torch.finfo(want.dtype).eps
            rtol = max(rtol, 4 * eps)
            finite = want[want.isfinite()]  # [finite]
            atol = max(atol, 2 * eps * finite.abs().max().item() if finite.numel() else 0.0)
        return atol + rtol * want.double().abs()


def difference(want: Any, got: Any, tolerance: Tolerance, name: str = "") -> Difference | None:
    """The first difference, None if there is none.  name: "output 1", for messages"""
    name = name or "the result"
    if isinstance(want, Tensor):
        return of_tensors(want, got, tolerance, name)
    if isinstance(want, dict):
        return whole(want, got, of_dicts(want, got, tolerance, name))
    if isinstance(want, (tuple, list)):
        return whole(want, got, of_sequences(want, got, tolerance, name))
    if isinstance(want, (int, float)) and not isinstance(want, bool):
        return of_numbers(want, got, tolerance, name)
    if kind(want) != kind(got):
        return wrong_kind(want, got, name)
    if want != got:
        return Difference("value", f"{name} is wrong", shown(want), shown(got))
    return None


def of_tensors(want: Tensor, got: Any, tolerance: Tolerance, name: str) -> Difference | None:
    """Shape, dtype, device, then values; NaN and infinities must stand in the same places."""
    if not isinstance(got, Tensor):
        return wrong_kind(want, got, name)
    if want.shape != got.shape:
        sides = size(want), size(got)
        return Difference("shape", f"{name} has the wrong shape", *sides, axes_hint(want, got))
    if want.dtype != got.dtype:
        return Difference("dtype", f"{name} has the wrong dtype", dtype(want), dtype(got))
    if want.device != got.device:
        sides = str(want.device), str(got.device)
        return Difference("device", f"{name} is on the wrong device", *sides)
    error, wrong = errors(want, got, tolerance)
    if not wrong.any():
        return None
    says = f"{name} is wrong"
    if got.is_floating_point() and want.isfinite().all() and not got.isfinite().all():
        bad = "NaN" if got.isnan().any() else "infinity"
        says = f"{name} contains {bad}"
    return Difference("value", says, *both(want, got, error), place(error, wrong))


def errors(want: Tensor, got: Tensor, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Absolute errors as float64, and which are too large.  Same shapes."""
    if not want.is_floating_point():
        wrong = want != got  # [...]
        return (want.double() - got.double()).abs(), wrong
    same = (want == got) | (want.isnan() & got.isnan())  # equal infinities have no difference
    error = (want.double() - got.double()).abs().nan_to_num(nan=float("inf"))
    error = error.masked_fill(same, 0.0)
    allowed = tolerance.allowed(want).nan_to_num(nan=0.0, posinf=0.0)  # [...]
    return error, error > allowed


def both(want: Tensor, got: Tensor, error: Tensor) -> tuple[str, str]:
    """Both sides: in full if short, else the row with the largest error."""
    if want.numel() <= FEW:
        return shown(want), shown(got)
    index = position(error)
    row = index[:-1]
    start = max(0, min(index[-1] - FEW // 2, want.shape[-1] - FEW))
    part = slice(start, start + FEW)
    label = ", ".join(map(str, row)) + (", " if row else "")
    label += ":" if want.shape[-1] <= FEW else f"{start}:{min(start + FEW, want.shape[-1])}"
    return tuple(f"[{label}]  {shown(x[tuple(row)][part])}" for x in (want, got))  # type: ignore[return-value]


def position(error: Tensor) -> list[int]:
    """Indices of the largest entry."""
    flat, index = int(error.flatten().argmax()), []
    for length in reversed(error.shape):
        index.append(flat % length)
        flat //= length
    return index[::-1]


def place(error: Tensor, wrong: Tensor) -> str:
    """How much and how many."""
    how_many = f"{int(wrong.sum())} of {wrong.numel()} numbers differ"
    if wrong.numel() == 1:
        return f"error {error.item():.3g}"
    return f"{how_many}, most at {position(error)}: {error.max().item():.3g}"


def of_sequences(want: Any, got: Any, tolerance: Tolerance, name: str) -> Difference | None:
    """Item by item; a tuple and a list of the same are the same."""
    if not isinstance(got, (tuple, list)):
        return wrong_kind(want, got, name)
    if len(want) != len(got):
        return Difference("kind", f"{name} has the wrong length", str(len(want)), str(len(got)))
    fields = getattr(want, "_fields", None)
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        part = (
            fields[i] if fields else f"output {i + 1}" if name == "the result" else f"{name}[{i}]"
        )
        if found := difference(a, b, tolerance, part):
            return found
    return None


def of_dicts(want: dict, got: Any, tolerance: Tolerance, name: str) -> Difference | None:
    """Keys, then values; order does not matter."""
    if not isinstance(got, dict):
        return wrong_kind(want, got, name)
    if want.keys() != got.keys():
        sides = shown(sorted(map(str, want))), shown(sorted(map(str, got)))
        return Difference("kind", f"{name} has the wrong keys", *sides)
    for key in want:
        part = f"the result's {key!r}" if name == "the result" else f"{name}[{key!r}]"
        if found := difference(want[key], got[key], tolerance, part):
            return found
    return None


def whole(want: Any, got: Any, found: Difference | None) -> Difference | None:
    """Short lists and dicts without tensors are shown whole: the neighbours say more."""
    if (
        found is None
        or type(got) is not type(want)
        or any(any(tensors(x, "")) for x in (want, got))
    ):
        return found
    sides = shown(want), shown(got)
    fits = max(map(len, sides)) <= SHORT
    return found._replace(expected=sides[0], got=sides[1]) if fits else found


def of_numbers(want: float, got: Any, tolerance: Tolerance, name: str) -> Difference | None:
    """Numbers by value; a tensor with one number counts as a number."""
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return wrong_kind(want, got, name)
    if isinstance(want, int) and isinstance(got, int):
        wrong = want != got
    else:
        one = torch.tensor(want, dtype=torch.float64)  # []
        other = torch.tensor(got, dtype=torch.float64)  # []
        wrong = bool(errors(one, other, tolerance)[1])
    if not wrong:
        return None
    return Difference("value", f"{name} is wrong", shown(want), shown(got))


def wrong_kind(want: Any, got: Any, name: str) -> Difference:
    """Another kind of thing altogether."""
    hint = "a function without `return` gives None" if got is None else ""
    return Difference("kind", f"{name} is {kind(got)}", kind(want), kind(got), hint)


def kind(value: Any) -> str:
    """What sort of thing, for people."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor {size(value)}"
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (tuple, list)):
        return f"a {'tuple' if isinstance(value, tuple) else 'list'} of {len(value)}"
    names = {"str": "a text", "dict": "a dict", "bytes": "bytes", "ndarray": "a numpy array"}
    return names.get(type(value).__name__, f"an object of type {type(value).__name__}")


def axes_hint(want: Tensor, got: Tensor) -> str:
    """What usually makes this difference of shapes."""
    if want.ndim != got.ndim:
        return f"{got.ndim} axes instead of {want.ndim}"
    if sorted(want.shape) == sorted(got.shape):
        return "the same axes in another order"
    return ""


def size(x: Tensor) -> str:
    """[2 5 8], as in the comments of the code."""
    return f"[{' '.join(map(str, x.shape))}]"


def dtype(x: Tensor) -> str:
    """float32, without torch in front."""
    return str(x.dtype).removeprefix("torch.")


def shown(value: Any) -> str:
    """A value on one line, numbers with four digits, long things cut."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().tolist()
    text = "".join(pieces(value))
    return text if len(text) <= 300 else text[:299] + "…"


def pieces(value: Any) -> Iterator[str]:
    """Parts of a nested value."""
    if isinstance(value, list | tuple):
        yield "[" if isinstance(value, list) else "("
        for i, item in enumerate(value):
            yield ", " * (i > 0)
            yield from pieces(item)
        yield "]" if isinstance(value, list) else ")"
    elif isinstance(value, dict):
        yield "{"
        for i, (key, item) in enumerate(value.items()):
            yield ", " * (i > 0)
            yield from pieces(key)
            yield ": "
            yield from pieces(item)
        yield "}"
    elif isinstance(value, float):
        yield f"{value:.4g}"
    elif isinstance(value, Tensor):
        yield shown(value)
    else:
        yield repr(value)


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor inside, with its name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, torch.nn.Module):
        yield from ((f"{name}.{n}", p) for n, p in value.named_parameters())
    elif isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", range(len(value)))
        for field, item in zip(fields, value, strict=True):
            label = f"{name}.{field}" if isinstance(field, str) else f"{name}[{field}]"
            yield from tensors(item, label)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{name}[{key!r}]")
