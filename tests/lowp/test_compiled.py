"""What Triton compiles our kernels to, for a Hopper GPU: read here, run there.

The compiler needs no GPU. It runs in a process of its own, because here kernels are interpreted.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from minids.lowp import kernels

pytestmark = pytest.mark.skipif(not kernels.HAVE_TRITON, reason="triton is not installed")

SCRIPT = Path(__file__).with_name("ptx.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Kernel → words of its PTX, registers, bytes."""
    told = json.dumps({name: cut._asdict() for name, cut in CUTS.items()})
    place = tmp_path_factory.mktemp("triton")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(place), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), told]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def instructions(compiled):
    """Kernel → how often each instruction stands in its PTX."""
    return {name: Counter(found["words"]) for name, found in compiled.items()}


def has(counts, start):
    return sum(n for word, n in counts.items() if word.startswith(start))


CUTS = {"best": kernels.BEST, "few": kernels.FEW} | kernels.UNMEASURED
QUANTISING = ["tile False", "tile True", "block False", "block True", "swiglu", "rms_norm 1"]


@pytest.mark.parametrize("name", [*QUANTISING, "rms_norm 4"])
def test_every_division_is_rounded_as_the_standard_says(instructions, name):
    found = instructions[name]
    assert has(found, "div.rn.f32") >= 2
    assert not has(found, "div.full") and not has(found, "div.approx")
    assert not has(found, "sqrt.approx") and not has(found, "rsqrt")


@pytest.mark.parametrize("name", QUANTISING[:4])
def test_nothing_else_in_a_quantising_kernel_can_round(instructions, name):
    found = instructions[name]
    assert has(found, "cvt.rn.satfinite.e4m3x2.f32") >= 1
    for word in ("fma", "mul.f32", "mul.rn.f32", "add.f32", "add.rn.f32", "ex2"):
        assert not has(found, word), word


@pytest.mark.parametrize("name", CUTS)
def test_products_are_the_tensor_cores_and_copies_the_copy_engines(instructions, name):
    found = instructions[f"matmul {name}"]
    assert any("e4m3.e4m3" in word for word in found if word.startswith("wgmma.mma_async"))
    assert has(found, "cp.async.bulk.tensor") >= 2


@pytest.mark.parametrize("name", CUTS)
def test_scaling_is_one_operation_a_result(instructions, name):
    cut, found = CUTS[name], instructions[f"matmul {name}"]
    assert has(found, "fma.rn.f32") == cut.m * cut.n // (32 * cut.warps)
    assert has(found, "mul.f32") <= 2  # the scales with each other, once a row


@pytest.mark.parametrize("name", CUTS)
def test_as_many_programs_as_asked_for_fit(compiled, name):
    """A Hopper multiprocessor has 65,536 registers, 227 KiB to share, 1 KiB of it per program."""
    cut, found = CUTS[name], compiled[f"matmul {name}"]
    assert found["stack_bytes"] == 0, "sums were moved to memory"
    assert found["registers"] * 32 * cut.warps * cut.programs <= 65_536
    assert (found["shared_bytes"] + 1024) * cut.programs <= 227 * 1024
