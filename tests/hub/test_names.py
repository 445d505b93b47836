"""One weight in four spellings."""

import pytest
import torch

from minids import config
from minids.count.params import main_weights, mtp_weights
from minids.hub.names import from_memory, from_native, in_memory, parts, to_native

V3 = config.load("deepseek-v3").model
NATIVE = {  # as DeepSeek's convert.py names them
    "model.embed_tokens.weight": "embed.weight",
    "model.layers.0.input_layernorm.weight": "layers.0.attn_norm.weight",
    "model.layers.0.post_attention_layernorm.weight": "layers.0.ffn_norm.weight",
    "model.layers.0.self_attn.q_proj.weight": "layers.0.attn.wq.weight",
    "model.layers.0.self_attn.q_a_proj.weight": "layers.0.attn.wq_a.weight",
    "model.layers.0.self_attn.q_a_layernorm.weight": "layers.0.attn.q_norm.weight",
    "model.layers.0.self_attn.q_b_proj.weight": "layers.0.attn.wq_b.weight",
    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": "layers.0.attn.wkv_a.weight",
    "model.layers.0.self_attn.kv_a_layernorm.weight": "layers.0.attn.kv_norm.weight",
    "model.layers.0.self_attn.kv_b_proj.weight": "layers.0.attn.wkv_b.weight",
    "model.layers.0.self_attn.o_proj.weight_scale_inv": "layers.0.attn.wo.scale",
    "model.layers.3.mlp.gate.weight": "layers.3.ffn.gate.weight",
    "model.layers.3.mlp.gate.e_score_correction_bias": "layers.3.ffn.gate.bias",
    "model.layers.3.mlp.experts.7.gate_proj.weight": "layers.3.ffn.experts.7.w1.weight",
    "model.layers.3.mlp.experts.7.down_proj.weight": "layers.3.ffn.experts.7.w2.weight",
    "model.layers.3.mlp.shared_experts.up_proj.weight": "layers.3.ffn.shared_experts.w3.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}


@pytest.mark.parametrize(("hf", "native"), NATIVE.items())
def test_native_names_are_those_of_the_release(hf, native):
    assert to_native(hf) == native
    assert from_native(native) == hf


def test_every_weight_of_v3_finds_its_way_back():
    weights = [*main_weights(V3), *mtp_weights(V3)]
    memory = {in_memory(w.name, 61) for w in weights}
    assert len(memory) == len(weights)
    assert all(from_memory(in_memory(w.name, 61), 61) == w.name for w in weights)
    disk = [part.name for w in weights for part in parts(w.name, w.shape, 61)]
    assert len(set(disk)) == len(disk)
    assert all(from_native(to_native(name)) == name for name in disk)
    assert "model.layers.61.eh_proj.weight" in disk
    assert "model.layers.61.mlp.experts.255.down_proj.weight" in disk


def test_parts_of_a_stack_cover_it_exactly_once():
    for name, shape in (("gate_up_proj", (3, 10, 4)), ("down_proj", (3, 4, 5))):
        seen = torch.zeros(shape)
        for part in parts(f"layers.1.mlp.experts.{name}", shape, 2):
            assert seen[part.where].shape == part.shape
            seen[part.where] += 1
        assert torch.equal(seen, torch.ones(shape))


def test_gate_rows_come_before_up_rows():
    first, second, *_ = parts("layers.1.mlp.experts.gate_up_proj", (3, 10, 4), 2)
    assert first.name == "model.layers.1.mlp.experts.0.gate_proj.weight"
    assert second.name == "model.layers.1.mlp.experts.0.up_proj.weight"
    assert (first.where, second.where) == ((0, slice(0, 5)), (0, slice(5, 10)))
