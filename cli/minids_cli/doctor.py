"""What this machine is, which dtypes are fast here, and what will run in how many minutes."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys

from minids_cli import show

PACKAGES = [
    "torch",
    "numpy",
    "einops",
    "rich",
    "tiktoken",
    "safetensors",
    "matplotlib",
    "jupyterlab",
    "nbval",
    "transformers",
]


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids doctor`."""
    parser.add_argument("--probe", action="store_true", help="measure again instead of remembering")


def run(args: argparse.Namespace) -> int:
    """Look, measure for a second, tell."""
    import torch

    from minids import config
    from minids.train import memory, probe

    rates = probe.measure(refresh=args.probe)
    tiny = config.load("tiny")
    machine = probe.choose(tiny.train)
    facts: dict[str, object] = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "environment": sys.prefix,
        "cpu": probe.cpu_name(),
        "cores": probe.usable_cores(),
        "memory_available_gb": round(memory.available_bytes() / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "float32_gflops_per_core": round(rates["float32"]),
        "bfloat16_gflops_per_core": round(rates["bfloat16"]),
        "second_thread_gain": round(rates["two_threads"] / rates["one_thread"], 2),
        "training": f"{machine.device} {machine.precision}, "
        f"{machine.workers} × {machine.threads} threads",
    }
    flops = 6 * active_parameters(tiny) * tiny.train.max_steps * tokens_per_step(tiny)
    rate = rates[machine.precision] * 1e9 * machine.workers * machine.threads
    facts["minutes_of_train_tiny"] = round(
        flops / rate / 60 / 0.5, 1
    )  # half the matmul rate is usual
    facts["versions"] = {name: version_of(name) for name in PACKAGES}
    if args.json:
        show.emit_json(facts)
        return 0
    versions = facts.pop("versions")
    show.table("This machine", ["", "value"], [(k.replace("_", " "), v) for k, v in facts.items()])
    assert isinstance(versions, dict)
    show.table(
        "Packages", ["name", "version"], [(k, v or "not installed") for k, v in versions.items()]
    )
    return 0


def active_parameters(cfg) -> int:
    """Parameters that multiply a token, roughly: all but the experts it does not visit."""
    from minids.train.memory import parameters

    m = cfg.model
    layers = sum(m.is_moe_layer(i) for i in range(m.num_hidden_layers + m.num_nextn_predict_layers))
    idle = max(0, m.n_routed_experts - m.num_experts_per_tok)
    unused = layers * idle * 3 * m.hidden_size * m.moe_intermediate_size
    return parameters(cfg) - unused - m.vocab_size * m.hidden_size


def tokens_per_step(cfg) -> int:
    """Tokens of one optimizer step."""
    return cfg.train.batch_size * cfg.train.grad_accum * cfg.data.context


def version_of(package: str) -> str | None:
    """Its version, None if it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
