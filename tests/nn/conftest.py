"""Small configs with distinct sizes, and weights random enough that a mistake shows."""

import pytest
import torch

from minids.config import ModelConfig
from minids.nn.transformer import Transformer

torch.set_num_threads(1)


@pytest.fixture
def tiny_model():
    """A function: changes → ModelConfig of a V3 in small; sizes differ, so swapped axes fail."""

    def build(**changes):
        sizes = {
            "vocab_size": 97,
            "hidden_size": 42,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "kv_lora_rank": 18,
            "qk_nope_head_dim": 10,
            "qk_rope_head_dim": 8,
            "v_head_dim": 12,
            "intermediate_size": 58,
            "moe_intermediate_size": 22,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "num_experts_per_tok": 3,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 2.5,
            "initializer_range": 0.2,
            "max_position_embeddings": 128,
        }
        return ModelConfig(**(sizes | changes))

    return build


@pytest.fixture
def random_model():
    """A function: config → Transformer with every norm, bias and selection bias random too."""

    def build(cfg, seed=0):
        model = Transformer(cfg)
        generator = torch.Generator().manual_seed(seed)
        model.init_weights(generator)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.ndim == 1:
                centre = 1.0 if "norm" in name else 0.0
                tensor.data.copy_(centre + 0.3 * torch.randn(tensor.shape, generator=generator))
        return model.eval()

    return build
