"""A model of random weights and small, different primes, large enough that every part matters."""

import json
import os
import runpy
import shutil
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():  # kernels are interpreted; decided when they are first imported
    os.environ["TRITON_INTERPRET"] = "1"

from minids.config import ModelConfig
from minids.data.tokenizer import Tokenizer
from minids.lab import exercises
from minids.lab.build import normalised, store
from minids.nn.transformer import Transformer

PRIMES = {
    "hidden_size": 53, "num_hidden_layers": 3, "num_attention_heads": 3, "kv_lora_rank": 19,
    "q_lora_rank": 17, "qk_nope_head_dim": 11, "qk_rope_head_dim": 14, "v_head_dim": 7,
    "intermediate_size": 61, "moe_intermediate_size": 23, "n_routed_experts": 5,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "initializer_range": 0.0, "max_position_embeddings": 97,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_seed():
    """What a test draws without a generator is the same in every run and in every order."""
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.of_bytes()


@pytest.fixture(scope="session")
def tiny_model(tokenizer):
    def build(seed: int = 1, **changes) -> Transformer:
        cfg = ModelConfig(vocab_size=tokenizer.vocab_size, **(PRIMES | changes))
        model = Transformer(cfg)
        generator = torch.Generator().manual_seed(seed)
        model.init_weights(generator)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 1:  # norms that are not 1
                    weight += 0.2 * torch.randn(weight.shape, generator=generator)
            model.lm_head.weight *= 4  # a distribution with a clear favourite
        return model

    return build


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """A folder with a course of two small lessons, 90 and 91, for MINIDS_LESSONS."""
    source, folder = Path(__file__).parent / "course", tmp_path_factory.mktemp("course")
    made = runpy.run_path(str(source / "cells.py"))
    for name in made["CELLS"]:
        path = folder / f"{name}.ipynb"
        path.write_text(json.dumps(made["master"](name)), encoding="utf-8")
        store(path, normalised(path))
    for path in source.glob("lesson_*.py"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def at_course(course):
    """This process and those it starts find the course of the tests → its folder"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDS_LESSONS", str(course))
        patch.setattr(exercises, "__path__", [*exercises.__path__, str(course)])
        yield course
