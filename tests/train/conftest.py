"""A run small enough to train many times: 12 steps of a model with every mechanism in it."""

from pathlib import Path

import pytest
import torch

from minids.config import RunConfig, load
from minids.train.loop import Hooks, train

MICRO = [
    "model.vocab_size=272",
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
    "data.tokenizer=byte",
    "data.context=48",
    "train.batch_size=4",
    "train.max_steps=12",
    "train.warmup_steps=4",
    "train.save_every=5",
    "train.eval_every=0",
    "train.workers=1",
    "train.threads=1",
    "train.precision=float32",
]


def corpus(path: Path, repeats: int = 40) -> Path:
    """About 40 short documents: twelve steps cross an epoch."""
    lines = [
        f'{{"text": "story {i}: the cat number {i} sat on mat {i * i}."}}' for i in range(repeats)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def micro(tmp_path):
    """micro(**changes) → RunConfig over a corpus in the test's own folder."""
    torch.set_num_threads(1)
    path = corpus(tmp_path / "corpus.jsonl")

    def make(*changes: str) -> RunConfig:
        data = ["data.name=text", f"data.path={path}"]
        return load("tiny", [*MICRO, *data, *changes])

    return make


@pytest.fixture
def trained():
    """trained(cfg, out, …) → (Finished, events heard)."""

    def run(cfg: RunConfig, out: Path, **more):
        heard = []
        done = train(cfg, out=out, hooks=Hooks(on_event=heard.append), **more)
        return done, heard

    return run
