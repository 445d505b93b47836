"""How results travel between a submission's process and the grader's: JSON and safetensors.

Nothing that is read can run: no pickle. Whatever is no tensor, number, text, bytes, dtype, or
tuple, list, set or dict of them arrives as an object that equals nothing.
"""

from __future__ import annotations

import builtins
import collections
import json
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from minids.lab.attempt import Outcome

LARGEST = 64_000_000  # bytes of one message
Packed = dict[str, Any] | list[Any] | str | int | bool | None


def dump(message: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> bytes:
    """A message with its tensors, as bytes."""
    head = json.dumps(message).encode()
    body = save_tensors(tensors) if tensors else b""
    return len(head).to_bytes(8, "big") + head + body


def load(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The message and its tensors. Raises ValueError for anything else."""
    size = int.from_bytes(data[:8], "big")
    try:
        message = json.loads(data[8 : 8 + size])
        body = data[8 + size :]
        tensors = load_tensors(body) if body else {}
    except Exception as error:  # safetensors raises its own type
        raise ValueError(str(error)) from error
    if not isinstance(message, dict):
        raise ValueError("no object")
    return message, tensors


def pack(value: Any, tensors: dict[str, torch.Tensor]) -> Packed:
    """A result as JSON; its tensors are put aside."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_complex() or value.device.type == "meta":
            return {"other": f"{value.layout} {value.dtype} {value.device}"}
        plain = value.detach().as_subclass(torch.Tensor)  # type: ignore[arg-type]
        name = str(len(tensors))
        tensors[name] = plain.cpu().contiguous().clone()
        return {"tensor": name, "device": str(plain.device)}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, set | frozenset):
        return {"set": [pack(item, tensors) for item in value]}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)) is not None:
        fields = [str(field) for field in names]
        return {"fields": fields, "items": [pack(item, tensors) for item in value]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        pairs = [[pack(k, tensors), pack(v, tensors)] for k, v in value.items()]
        return {"dict": pairs}
    return {"other": type(value).__name__}


def unpack(packed: Packed, tensors: dict[str, torch.Tensor]) -> Any:
    """The result again. Raises ValueError, KeyError or TypeError for what pack never writes."""
    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        device = str(packed["device"])
        found = tensors[packed["tensor"]]
        return found if device == "cpu" else stranger(f"tensor on {device}")
    if "float" in packed:
        return float.fromhex(packed["float"])
    if "fields" in packed:
        items = [unpack(item, tensors) for item in packed["items"]]
        return collections.namedtuple("Result", packed["fields"], rename=True)(*items)
    if "dict" in packed:
        return {unpack(k, tensors): unpack(v, tensors) for k, v in packed["dict"]}
    if "bytes" in packed:
        return bytes.fromhex(packed["bytes"])
    if "dtype" in packed:
        found = getattr(torch, packed["dtype"])
        return found if isinstance(found, torch.dtype) else stranger("dtype")
    if "other" in packed:
        return stranger(str(packed["other"]))
    ((kind, items),) = packed.items()
    return {"tuple": tuple, "list": list, "set": set}[kind](unpack(item, tensors) for item in items)


def stranger(name: str) -> object:
    """Something that equals nothing, with a name for the message."""
    return type(name[:80] or "object", (), {})()


def pack_outcome(
    outcome: Outcome, lines: tuple[str, ...], tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """What happened in one case; lines: of the answer's code, if it stopped."""
    packed: dict[str, Any] = {"changed": list(outcome.changed)}
    for part in ("value", "gradients", "after"):
        packed[part] = pack(getattr(outcome, part), tensors)
    for part in ("error", "gradient_error"):
        if (error := getattr(outcome, part)) is not None:
            text = str(error)[:2000]
            packed[part] = {"type": type(error).__name__, "text": text, "lines": list(lines)}
    return packed


def unpack_outcome(packed: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Outcome:
    """The same again."""
    value, gradients, after = (unpack(packed[p], tensors) for p in ("value", "gradients", "after"))
    errors: list[Exception | None] = []
    for part in ("error", "gradient_error"):
        if found := packed.get(part):
            lines = tuple(str(line)[:300] for line in found["lines"])
            errors.append(stopped(str(found["type"]), str(found["text"]), lines))
        else:
            errors.append(None)
    changed = tuple(str(name) for name in packed["changed"])
    return Outcome(value, of_tensors(gradients), of_tensors(after), changed, *errors)


def of_tensors(found: Any) -> dict[str, torch.Tensor] | None:
    """A dict of tensors, None for anything else."""
    good = isinstance(found, dict) and all(isinstance(x, torch.Tensor) for x in found.values())
    return found if good else None


def stopped(kind: str, text: str, lines: tuple[str, ...]) -> Exception:
    """An error of that type and text; its lines are kept on it."""
    known = getattr(builtins, kind, None)
    error: Exception | None = None
    if isinstance(known, type) and issubclass(known, Exception):
        for candidate in (text, text[1:-1]):  # KeyError quotes its text
            try:
                error = known(candidate)
            except TypeError:
                continue
            if str(error) == text:
                break
    if error is None or str(error) != text:
        error = type(kind[:80] or "Exception", (Exception,), {})(text)
    error.lines = lines  # type: ignore[attr-defined]
    return error
