"""Small random models: norms, biases and selection biases random too, or a test proves little."""

from pathlib import Path

import pytest
import torch

from minids.config import ModelConfig
from minids.nn.transformer import Transformer

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 72,
    "moe_intermediate_size": 20,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "rms_norm_eps": 1e-5,
}
V3 = {
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
}
V2 = V3 | {
    "topk_method": "group_limited_greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 16.0,
    "n_shared_experts": 2,
}
GQA = {"attention": "gqa", "rope_interleave": False}
YARN = {
    "rope_type": "yarn",
    "rope_factor": 4.0,
    "original_max_position_embeddings": 32,
    "max_position_embeddings": 128,
}
LLAMA3 = YARN | {"rope_type": "llama3", "beta_fast": 4.0, "beta_slow": 1.0}
PLAIN = {"topk_method": "greedy", "scoring_func": "softmax"}
KINDS = {
    "v3": V3 | {"num_nextn_predict_layers": 1},
    "v3, full queries, halves, yarn": V3
    | YARN
    | {"q_lora_rank": 0, "rope_interleave": False, "mscale_all_dim": 1.0},
    "v3, yarn without softmax scale": V3 | YARN | {"mscale": 0.7},
    "v3, two mtp modules, tied": V3 | {"num_nextn_predict_layers": 2, "tie_word_embeddings": True},
    "v3, no shared expert, one group": V3
    | {"n_shared_experts": 0, "n_group": 1, "topk_group": 1, "norm_topk_prob": False},
    "mla, dense": {"n_routed_experts": 0},
    "v2": V2,
    "v2-lite, halves, yarn": V2
    | YARN
    | {"topk_method": "greedy", "n_group": 1, "topk_group": 1, "q_lora_rank": 0}
    | {"rope_interleave": False, "mscale": 0.707, "mscale_all_dim": 0.707}
    | {"routed_scaling_factor": 1.0},
    "llama": GQA | LLAMA3,
    "llama, pairs, tied": GQA | {"rope_interleave": True, "tie_word_embeddings": True},
    "llama, yarn": GQA | YARN,
    "qwen2": GQA | {"attention_bias": True, "head_dim": 8},
    "qwen2, pairs": GQA | {"attention_bias": True, "rope_interleave": True},
    "qwen3": GQA | {"use_qk_norm": True, "head_dim": 24, "num_attention_heads": 6},
    "qwen3, pairs": GQA | {"use_qk_norm": True, "rope_interleave": True},
    "qwen3-moe": GQA
    | PLAIN
    | {"use_qk_norm": True, "n_routed_experts": 8, "num_experts_per_tok": 3},
    "glm-4.5": GQA
    | V3
    | {"use_qk_norm": True, "attention_bias": True, "partial_rotary_factor": 0.5},
    "glm, pairs, no norms, mtp": GQA
    | V3
    | {"rope_interleave": True, "num_nextn_predict_layers": 1},
}


@pytest.fixture
def tiny_model():
    """(changes) → a model with every number random."""
    return make


def make(seed: int = 1, **changes) -> Transformer:
    cfg = ModelConfig(**({"n_routed_experts": 0} | SIZES | changes))
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(cfg).eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.normal_(generator=generator)
            tensor.mul_(0.2 if tensor.ndim > 1 else 0.1)
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(1.0)
        model.lm_head.weight.mul_(0.5)  # logits near 1, so that 1e-5 is 100 roundings
    return model


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def any_model(request):
    """A model of every kind we export."""
    return make(**request.param)


@pytest.fixture
def exported(tmp_path, tiny_model):
    """(changes) → a folder written from a random model, and the model."""

    def write(**changes) -> tuple[Path, Transformer]:
        from minids.hub.write import export

        model = tiny_model(**(V3 | changes))
        export(model.cfg, model.state_dict(), tmp_path / "out", shard_bytes=30_000)
        return tmp_path / "out", model

    return write
