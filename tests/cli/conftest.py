"""The command line from outside: a process, a folder, what it said and what it left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

MICRO = [
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.kv_lora_rank=16",
    "model.qk_nope_head_dim=8",
    "model.qk_rope_head_dim=8",
    "model.v_head_dim=8",
    "model.intermediate_size=48",
    "model.moe_intermediate_size=16",
    "model.n_routed_experts=4",
    "data.context=64",
    "data.documents=200",
    "train.batch_size=4",
    "train.max_steps=6",
    "train.warmup_steps=2",
    "train.save_every=2",
    "train.eval_every=0",
    "train.eval_documents=2",
    "train.workers=1",
    "train.threads=1",
    "train.precision=float32",
    "train.sample_every_seconds=0",
]


class Said(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self):
        """Its stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
    }


@pytest.fixture
def minids(tmp_path):
    """minids("train", "--tiny", …) in an empty folder → Said"""
    place = tmp_path / "place"
    place.mkdir()

    def run(*args: str, micro: bool = False, cwd: Path = place, timeout: float = 120) -> Said:
        words = [*args]
        if micro:
            for change in MICRO:
                words += ["--set", change]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "MINIDS_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "minids_cli", *words],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    run.place, run.micro = place, [w for change in MICRO for w in ("--set", change)]
    return run


@pytest.fixture
def refused(minids):
    """refused("train", "--set", "x") asserts exit 2, one line, nothing written → that line"""

    def check(*args: str, code: int = 2) -> str:
        before = listing(minids.place)
        said = minids(*args)
        assert said.code == code, said
        lines = said.err.splitlines()
        assert lines and lines[0].startswith("minids: error: "), said
        assert len(lines) <= 2 and (len(lines) == 1 or lines[1].startswith("hint: ")), said
        assert "Traceback" not in said.err and not said.out
        assert listing(minids.place) == before
        return said.err

    return check


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A folder in which `runs/tiny-001` lies, trained for a few steps; nobody writes there."""
    place = tmp_path_factory.mktemp("tiny-run")
    words = [w for change in MICRO for w in ("--set", change)]
    command = [sys.executable, "-m", "minids_cli", "train", "--tiny", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MINIDS_CACHE": str(place / "cache")}
    subprocess.run(command, cwd=place, env=environment, capture_output=True, check=True)
    return place
