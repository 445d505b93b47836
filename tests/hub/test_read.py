"""What we read: our own exports bit by bit, transformers' folders, and the released layout."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minids.errors import UserError
from minids.hub.families import EXPERTS, GROUPED, LATENT
from minids.hub.read import INDEX, MTP_FILE, dequantize, read
from minids.hub.write import export
from minids.nn.transformer import Transformer

V3 = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3}


def used(cfg):
    """The fields that this kind of model looks at."""
    idle = LATENT if cfg.attention == "gqa" else GROUPED
    idle += "" if cfg.n_routed_experts else EXPERTS
    return {field: value for field, value in vars(cfg).items() if field not in idle.split()}


def test_an_exported_model_comes_back_bit_by_bit(any_model, tmp_path):
    export(any_model.cfg, any_model.state_dict(), tmp_path / "out", shard_bytes=40_000)
    found = read(tmp_path / "out")
    back = Transformer(found.cfg).eval()
    back.load_state_dict(found.state)
    assert found.notes == []
    tokens = torch.randint(97, (2, 30))
    if found.cfg.rope_interleave == any_model.cfg.rope_interleave:
        assert used(found.cfg) == used(any_model.cfg)
        assert found.state.keys() == any_model.state_dict().keys()
        for name, tensor in any_model.state_dict().items():
            assert torch.equal(found.state[name], tensor), name
        with torch.no_grad():
            assert torch.equal(back(tokens), any_model(tokens))
    else:  # rows were permuted into the layout of the class: the same function
        with torch.no_grad():
            torch.testing.assert_close(back(tokens), any_model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["deepseek_v3", "deepseek_v2", "qwen2", "glm4_moe"])
def test_a_folder_saved_by_transformers_computes_the_same_here(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    sizes = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 72, "moe_intermediate_size": 20, "n_routed_experts": 8}
    sizes |= {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 10, "v_head_dim": 12}
    sizes |= {"qk_rope_head_dim": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2}
    sizes |= {"first_k_dense_replace": 1, "num_key_value_heads": 4, "initializer_range": 0.1}
    if kind == "qwen2":
        sizes = {name: size for name, size in sizes.items() if "expert" not in name}
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **sizes)
    ).eval()
    theirs.save_pretrained(tmp_path)
    found = read(tmp_path)
    ours = Transformer(found.cfg).eval()
    ours.load_state_dict(found.state)
    tokens = torch.randint(97, (2, 30))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)
    promises_mtp = kind in ("deepseek_v3", "glm4_moe")
    assert bool(found.notes) == promises_mtp  # their config.json does, their files hold none


@pytest.fixture
def released(tmp_path, tiny_model):
    """A model in the layout DeepSeek released V3 in: FP8 blocks, one tensor an expert, MTP as a
    further layer, two shards with an index, the config.json of 2024. Widths are no multiples of 8.
    """
    model = tiny_model(
        **V3,
        n_group=4,
        topk_group=2,
        first_k_dense_replace=1,
        routed_scaling_factor=2.5,
        num_nextn_predict_layers=1,
        rope_type="yarn",
        rope_factor=4.0,
        original_max_position_embeddings=32,
        mscale_all_dim=1.0,
    )
    export(model.cfg, model.state_dict(), tmp_path / "plain")
    folder = tmp_path / "released"
    folder.mkdir()
    tensors = load_file(next((tmp_path / "plain").glob("model-*"))) | load_file(
        tmp_path / "plain" / MTP_FILE
    )
    stored, wanted = {}, {}
    for name, tensor in tensors.items():
        quantized = "_proj" in name and "eh_proj" not in name and tensor.ndim == 2
        if not quantized:
            kept = "norm" in name or "bias" in name
            stored[name] = tensor if kept else tensor.to(torch.bfloat16)
            wanted[name] = stored[name].float()
            continue
        code, scale, value = quantize_by_loop(tensor, 16)
        stored[name], stored[name + "_scale_inv"], wanted[name] = code, scale, value
    names = sorted(stored)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}  # scales lie apart
    for file, members in halves.items():
        save_file({name: stored[name] for name in members}, folder / file)
    weight_map = {name: file for file, members in halves.items() for name in members}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    raw = json.loads((tmp_path / "plain" / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    del raw["minids"], raw["dtype"]
    raw |= {"rope_theta": rope.pop("rope_theta"), "torch_dtype": "bfloat16", "ep_size": 1}
    raw["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    raw |= {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
    raw["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [16, 16],
    }
    (folder / "config.json").write_text(json.dumps(raw))
    return folder, model, wanted


def quantize_by_loop(tensor, size):
    """An independent statement of the format: block by block, in plain loops."""
    rows, columns = tensor.shape
    scale = torch.ones(-(-rows // size), -(-columns // size))
    code = torch.empty_like(tensor, dtype=torch.float8_e4m3fn)
    value = torch.empty_like(tensor)
    for j in range(scale.shape[0]):
        for k in range(scale.shape[1]):
            block = (slice(j * size, (j + 1) * size), slice(k * size, (k + 1) * size))
            scale[j, k] = tensor[block].abs().max() / 448
            code[block] = (tensor[block] / scale[j, k]).to(torch.float8_e4m3fn)
            value[block] = code[block].float() * scale[j, k]
    return code, scale, value


def test_the_released_layout_is_read_with_its_fp8_blocks_and_mtp_layer(released):
    folder, model, wanted = released
    found = read(folder)
    same = dataclasses.replace(
        found.cfg,
        architecture=model.cfg.architecture,
        head_dim=model.cfg.head_dim,
        num_key_value_heads=model.cfg.num_key_value_heads,
    )
    assert same == model.cfg
    Transformer(found.cfg).load_state_dict(found.state)
    assert torch.equal(
        found.state["layers.0.self_attn.kv_a_proj_with_mqa.weight"],
        wanted[
            "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"
        ],  # 24 rows: one block and a half
    )
    for e in range(8):
        place = f"model.layers.2.mlp.experts.{e}"
        stacked = found.state["layers.2.mlp.experts.gate_up_proj"][e]
        assert torch.equal(stacked[:20], wanted[f"{place}.gate_proj.weight"])
        assert torch.equal(stacked[20:], wanted[f"{place}.up_proj.weight"])
        down = found.state["layers.2.mlp.experts.down_proj"][e]
        assert torch.equal(down, wanted[f"{place}.down_proj.weight"])
    assert torch.equal(found.state["mtp.0.eh_proj.weight"], wanted["model.layers.3.eh_proj.weight"])
    bias = found.state["layers.1.mlp.gate.e_score_correction_bias"]
    assert torch.equal(bias, model.state_dict()["layers.1.mlp.gate.e_score_correction_bias"])
    exact = model.state_dict()["layers.0.mlp.down_proj.weight"]
    error = (found.state["layers.0.mlp.down_proj.weight"] - exact).abs().max()
    assert 0 < error < 0.05 * exact.abs().max()  # FP8 keeps four significant bits


def test_a_scale_multiplies_and_edge_blocks_are_cut():
    code = torch.ones(3, 5).to(torch.float8_e4m3fn)
    scale = torch.tensor([[2.0, 3.0, 5.0], [7.0, 11.0, 13.0]])
    assert dequantize("w", code, scale, [2, 2]).tolist() == [
        [2, 2, 3, 3, 5],
        [2, 2, 3, 3, 5],
        [7, 7, 11, 11, 13],
    ]


def test_mtp_weights_that_the_config_does_not_promise_are_left(exported):
    folder, _ = exported(num_nextn_predict_layers=1)
    edit(folder / "config.json", num_nextn_predict_layers=0)
    found = read(folder)
    assert not [name for name in found.state if name.startswith("mtp")]


def edit(path, **changes):
    """Change keys of a JSON file; None deletes."""
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))


def change(folder, tensors):
    """Rewrite the shard that holds a name; a tensor of None deletes it."""
    for name, tensor in tensors.items():
        file = next(f for f in folder.glob("*.safetensors") if name in load_file(f))
        held = load_file(file) | {name: tensor}
        save_file({k: v for k, v in held.items() if v is not None}, file)


def truncate(folder):
    file = sorted(folder.glob("model-*"))[0]
    file.write_bytes(file.read_bytes()[:-7])


def only_a_pickle(folder):
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")


NORM = "model.layers.1.input_layernorm.weight"
EXPERT = "model.layers.1.mlp.experts.3.down_proj.weight"
BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), ["holds no config.json"]),
    "not json": (lambda f: (f / "config.json").write_text("{"), ["not readable JSON"]),
    "not an object": (lambda f: (f / "config.json").write_text("[1]"), ["not a JSON object"]),
    "no model type": (lambda f: edit(f / "config.json", model_type=None), ["model_type"]),
    "unknown type": (
        lambda f: edit(f / "config.json", model_type="gpt2"),
        ["model_type: 'gpt2' is unknown; allowed: deepseek_v3"],
    ),
    "counted only": (
        lambda f: edit(
            f / "config.json",
            model_type="deepseek_v32",
            index_n_heads=4,
            index_head_dim=8,
            index_topk=9,
        ),
        ["deepseek_v32 is counted"],
    ),
    "no size": (lambda f: edit(f / "config.json", hidden_size=None), ["hidden_size: is missing"]),
    "wrong kind": (
        lambda f: edit(f / "config.json", hidden_size="wide"),
        ["hidden_size", "whole number"],
    ),
    "impossible": (lambda f: edit(f / "config.json", n_group=3), ["n_group", "8 experts"]),
    "other activation": (
        lambda f: edit(f / "config.json", hidden_act="gelu"),
        ["hidden_act: 'gelu'"],
    ),
    "other router": (
        lambda f: edit(f / "config.json", scoring_func="softmax"),
        ["scoring_func: 'softmax'"],
    ),
    "other rope": (
        lambda f: edit(f / "config.json", rope_parameters={"rope_type": "longrope"}),
        ["'longrope' is unknown", "llama3"],
    ),
    "other quantization": (
        lambda f: edit(f / "config.json", quantization_config={"quant_method": "awq"}),
        ["'awq' is not read; allowed: fp8"],
    ),
    "truncated": (truncate, ["model-00001", "damaged"]),
    "text": (lambda f: sorted(f.glob("model-*"))[0].write_text("hello"), ["damaged"]),
    "empty": (lambda f: sorted(f.glob("model-*"))[0].write_text(""), ["damaged"]),
    "shard gone": (lambda f: sorted(f.glob("model-*"))[0].unlink(), ["model-00001", "missing"]),
    "index leads away": (
        lambda f: (f / INDEX).write_text('{"weight_map": {"a": "../other.safetensors"}}'),
        ["'../other.safetensors'"],
    ),
    "index empty": (lambda f: (f / INDEX).write_text("{}"), ["no weight_map"]),
    "tensor missing": (lambda f: change(f, {NORM: None}), [NORM, "missing", "[64]"]),
    "expert missing": (lambda f: change(f, {EXPERT: None}), [EXPERT, "missing", "[64 20]"]),
    "wrong shape": (
        lambda f: change(f, {EXPERT: torch.ones(20, 64)}),
        [EXPERT, "[20 64]", "[64 20]"],
    ),
    "whole numbers": (
        lambda f: change(f, {NORM: torch.ones(64, dtype=torch.int8)}),
        [NORM, "int8"],
    ),
    "unscaled fp8": (
        lambda f: change(f, {EXPERT: torch.ones(64, 20).to(torch.float8_e4m3fn)}),
        [EXPERT, "without its scales"],
    ),
    "pickle": (only_a_pickle, ["pytorch_model.bin", "could run code"]),
    "nothing": (lambda f: [p.unlink() for p in f.glob("*.safetensors*")], ["holds no weights"]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_one_line_that_names_the_fault(fault, exported, tmp_path):
    folder, _ = exported()
    damage, words = BROKEN[fault]
    damage(folder)
    with pytest.raises(UserError) as error:
        read(folder)
    assert error.value.code == 4
    line = error.value.line()
    assert "\n" not in line
    for word in words:
        assert word in line
    assert not (tmp_path / "canary").exists()


def test_a_tensor_that_belongs_to_no_weight_is_named(exported):
    folder, _ = exported()
    save_file({"model.layers.0.surprise": torch.ones(3)}, folder / "mtp.safetensors")
    with pytest.raises(UserError, match=r"layers\.0\.surprise: of shape \[3\]"):
        read(folder)


def test_scales_of_the_wrong_shape_are_named(released):
    folder, _, _ = released
    name = "model.layers.0.mlp.down_proj.weight_scale_inv"
    change(folder, {name: torch.ones(4, 4)})
    with pytest.raises(UserError, match=r"weight_scale_inv: has shape \[4 4\]; allowed: \[4 5\]"):
        read(folder)


def test_a_model_too_large_for_this_machine_is_refused_before_memory_is_taken(
    exported, monkeypatch
):
    import minids.hub.read as module

    folder, _ = exported()
    monkeypatch.setattr(module.os, "sysconf", lambda _: 100)
    with pytest.raises(UserError, match="this machine has") as error:
        read(folder)
    assert error.value.code == 1


def test_reading_leaves_the_folder_as_it_was(exported, tmp_path):
    folder, _ = exported()
    shutil.copytree(folder, tmp_path / "copy")
    read(folder)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes()
