"""The Triton kernels from outside: tensors in, codes, scales and products out.

Here are the checks, the number of programs and the sizes of tiles; what a program does is in
`kernels_quantize`, `kernels_matmul` and `kernels_fused`. Triton is imported at the first call: it
exists for Linux alone. On a CPU its interpreter runs the same source with TRITON_INTERPRET=1, a
million times slower: for reading and testing.
Axes: m, n rows of the factors, k what is summed, j tiles of 128, e experts, R rows of all experts.
"""

import importlib
import importlib.util
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.errors import UserError
from minids.lowp.scaling import (
    AMAX_FLOOR,
    CODE,
    TILE,
    Quantized,
    ScaleKind,
    check,
    check_codes,
)

HAVE_TRITON = importlib.util.find_spec("triton") is not None
ROWS = 16  # of a quantising program: 16 tiles of 128, four loads of 16 bytes for each thread


class Tiles(NamedTuple):
    """How a product is cut and run."""

    m: int = 128  # rows of a tile of results
    n: int = 128  # its columns
    warps: int = 8  # that share a tile, of 32 threads each
    stages: int = 3  # buffers between copying and multiplying
    group: int = 8  # tiles of rows that use the same columns in turn
    programs: int = 1  # per multiprocessor, each walking over many tiles; 0: one per tile


BEST = Tiles()  # measured on an H200 (assets/receipts/fp8-h200.json); what follows is not yet
FEW = Tiles(m=64, warps=4, stages=4)  # where 128 rows would mostly be empty
UNMEASURED = {  # `minids bench fp8 --only cut` on a GPU decides
    "three programs that take turns": Tiles(m=64, warps=4, stages=3, group=16, programs=3),
    "two programs, deeper": Tiles(m=64, warps=4, stages=4, group=16, programs=2),
    "one, deeper": Tiles(stages=5),
}


def quantize_tile(x: Tensor, *, scale: ScaleKind = "float", floor: float = AMAX_FLOOR) -> Quantized:
    """A scale for each row and 128 columns.  x [m k], any strides → [m k], [m j]"""
    kernels = ready("quantize", x)
    m, k = matrix(x, scale)
    code, scales = codes_for(x), scales_for(x, m, k)
    if x.numel():
        programs = (-(-m // ROWS) * -(-k // TILE),)
        kernels.quantize_tile_kernel[programs](
            x, code, scales, m, k, *x.stride(), floor, ROWS, scale == "ue8m0", compiled(x)
        )
    return Quantized(code, scales.T)


def quantize_block(
    w: Tensor, *, scale: ScaleKind = "float", floor: float = AMAX_FLOOR
) -> Quantized:
    """A scale for each 128×128.  w [n k], any strides → [n k], [⌈n/128⌉ ⌈k/128⌉]"""
    kernels = ready("quantize", w)
    n, k = matrix(w, scale)
    high, wide = -(-n // TILE), -(-k // TILE)
    code, scales = codes_for(w), torch.empty(high, wide, device=w.device)
    if w.numel():
        kernels.quantize_block_kernel[(high * wide,)](
            w, code, scales, n, k, *w.stride(), floor, scale == "ue8m0", compiled(w), num_warps=8
        )
    return Quantized(code, scales)


def dequantize(code: Tensor, scale: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """code [m k] with scales of tiles [m j] or of blocks [⌈m/128⌉ j] → [m k]"""
    kernels = ready("quantize", code, scale)
    check_codes(code, scale)
    m, k = code.shape
    shared = shared_rows(m, k, scale)
    out = torch.empty(m, k, device=code.device, dtype=dtype)
    if out.numel():
        programs = (-(-m // ROWS) * -(-k // TILE),)
        kernels.dequantize_kernel[programs](
            code.contiguous(), scale, out, m, k, *scale.stride(), ROWS, shared
        )
    return out


def swiglu_quantize(
    gate_up: Tensor, *, scale: ScaleKind = "float", floor: float = AMAX_FLOOR
) -> Quantized:
    """SiLU(gate) ⊙ up, quantised without going through memory.  [m 2f] → [m f], [m ⌈f/128⌉]"""
    kernels = ready("fused", gate_up)
    m, f = matrix(gate_up, scale)[0], gate_up.shape[1] // 2
    if gate_up.shape[1] % 2:
        raise UserError("fp8", f"{2 * f + 1} columns are no pair of gate and up", "an even number")
    gate_up = gate_up if gate_up.stride(1) == 1 else gate_up.contiguous()
    code = torch.empty(m, f, device=gate_up.device, dtype=CODE)
    scales = scales_for(gate_up, m, f)
    if code.numel():
        kernels.swiglu_quantize_kernel[(-(-m // ROWS) * -(-f // TILE),)](
            gate_up, code, scales, m, f, gate_up.stride(0), floor,
            ROWS, scale == "ue8m0", compiled(gate_up),
        )  # fmt: skip
    return Quantized(code, scales.T)


def rms_norm_quantize(
    x: Tensor,
    weight: Tensor,
    *,
    eps: float = 1e-6,
    scale: ScaleKind = "float",
    floor: float = AMAX_FLOOR,
) -> Quantized:
    """RMSNorm, quantised without going through memory.  x [m d], weight [d] → [m d], [m j]"""
    kernels = ready("fused", x, weight)
    m, d = matrix(x, scale)
    if weight.shape != (d,):
        raise UserError("fp8", f"{list(weight.shape)} weights for {d} columns", f"[{d}]")
    x = x if x.stride(1) == 1 else x.contiguous()
    code, scales = codes_for(x), scales_for(x, m, d)
    if x.numel():
        tiles = 1 << (-(-d // TILE) - 1).bit_length()  # a power of two, as Triton's shapes are
        kernels.rms_norm_quantize_kernel[(m,)](
            x, weight.contiguous(), code, scales, m, d, x.stride(0), eps, floor,
            tiles, scale == "ue8m0", compiled(x), num_warps=8 if tiles > 16 else 4,
        )  # fmt: skip
    return Quantized(code, scales.T)


def matmul(
    a: Tensor,
    a_scale: Tensor,
    b: Tensor,
    b_scale: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    tiles: Tiles | None = None,
) -> Tensor:
    """a bᵀ of codes, the scales multiplied in every 128.  a [m k], b [n k] → [m n]

    Scales: of a per row [m j]; of b per row [n j] or per block [⌈n/128⌉ j].
    """
    kernels = ready("matmul", a, b, a_scale, b_scale)
    check_codes(a, a_scale)
    check_codes(b, b_scale)
    (m, k), n = a.shape, b.shape[0]
    if b.shape[1] != k:
        raise UserError("fp8", f"{k} columns against {b.shape[1]}", "equal lengths of the sum")
    if shared_rows(m, k, a_scale) != 1:
        raise UserError("fp8", "the first factor has scales of blocks", "tiles of 1×128")
    out = torch.empty(m, n, device=a.device, dtype=dtype)
    if not out.numel() or not k:
        return out.zero_()
    cut = tiles or (BEST if m > FEW.m else FEW)
    shared = shared_rows(n, k, b_scale)
    count = -(-m // cut.m) * -(-n // cut.n)
    kernels.matmul_kernel[programs(cut, count, a)](
        descriptor(a, cut.m), descriptor(b, cut.n), a_scale, b_scale, out, m, n, k,
        *a_scale.stride(), *b_scale.stride(), cut.m, cut.n, cut.group, shared, **options(cut),
    )  # fmt: skip
    return out


def matmul_grouped(
    a: Tensor,
    a_scale: Tensor,
    b: Tensor,
    b_scale: Tensor,
    counts: list[int],
    dtype: torch.dtype = torch.bfloat16,
    tiles: Tiles | None = None,
) -> Tensor:
    """Rows sorted by expert, each times its expert's matrix, in one launch.  → [R n]

    a [R k] with scales [R j]; b [e n k] with scales [e ⌈n/128⌉ j]; counts: rows of each expert.
    """
    kernels = ready("matmul", a, b, a_scale, b_scale)
    check_codes(a, a_scale)
    check_codes(b, b_scale)
    (rows, k), (experts, n, _) = a.shape, b.shape
    if sum(counts) != rows or len(counts) != experts or b.shape[2] != k:
        what = f"{sum(counts)} rows of {len(counts)} experts against {rows} of {experts}"
        raise UserError("fp8", what, "counts of all rows, equal lengths of the sum")
    out = torch.empty(rows, n, device=a.device, dtype=dtype)
    if not out.numel() or not k:
        return out.zero_()
    cut = tiles or (BEST if rows > FEW.m * experts else FEW)
    assert TILE % cut.n == 0, "a tile's columns must lie in one block"
    plan = plan_of(counts, cut.m)
    count = len(plan) * -(-n // cut.n)
    kernels.grouped_kernel[programs(cut, count, a)](
        descriptor(a, cut.m), descriptor(b.reshape(experts * n, k), cut.n), a_scale, b_scale, out,
        torch.tensor(plan, dtype=torch.int32).to(a.device, non_blocking=True), len(plan), n, k,
        *a_scale.stride(), *b_scale.stride(), cut.m, cut.n, cut.group, **options(cut),
    )  # fmt: skip
    return out


def plan_of(counts: list[int], height: int) -> list[tuple[int, int, int]]:
    """Tiles of rows, none across two experts: expert, first row, end of its rows."""
    plan, first = [], 0
    for expert, rows in enumerate(counts):
        end = first + rows
        plan += [(expert, start, end) for start in range(first, end, height)]
        first = end
    return plan


# Bookkeeping


def ready(name: str, *tensors: Tensor) -> Any:
    """The module of kernels. Raises UserError where it or its device is missing."""
    if not HAVE_TRITON:
        raise UserError(
            "fp8", "Triton is not installed", "precision=fp8-sim", hint="pip install triton (Linux)"
        )
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if len({t.device for t in tensors}) > 1:
        raise UserError("fp8", "the tensors are on different devices", "one device")
    if not interpreted:
        check_units(tensors[0].device)
    return importlib.import_module(f"minids.lowp.kernels_{name}")


def check_units(device: torch.device) -> None:
    """Whether there are FP8 units. Raises UserError, which offers the simulation by name."""
    found = f"a {device.type}"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 9):
            return
        found = torch.cuda.get_device_name(device)
    raise UserError("fp8", f"kernels do not run on {found}", "Ada, Hopper …, precision=fp8-sim")


def matrix(x: Tensor, scale: str) -> tuple[int, int]:
    """Rows and columns of what shall be quantised."""
    check(x, scale)
    if x.ndim != 2:
        raise UserError("fp8", f"{x.ndim} axes", "a matrix")
    return x.shape[0], x.shape[1]


def compiled(x: Tensor) -> bool:
    """On a GPU, where the conversion instruction of the chip can be trusted."""
    return x.device.type == "cuda"


def codes_for(x: Tensor) -> Tensor:
    """Room for the codes of a wide tensor.  [m k]"""
    return torch.empty(x.shape, device=x.device, dtype=CODE)


def scales_for(x: Tensor, m: int, k: int) -> Tensor:
    """Room for the scales of tiles, the rows of one tile side by side.  → [j m]"""
    return torch.empty(-(-k // TILE), m, device=x.device)


def shared_rows(m: int, k: int, scale: Tensor) -> int:
    """How many rows share a scale: 1 (tiles) or 128 (blocks)."""
    j = -(-k // TILE)
    if scale.shape == (m, j):
        return 1
    if scale.shape == (-(-m // TILE), j):
        return TILE
    raise UserError("fp8", f"scales {list(scale.shape)} for {m}×{k}", "one per 1×128 or 128×128")


def descriptor(code: Tensor, height: int) -> Any:
    """What the copy engine needs to fetch `height` × 128 codes: rows must be 16 bytes apart.

    Other strides cost a copy; so does k that 16 does not divide, filled up with zeros.
    """
    from triton.tools.tensor_descriptor import (  # pyright: ignore[reportMissingImports]
        TensorDescriptor,
    )

    if code.shape[1] % 16:
        code = F.pad(code.view(torch.uint8), (0, -code.shape[1] % 16)).view(code.dtype)
    if code.stride(1) != 1 or code.stride(0) % 16 or code.data_ptr() % 16:
        code = code.view(torch.uint8).clone(memory_format=torch.contiguous_format).view(code.dtype)
    return TensorDescriptor(code, list(code.shape), list(code.stride()), [height, TILE])


def programs(cut: Tiles, count: int, x: Tensor) -> tuple[int]:
    """As many as the GPU holds, each with several tiles; or one per tile."""
    if not cut.programs:
        return (count,)
    units = 3  # in the interpreter: few, so that each walks
    if x.is_cuda:
        units = torch.cuda.get_device_properties(x.device).multi_processor_count
    return (min(count, units * cut.programs),)


def options(cut: Tiles) -> dict[str, Any]:
    """What the compiler is told."""
    return {"STAGES": cut.stages, "num_warps": cut.warps, "num_stages": cut.stages}
