"""Our models are the models of `transformers`: same names, same numbers.

Weights are drawn wide (deviation 0.2; norms, biases and selection biases random): with the default
of 0.02 attention is nearly uniform and a wrong rotation would pass. float32 within 2e-5 of logits
of order 10; float64 within 1e-10 once the referee's hard-coded float32 casts are lifted.
"""

import types

import pytest
import torch

transformers = pytest.importorskip("transformers")

from transformers import modeling_rope_utils  # noqa: E402
from transformers.models.deepseek_v2 import modeling_deepseek_v2  # noqa: E402
from transformers.models.deepseek_v3 import modeling_deepseek_v3  # noqa: E402
from transformers.models.llama import modeling_llama  # noqa: E402
from transformers.models.qwen2 import modeling_qwen2  # noqa: E402
from transformers.models.qwen3 import modeling_qwen3  # noqa: E402

from minids.nn.cache import Cache  # noqa: E402

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
FAMILIES = {
    "v3": (modeling_deepseek_v3, "DeepseekV3"),
    "v2": (modeling_deepseek_v2, "DeepseekV2"),
    "llama": (modeling_llama, "Llama"),
    "qwen2": (modeling_qwen2, "Qwen2"),
    "qwen3": (modeling_qwen3, "Qwen3"),
}
YARN = {
    "rope_type": "yarn",
    "rope_factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 0.7,
    "mscale_all_dim": 1.1,
}
PLAIN_YARN = {**YARN, "mscale": 1.0, "mscale_all_dim": 0.0}  # softmax scale is DeepSeek's own
V2 = {"topk_method": "group_limited_greedy", "scoring_func": "softmax", "norm_topk_prob": False}
GQA = {"attention": "gqa", "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 14}
GQA |= {"n_routed_experts": 0, "rope_interleave": False}


class Wide:
    """torch, except that float32 is float64."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request, monkeypatch):
    """For float64 the referee's casts to float32 (norms, router, softmax, angles) are lifted."""
    if request.param == torch.float64:
        for module in [modeling_rope_utils, *(module for module, _ in FAMILIES.values())]:
            monkeypatch.setattr(module, "torch", Wide())
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    return request.param


def referee(family, cfg, ours, dtype):
    """The transformers model of this config with our weights; every name must match."""
    module, prefix = FAMILIES[family]
    rope = {"rope_type": cfg.rope_type, "rope_theta": cfg.rope_theta}
    if cfg.rope_type == "llama3":
        rope |= {"factor": cfg.rope_factor}
        rope |= {"high_freq_factor": cfg.beta_fast, "low_freq_factor": cfg.beta_slow}
        rope |= {"original_max_position_embeddings": cfg.original_max_position_embeddings}
    if cfg.rope_type == "yarn":
        rope |= {"factor": cfg.rope_factor, "beta_fast": cfg.beta_fast, "beta_slow": cfg.beta_slow}
        rope |= {"mscale": cfg.mscale, "mscale_all_dim": cfg.mscale_all_dim}
        rope |= {"original_max_position_embeddings": cfg.original_max_position_embeddings}
    config_class = getattr(transformers, f"{prefix}Config")
    other = {
        "sliding_window",
        "head_dim" if cfg.attention == "mla" else "",
    }  # same name, own meaning
    shared = {name for name in cfg.__dataclass_fields__ if hasattr(config_class(), name)} - other
    shared |= {"head_dim"} if cfg.attention == "gqa" else set()
    fields = {name: getattr(cfg, name) for name in shared} | {"rope_parameters": rope}
    if not cfg.q_lora_rank:
        fields["q_lora_rank"] = None
    implementations = {"attn_implementation": "eager", "experts_implementation": "eager"}
    config = config_class(**fields, **implementations)
    model = getattr(module, f"{prefix}ForCausalLM")(config).to(dtype).eval()
    weights = ours.state_dict()
    named = {n if n.startswith("lm_head") else f"model.{n}": w for n, w in weights.items()}
    model.load_state_dict(named, strict=True)
    return model


def pair(family, cfg, random_model, dtype):
    ours = random_model(cfg).to(dtype)
    ours.compute_dtype = dtype
    return ours, referee(family, cfg, ours, dtype)


def assert_same(ours, theirs, dtype):
    assert theirs.abs().max() > 1  # or equality would prove little
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[dtype])


MODELS = {
    "v3 full": ("v3", {}),
    "v3 q-lora": ("v3", {"q_lora_rank": 26}),
    "v3 yarn": ("v3", {**YARN, "q_lora_rank": 26}),
    "v3 groups": ("v3", {"n_group": 4, "topk_group": 2}),
    "v3 halves": ("v3", {"rope_interleave": False, **YARN}),
    "v3 no norm": ("v3", {"norm_topk_prob": False, "n_shared_experts": 2}),
    "v2 full": ("v2", {**V2, "topk_method": "greedy"}),
    "v2 groups": ("v2", {**V2, "n_group": 4, "topk_group": 2, "q_lora_rank": 26}),
    "v2 yarn": ("v2", {**V2, **YARN, "n_group": 2}),
    "llama": ("llama", GQA),
    "llama tied": ("llama", {**GQA, "tie_word_embeddings": True}),
    "llama yarn mqa": ("llama", {**GQA, **PLAIN_YARN, "num_key_value_heads": 1}),
    "llama 3": ("llama", {**GQA, **YARN, "rope_type": "llama3", "beta_fast": 4.0}),
    "qwen2": ("qwen2", {**GQA, "attention_bias": True}),
    "qwen3": ("qwen3", {**GQA, "use_qk_norm": True}),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def models(request, tiny_model, random_model, dtype):
    family, changes = request.param
    return pair(family, tiny_model(**changes), random_model, dtype)


@torch.no_grad()
def test_logits_equal_transformers(models, dtype):
    ours, theirs = models
    tokens = torch.randint(0, 97, (2, 13), generator=torch.Generator().manual_seed(1))
    assert_same(ours(tokens), theirs(tokens).logits, dtype)


@torch.no_grad()
def test_logits_equal_transformers_at_positions_of_their_own(models, dtype):
    ours, theirs = models
    tokens = torch.randint(0, 97, (2, 7), generator=torch.Generator().manual_seed(2))
    positions = torch.tensor([[3, 4, 9, 10, 30, 41, 42], [0, 2, 4, 6, 8, 10, 12]])
    want = theirs(tokens, position_ids=positions).logits
    assert_same(ours(tokens, positions=positions), want, dtype)
    assert_same(ours(tokens[:1], positions=positions[0]), want[:1], dtype)


@torch.no_grad()
def test_logits_equal_transformers_with_padding(models, dtype):
    ours, theirs = models
    tokens = torch.randint(0, 97, (3, 9), generator=torch.Generator().manual_seed(3))
    real = torch.ones(3, 9, dtype=torch.bool)
    real[0, :4] = real[1, 6:] = False  # on the left, on the right, not at all
    want = theirs(tokens, attention_mask=real.long()).logits
    assert_same(ours(tokens, mask=real)[real], want[real], dtype)


@torch.no_grad()
def test_logits_equal_transformers_with_a_cache(models, dtype):
    ours, theirs = models
    tokens = torch.randint(0, 97, (2, 11), generator=torch.Generator().manual_seed(4))
    cache, past = Cache(ours.cfg.num_hidden_layers), None
    for start, end in ((0, 5), (5, 6), (6, 7), (7, 11)):
        out = theirs(tokens[:, start:end], past_key_values=past, use_cache=True)
        past = out.past_key_values
        assert_same(ours(tokens[:, start:end], cache=cache), out.logits, dtype)
    assert_same(ours(tokens)[:, 7:], out.logits, dtype)


@torch.no_grad()
@pytest.mark.parametrize("q_lora_rank", [0, 26])
def test_the_two_rope_layouts_differ_by_a_permutation(tiny_model, random_model, dtype, q_lora_rank):
    cfg = tiny_model(q_lora_rank=q_lora_rank, **YARN)
    halves = tiny_model(q_lora_rank=q_lora_rank, rope_interleave=False, **YARN)
    pairs, theirs = pair("v3", cfg, random_model, dtype)
    ours = random_model(halves).to(dtype)
    ours.compute_dtype = dtype
    weights = pairs.state_dict()
    tokens = torch.randint(0, 97, (2, 13), generator=torch.Generator().manual_seed(5))
    ours.load_state_dict(weights)
    want = theirs(tokens).logits
    assert (ours(tokens) - want).abs().max() > 1  # same weights, wrong layout
    r = cfg.qk_rope_head_dim
    order = [*range(0, r, 2), *range(1, r, 2)]  # evens first, odds behind
    for name, weight in weights.items():
        if "q_b_proj" in name or "q_proj" in name:
            heads = weight.unflatten(0, (cfg.num_attention_heads, cfg.qk_head_dim))
            heads[:, -r:] = heads[:, -r:][:, order]
        if "kv_a_proj" in name:
            weight[-r:] = weight[-r:][order]
    ours.load_state_dict(weights)
    assert_same(ours(tokens), want, dtype)


@torch.no_grad()
def test_mtp_equals_transformers(tiny_model, random_model, dtype):
    from transformers.masking_utils import create_causal_mask
    from transformers.modeling_layers import MtpModel

    cfg = tiny_model(num_nextn_predict_layers=2)
    ours = random_model(cfg).to(dtype)
    ours.compute_dtype = dtype
    main = random_model(tiny_model())
    main.load_state_dict({n: w for n, w in ours.state_dict().items() if not n.startswith("mtp")})
    theirs = referee("v3", cfg, main.to(dtype), dtype)
    mtp = MtpModel(theirs, 2).to(dtype).eval()
    for depth, layer in enumerate(mtp.layers):
        weights = {}
        for name, weight in ours.mtp[depth].state_dict().items():
            own = name.split(".")[0] in ("enorm", "hnorm", "eh_proj")
            renamed = name.replace("shared_head.norm", "post_norm")
            weights[name if own else renamed if renamed != name else f"mtp_block.{name}"] = weight
        layer.load_state_dict(weights, strict=True)
    tokens = torch.randint(0, 97, (2, 11), generator=torch.Generator().manual_seed(6))
    state, want = ours.hidden(tokens), theirs.model(tokens).last_hidden_state
    assert_same(state, want, dtype)
    for u, (module, layer) in enumerate(zip(ours.mtp, mtp.layers, strict=True), start=1):
        positions = torch.arange(tokens.shape[1] - u)
        embedded = theirs.model.embed_tokens(tokens[:, u:])
        mask = create_causal_mask(theirs.config, embedded, None, None, position_ids=positions[None])
        angles = theirs.model.rotary_emb(embedded, positions[None])
        want = layer(embedded, want[:, :-1], angles, mask, positions[None], None)
        state, _ = module.look_further(state[:, :-1], embedded, ours.rope(positions))
        assert_same(ours.logits(state), theirs.lm_head(want), dtype)


@pytest.mark.parametrize("groups", [(1, 1), (4, 2)])
@pytest.mark.parametrize("family", ["v3", "v2"])
@torch.no_grad()
def test_router_chooses_the_same_experts_as_transformers(tiny_model, family, groups):
    from minids.nn.moe import route_v2, route_v3

    changes = {"n_routed_experts": 16, "num_experts_per_tok": 4}
    changes |= {"n_group": groups[0], "topk_group": groups[1]}
    cfg = tiny_model(**changes, **(V2 if family == "v2" else {}))
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(10_000, cfg.hidden_size, generator=generator)
    centroid = 0.3 * torch.randn(16, cfg.hidden_size, generator=generator)
    bias = 0.3 * torch.randn(16, generator=generator)
    module, prefix = FAMILIES[family]
    config = types.SimpleNamespace(
        **{n: getattr(cfg, n) for n in cfg.__dataclass_fields__},
        num_local_experts=16,
        num_experts=16,
    )
    router = getattr(module, f"{prefix}TopkRouter")(config)
    router.weight.copy_(centroid)
    if family == "v3":
        router.e_score_correction_bias.copy_(bias)
        got = route_v3(x, centroid, bias, cfg)
    else:
        got = route_v2(x, centroid, cfg)
    _, gate, expert = router(x)
    mine, yours = got.expert.sort(-1), expert.sort(-1)
    assert torch.equal(mine.values, yours.values)
    want = gate.gather(-1, yours.indices)
    torch.testing.assert_close(got.gate.gather(-1, mine.indices), want, rtol=0, atol=1e-6)
