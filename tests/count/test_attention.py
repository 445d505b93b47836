"""Work of one attention layer: published figures, and what torch really multiplies."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minids import config
from minids.config import ModelConfig
from minids.count import attention, flops
from minids.errors import UserError
from minids.nn import attention as nn_attention
from minids.nn import mla
from minids.nn.attention import attend_grouped
from minids.nn.mla import MLA, absorbing_pays, attend_absorbed, attend_expanded

V3 = config.load("deepseek-v3").model
SMALL = ModelConfig(
    num_attention_heads=3, kv_lora_rank=17, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=13
)
RULES = {"expanded": attend_expanded, "absorbed": attend_absorbed}


@pytest.fixture
def by_hand(monkeypatch):
    """torch counts nothing in its fused kernel on a CPU."""
    for module in (nn_attention, mla):
        monkeypatch.setattr(module, "attend", nn_attention.attend_by_hand)


def multiplied(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("form", RULES)
@pytest.mark.parametrize(("s", "t"), [(1, 29), (5, 29), (29, 29)])
def test_mla_is_counted_as_torch_multiplies(by_hand, form, s, t):
    cfg = SMALL
    h, w, r = 3, 23, 6
    q_nope, q_rope, c = torch.randn(2, s, h, 10), torch.randn(2, s, h, r), torch.randn(2, t, 17)
    kv_b, key = MLA(cfg).kv_b_proj, torch.randn(2, t, r)
    got = multiplied(lambda: RULES[form](q_nope, q_rope, c, key, kv_b, 0.3))
    unseen = s * (s - 1) // 2  # torch counts the square
    per_pair = 2 * h * (2 * 17 + r if form == "absorbed" else w + r)
    want = attention.core(cfg, s, t, form, sequences=2).flops
    assert got == want + 2 * per_pair * unseen


@pytest.mark.parametrize("g", [1, 2, 6])
@pytest.mark.parametrize(("s", "t"), [(1, 29), (29, 29)])
def test_grouped_attention_is_counted_as_torch_multiplies(by_hand, g, s, t):
    cfg = ModelConfig(
        attention="gqa", num_attention_heads=6, num_key_value_heads=g, head_dim=10,
        v_head_dim=99, hidden_size=60,
    )  # fmt: skip
    q, k = torch.randn(2, s, 6, 10), torch.randn(2, t, g, 10)
    got = multiplied(lambda: attend_grouped(q, k, k, 0.3))
    work = attention.core(cfg, s, t, sequences=2)
    assert got == work.flops + 2 * 4 * 6 * 10 * s * (s - 1) // 2
    assert work.moved_bytes == 2 * 2 * (2 * g * 10 * t + 2 * s * 6 * 10)


def test_decoding_agrees_with_the_whole_model():
    layers, seen = V3.num_hidden_layers, 4096
    kv_b = 2 * 128 * 256 * 512
    absorbed = attention.core(V3, 1, seen, "absorbed").flops
    assert layers * (absorbed - kv_b) == flops.attention(V3, seen, absorbed=True)
    expanded = attention.core(V3, 1, seen, "expanded").flops
    again = flops.decode(V3, seen, absorbed=False) - flops.matrices(V3)
    assert layers * expanded == again


def test_v3_decodes_near_the_ridge_absorbed_and_reads_576_numbers_per_token():
    one, two = (attention.core(V3, 1, t, "absorbed") for t in (10**6, 2 * 10**6))
    moved = two.moved_bytes - one.moved_bytes
    assert moved == 10**6 * 576 * 2
    assert (two.flops - one.flops) / moved == pytest.approx(242, abs=0.5)  # H800's ridge: 295


def test_expanding_moves_more_and_prompts_multiply_less():
    for s, t in ((1, 4096), (4096, 4096)):
        expanded, absorbed = (attention.core(V3, s, t, form) for form in RULES)
        assert (absorbed.flops < expanded.flops) == (s == 1)
        assert absorbed.moved_bytes < expanded.moved_bytes


def test_the_weights_are_read_once_for_all_sequences():
    one, four = (attention.core(V3, 1, 100, "absorbed", sequences=n) for n in (1, 4))
    assert four.flops == 4 * one.flops
    assert 4 * one.moved_bytes - four.moved_bytes == 3 * 2 * 128 * 256 * 512
    wide = attention.core(V3, 1, 100, "absorbed", dtype="float32")
    assert wide.moved_bytes == 2 * one.moved_bytes


@pytest.mark.parametrize("t", [2, 60, 3000, 10**6])
@pytest.mark.parametrize("cfg", [V3, SMALL], ids=["V3", "small"])
def test_the_crossing_is_where_the_model_changes_its_form(cfg, t):
    at = attention.crossing(cfg, t)
    assert 0 < at < t
    for s in range(max(1, int(at) - 2), min(t, int(at) + 3)):
        assert absorbing_pays(s, t, cfg) == (s < at)
    assert attention.crossing(V3, 10**9) == pytest.approx(170.7, abs=0.1)


def test_a_latent_narrower_than_a_head_is_absorbed_always():
    assert attention.crossing(replace(V3, kv_lora_rank=64), 100) == 100


def test_sparse_kinds_are_refused():
    for name in ("deepseek-v3.2", "deepseek-v4-flash"):
        with pytest.raises(UserError, match="sparse kind"):
            attention.core(config.load(name).model, 1, 100)
