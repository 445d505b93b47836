"""FP8 kernels beside what they must beat: bfloat16 cuBLAS, torch's scaled matmul, the machine.

On a GPU: time by CUDA events, the L2 cache emptied before each call, median with lowest and
highest; as TFLOP/s or GB/s and as a share of the measured ceiling (a large copy, a large product of
random numbers). On a CPU: errors alone. A time there would be the interpreter's and would say
nothing of a kernel.
Axes: m, n rows of the factors, k what is summed.  (Shapes of DeepSeek-V3's layers, 4096 tokens.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minids.bench.harness import Plan, report, spread
from minids.lowp import backends, kernels, scaling
from minids.lowp.backends import Operand

TOKENS = 4096
PRODUCTS = ((2048, 7168), (4096, 7168), (7168, 2048), (18_432, 7168), (7168, 18_432))  # n, k
SMALL = ((256, 128, 512), (64, 256, 2048))  # m, n, k on a CPU
GROUPED = (8, 4096, 7168)  # experts of one GPU, n, k
CALLS = 30  # timed, of each kernel
FLUSH_BYTES = 1 << 28  # several times any L2 cache
BF16 = torch.bfloat16


def bench(plan: Plan, device: str | None = None) -> dict[str, Any]:
    """Every case whose name contains `plan.only` → the report."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        cases = [c for c in map(accuracy_case, SMALL) if plan.only in c["case"]]
        return report("fp8", plan, cases, device=device, gpu=None, ceilings=None)
    major, minor = torch.cuda.get_device_capability()
    gpu = {"name": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
    with torch.no_grad():
        tops = ceilings()
        plan.tell(f"ceilings: {tops}")
        cases = []
        for name, case in gpu_cases(tops):
            if plan.only in name:
                cases.append({"case": name} | case())
                plan.tell(name)
    return report("fp8", plan, cases, device=device, gpu=gpu, ceilings=tops)


# Time


def clock(call: Callable[[], object], calls: int = CALLS) -> dict[str, float]:
    """Microseconds on the GPU: median, low, high.

    The wait in front lets the CPU order everything before the first event is reached.
    """
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        call()
    marks = []
    for _ in range(calls):
        flush.zero_()
        torch.cuda._sleep(1_000_000)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        marks.append((start, end))
    torch.cuda.synchronize()
    return spread([1e3 * start.elapsed_time(end) for start, end in marks])


def attempt(call: Callable[[], Tensor]) -> dict[str, Any]:
    """Time, or the first line of what was said against it."""
    try:
        return {"us": clock(call)}
    except Exception as trouble:  # another version of torch may refuse in any way
        return {"us": None, "why": (str(trouble) or repr(trouble)).splitlines()[0][:200]}


def ceilings() -> dict[str, float]:
    """What this machine does at best: bytes copied, products of large random matrices."""
    big = torch.randn(1 << 29, device="cuda", dtype=BF16)  # 1 GiB
    other = torch.empty_like(big)
    copy = 2 * big.nbytes / clock(lambda: other.copy_(big))["median"] / 1e3
    big = other = torch.empty(0)
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=BF16) for _ in range(2))
    wide = 2 * size**3 / clock(lambda: F.linear(a, b))["median"] / 1e6
    a8, b8, one = a.to(scaling.CODE), b.to(scaling.CODE), torch.ones((), device="cuda")
    fast = {"scale_a": one, "scale_b": one, "out_dtype": BF16, "use_fast_accum": True}
    found = attempt(lambda: torch._scaled_mm(a8, b8.T, **fast))["us"]
    narrow = 2 * size**3 / found["median"] / 1e6 if found else float("nan")
    return {"copy_gb_per_s": copy, "bf16_tflops": wide, "fp8_tflops": narrow}


# Cases


def gpu_cases(tops: dict[str, float]):
    """Names and what measures them."""
    for n, k in PRODUCTS:
        yield f"matmul {TOKENS}×{n}×{k}", lambda n=n, k=k: product_case(TOKENS, n, k, tops)
    for what, cut in kernels.UNMEASURED.items():
        for n, k in PRODUCTS[1:3]:
            name = f"cut {TOKENS}×{n}×{k}, {what}"
            yield name, lambda n=n, k=k, cut=cut: cut_case(TOKENS, n, k, cut, tops)
    yield f"grouped {GROUPED[0]}×512×{GROUPED[1]}×{GROUPED[2]}", lambda: grouped_case(tops)
    for m, k in ((TOKENS, 7168), (TOKENS, 18_432), (4 * TOKENS, 7168)):
        for name in ("quantize_tile", "quantize_block", "dequantize", "rms_norm", "swiglu"):
            yield f"{name} {m}×{k}", lambda m=m, k=k, name=name: memory_case(name, m, k, tops)


def operands(m: int, n: int, k: int, device: str) -> tuple[Tensor, Tensor, Operand, Operand]:
    """Random x [m k] and w [n k] in bfloat16, and both quantised as V3 does."""
    generator = torch.Generator(device).manual_seed(1)
    x, w = (torch.randn(s, k, generator=generator, device=device).to(BF16) for s in (m, n))
    rules = kernels if device == "cuda" else scaling
    return (
        x,
        w,
        Operand(*rules.quantize_tile(x), "tile"),
        Operand(*rules.quantize_block(w), "block"),
    )


def product_case(m: int, n: int, k: int, tops: dict[str, float]) -> dict[str, Any]:
    """One GEMM by everybody."""
    x, w, a, b = operands(m, n, k, "cuda")
    row = lambda scale: scale.float().amax(1, keepdim=True).contiguous()  # noqa: E731
    x_row, w_row = (t.abs().float().amax(1, keepdim=True) / scaling.E4M3_MAX for t in (x, w))
    x8, w8 = (x / x_row).to(scaling.CODE), (w / w_row).to(scaling.CODE)
    rows = {"scale_a": x_row, "scale_b": row(w_row).T, "out_dtype": BF16}
    ways = {
        "ours": lambda: kernels.matmul(*a[:2], *b[:2]),
        "bf16 cuBLAS": lambda: F.linear(x, w),
        "scaled_mm, rows": lambda: torch._scaled_mm(x8, w8.T, **rows, use_fast_accum=True),
    }
    found = {name: attempt(call) for name, call in ways.items()}
    found["scaled_mm, blocks"] = block_wise(a, b)
    flops = 2 * m * n * k
    for way in found.values():
        if way["us"]:
            way["tflops"] = flops / way["us"]["median"] / 1e6
    ours, wide = found["ours"].get("tflops"), found["bf16 cuBLAS"].get("tflops")
    return {
        "unit": "TFLOP/s",
        "ways": found,
        "share": ours and ours / tops["fp8_tflops"],
        "times_bf16": ours and wide and ours / wide,
        "error": errors(
            ways["ours"]()[:256], x[:256], w, Operand(a[0][:256], a[1][:256], "tile"), b
        ),
    }


def cut_case(m: int, n: int, k: int, cut: kernels.Tiles, tops: dict[str, float]) -> dict[str, Any]:
    """Our GEMM cut in another way, beside the way it is cut."""
    *_, a, b = operands(m, n, k, "cuda")
    ways = {"ours": cut, "as it is": kernels.BEST}
    found = {
        name: attempt(lambda cut=cut: kernels.matmul(*a[:2], *b[:2], tiles=cut))
        for name, cut in ways.items()
    }
    for way in found.values():
        if way["us"]:
            way["tflops"] = 2 * m * n * k / way["us"]["median"] / 1e6
    ours = found["ours"].get("tflops")
    share = ours and ours / tops["fp8_tflops"]
    return {"unit": "TFLOP/s", "ways": found, "share": share, "tiles": cut._asdict()}


def block_wise(a: Operand, b: Operand) -> dict[str, Any]:
    """torch's own product with scales of 1×128 and 128×128, where this version has one."""
    try:
        from torch.nn.functional import ScalingType, scaled_mm
    except ImportError:
        return {"us": None, "why": "this torch has no block-wise scaled_mm"}
    high = len(b.scale)
    filled = F.pad(b.scale, (0, 0, 0, -high % 4))  # columns of a multiple of 4
    column = filled.T.contiguous().T[:high]
    kinds = ScalingType.BlockWise1x128, ScalingType.BlockWise128x128
    found: dict[str, Any] = {}
    for scale in (b.scale.T, column.T, b.scale, column, b.scale.T.contiguous()):
        call = lambda scale=scale: scaled_mm(  # noqa: E731
            a.code, b.code.T, a.scale, kinds[0], scale, kinds[1], output_dtype=BF16
        )
        found = attempt(call)
        if found["us"]:
            wanted = kernels.matmul(*a[:2], *b[:2]).float()
            apart = (call().float() - wanted).norm() / wanted.norm()
            return found | {"difference": apart.item()}
    return found


def grouped_case(tops: dict[str, float]) -> dict[str, Any]:
    """Experts in one launch beside bfloat16 products one after the other."""
    experts, n, k = GROUPED
    counts = [TOKENS // experts] * experts
    generator = torch.Generator("cuda").manual_seed(2)
    x = torch.randn(TOKENS, k, generator=generator, device="cuda").to(BF16)
    w = torch.randn(experts, n, k, generator=generator, device="cuda").to(BF16)
    a = kernels.quantize_tile(x)
    pairs = [kernels.quantize_block(part) for part in w]
    code = torch.stack([p.code.view(torch.uint8) for p in pairs]).view(scaling.CODE)
    scale = torch.stack([p.scale for p in pairs])
    offsets = torch.tensor(counts, device="cuda").cumsum(0).int()
    ways = {
        "ours": lambda: kernels.matmul_grouped(*a, code, scale, counts),
        "bf16 loop": lambda: torch.cat(
            [F.linear(*p) for p in zip(x.split(counts), w, strict=True)]
        ),
        "bf16 grouped_mm": lambda: torch._grouped_mm(x, w.transpose(1, 2), offs=offsets),
    }
    found = {name: attempt(call) for name, call in ways.items()}
    for way in found.values():
        if way["us"]:
            way["tflops"] = 2 * TOKENS * n * k / way["us"]["median"] / 1e6
    ours, others = found["ours"].get("tflops"), [w.get("tflops", 0) for w in found.values()][1:]
    left, right = Operand(a.code[:256], a.scale[:256], "tile"), Operand(*pairs[0], "block")
    return {
        "unit": "TFLOP/s",
        "ways": found,
        "share": ours and ours / tops["fp8_tflops"],
        "times_bf16": ours and max(others) and ours / max(others),
        "error": errors(ways["ours"]()[:256], x[:256], w[0], left, right),
    }


def memory_case(name: str, m: int, k: int, tops: dict[str, float]) -> dict[str, Any]:
    """A kernel that memory decides: bytes that must move, by time."""
    generator = torch.Generator("cuda").manual_seed(3)
    x = torch.randn(m, 2 * k if name == "swiglu" else k, generator=generator, device="cuda")
    x, ones = x.to(BF16), torch.ones(k, device="cuda", dtype=BF16)
    code, scale = kernels.quantize_tile(x)
    calls = {
        "quantize_tile": lambda: kernels.quantize_tile(x),
        "quantize_block": lambda: kernels.quantize_block(x),
        "dequantize": lambda: kernels.dequantize(code, scale),
        "rms_norm": lambda: kernels.rms_norm_quantize(x, ones),
        "swiglu": lambda: kernels.swiglu_quantize(x),
    }
    per_number = {"swiglu": 5}.get(name, 3)
    found = attempt(calls[name])
    share = None
    if found["us"]:
        found["gb_per_s"] = m * k * per_number / found["us"]["median"] / 1e3
        share = found["gb_per_s"] / tops["copy_gb_per_s"]
    wanted = {"quantize_tile": scaling.quantize_tile, "quantize_block": scaling.quantize_block}
    differ = None
    if name in wanted:
        bits = [r(x).code.view(torch.uint8) for r in (wanted[name], getattr(kernels, name))]
        differ = (bits[0] != bits[1]).sum().item()
    return {"unit": "GB/s", "ways": {"ours": found}, "share": share, "codes_that_differ": differ}


def accuracy_case(shape: tuple[int, int, int]) -> dict[str, Any]:
    """On a CPU: how far the simulated product is from the exact one."""
    x, w, a, b = operands(*shape, "cpu")
    found = backends.simulate(a, b, torch.float32, 14, 128)
    return {"case": "matmul " + "×".join(map(str, shape)), "error": errors(found, x, w, a, b)}


def errors(found: Tensor, x: Tensor, w: Tensor, a: Operand, b: Operand) -> dict[str, float]:
    """Relative, root mean square: against the codes' exact product, and against x wᵀ itself."""
    exact = F.linear(a.value().double(), b.value().double())
    true = F.linear(x.double(), w.double())
    apart = lambda y: ((found.double() - y).norm() / y.norm()).item()  # noqa: E731
    return {"of_sum": apart(exact), "of_quantizing": apart(true)}
