# pyright: reportMissingImports=false
"""Prints the instructions that Triton compiles our kernels to for a Hopper GPU, as JSON.

argv: {name: fields of kernels.Tiles} of the products to compile. Registers per thread and bytes per
program that do not fit into them stand beside the words.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from minids.lowp import kernels, kernels_fused, kernels_matmul, kernels_quantize

MEMORY = {"x_ptr": "*bf16", "code_ptr": "*fp8e4nv", "scale_ptr": "*fp32"}


def compiled(kernel, constants, pointers, floats=(), divide=(), **options):
    """Words of the PTX, in order. `divide`: whole numbers that 16 divides."""
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    kinds |= dict.fromkeys(floats, "fp32")
    even = [n for n in names if n in divide or pointers.get(n, "").startswith("*")]
    told = {(names.index(n),): [["tt.divisibility", 16]] for n in even}
    values = {(names.index(n),): v for n, v in constants.items()}
    source = ASTSource(kernel, kinds, values, told)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {
        "words": re.findall(r"^\s*(?:@!?%p\d+ )?([a-z][\w.:]+)", found.asm["ptx"], re.M),
        "shared_bytes": found.metadata.shared,
        **resources(found.asm["cubin"]),
    }


def resources(cubin):
    """What ptxas made of it."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = [tool, "--dump-resource-usage", file.name]
        said = subprocess.run(told, capture_output=True, text=True, check=True).stdout
    names = {"registers": "REG", "stack_bytes": "STACK"}
    return {name: int(re.search(rf"{word}:(\d+)", said)[1]) for name, word in names.items()}


def product(cut):
    constants = {
        "BM": cut.m, "BN": cut.n, "GROUP": cut.group, "SHARED": 128, "sa_m": 1,
        "STAGES": cut.stages,
    }  # fmt: skip
    pointers = {"out_ptr": "*bf16", "sa_ptr": "*fp32", "sb_ptr": "*fp32"}
    pointers |= {n: f"tensordesc<fp8e4nv[{h}, 128]>" for n, h in (("a", cut.m), ("b", cut.n))}
    even = ("m", "n", "k", "sa_k")
    options = {"num_warps": cut.warps, "num_stages": cut.stages}
    return compiled(kernels_matmul.matmul_kernel, constants, pointers, (), even, **options)


def everything(cuts):
    for ue8m0 in (False, True):
        told = {"UE8M0": ue8m0, "CAST": True}
        tile = told | {"ROWS": kernels.ROWS, "x_k": 1}
        yield (
            f"tile {ue8m0}",
            compiled(
                kernels_quantize.quantize_tile_kernel, tile, MEMORY, ("floor",), ("m", "k", "x_m")
            ),
        )
        pointers = MEMORY | {"w_ptr": "*bf16"}
        yield (
            f"block {ue8m0}",
            compiled(
                kernels_quantize.quantize_block_kernel, told | {"w_k": 1}, pointers, ("floor",)
            ),
        )
    told = {"UE8M0": False, "CAST": True}
    swiglu = told | {"ROWS": kernels.ROWS}
    yield "swiglu", compiled(kernels_fused.swiglu_quantize_kernel, swiglu, MEMORY, ("floor",))
    for tiles in (1, 4):
        norm = told | {"TILES": tiles} | ({"d": 1} if tiles == 1 else {})
        pointers = MEMORY | {"weight_ptr": "*bf16"}
        floats = ("eps", "floor")
        yield (
            f"rms_norm {tiles}",
            compiled(kernels_fused.rms_norm_quantize_kernel, norm, pointers, floats),
        )
    for name, fields in cuts.items():
        yield f"matmul {name}", product(kernels.Tiles(**fields))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(everything(json.loads(sys.argv[1])))))
