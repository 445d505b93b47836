from types import SimpleNamespace

import pytest
import torch

from minids.config import load, presets
from minids.errors import UserError
from minids.nn import transformer
from minids.nn.cache import Cache
from minids.nn.loss import IGNORE
from minids.nn.transformer import Loss, Transformer


def batch_of(b=6, s=11, seed=0):
    tokens = torch.randint(0, 97, (b, s + 1), generator=torch.Generator().manual_seed(seed))
    labels = tokens[:, 1:].clone()
    labels[0, 4] = labels[1, 7:] = labels[4] = IGNORE
    return SimpleNamespace(tokens=tokens[:, :-1], labels=labels)


def double(model):
    model.compute_dtype = torch.float64
    return model.double()


V2 = {"topk_method": "group_limited_greedy", "scoring_func": "softmax", "norm_topk_prob": False}
V2 |= {"n_group": 4, "topk_group": 2, "device_loss_alpha": 0.4, "comm_loss_alpha": 0.5}
GQA = {"attention": "gqa", "head_dim": 14}
VARIANTS = pytest.mark.parametrize(
    "changes",
    [
        {"num_nextn_predict_layers": 2, "aux_loss_alpha": 0.3},
        {"aux_loss_alpha": 0.3, **V2},
        {**GQA, "n_routed_experts": 0, "num_nextn_predict_layers": 1},
    ],
    ids=["v3", "v2", "dense"],
)


@VARIANTS
def test_any_split_of_a_batch_adds_up(tiny_model, random_model, changes):
    model = double(random_model(tiny_model(**changes)))
    batch = batch_of()
    whole = model.loss(batch)
    want = torch.autograd.grad(whole.total, list(model.parameters()))
    parts, gradients = [], [torch.zeros_like(p) for p in model.parameters()]
    for rows in ([0], [3, 1], [2, 4, 5]):
        part = model.loss(SimpleNamespace(tokens=batch.tokens[rows], labels=batch.labels[rows]))
        parts.append(part)
        for total, grad in zip(
            gradients, torch.autograd.grad(part.total, list(model.parameters())), strict=True
        ):
            total += grad
    for name in Loss._fields:
        added = sum(getattr(part, name) for part in parts)
        torch.testing.assert_close(added, getattr(whole, name), rtol=1e-12, atol=1e-12)
    for mine, yours in zip(gradients, want, strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-9)


@VARIANTS
def test_loss_is_the_cross_entropy_of_the_logits(tiny_model, random_model, changes, monkeypatch):
    model = double(random_model(tiny_model(**changes)))
    batch = batch_of()
    logp = model(batch.tokens).log_softmax(-1)
    real = batch.labels != IGNORE
    want = -logp[real].gather(-1, batch.labels[real][:, None]).sum()
    for near in (1, 1 << 30):  # in blocks, in one
        monkeypatch.setattr(transformer, "NEAR", near)
        loss = model.loss(batch)
        torch.testing.assert_close(loss.main, want.detach(), rtol=0, atol=1e-9)
    assert loss.n_targets == real.sum()


@VARIANTS
def test_every_weight_is_trained(tiny_model, random_model, changes):
    model = random_model(tiny_model(**changes))
    model.loss(batch_of()).total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@VARIANTS
@torch.no_grad()
def test_chunks_through_a_cache_equal_the_whole(tiny_model, random_model, changes):
    model = double(random_model(tiny_model(**changes)))
    tokens = batch_of().tokens
    want, cache, got = model(tokens), Cache(3), []
    for start, end in ((0, 1), (1, 5), (5, 6), (6, 11)):
        got.append(model(tokens[:, start:end], cache=cache))
    torch.testing.assert_close(torch.cat(got, dim=1), want, rtol=0, atol=1e-11)
    cache.crop(4)
    again = model(tokens[:, 4:], cache=cache)
    torch.testing.assert_close(again, want[:, 4:], rtol=0, atol=1e-11)


@VARIANTS
@torch.no_grad()
def test_padding_changes_nothing_and_nothing_is_nan(tiny_model, random_model, changes):
    model = double(random_model(tiny_model(**changes)))
    tokens = batch_of().tokens
    alone = model(tokens[:1])
    padded = torch.cat((torch.zeros(1, 4, dtype=torch.int64), tokens[:1]), dim=1)
    real = torch.arange(15)[None] >= 4
    torch.testing.assert_close(model(padded, mask=real)[:, 4:], alone, rtol=0, atol=1e-11)
    cache = Cache(3)
    first = model(padded[:, :9], mask=real[:, :9], cache=cache)
    rest = model(padded[:, 9:], mask=real, cache=cache)
    both = torch.cat((first, rest), dim=1)
    torch.testing.assert_close(both[:, 4:], alone, rtol=0, atol=1e-11)
    nobody = torch.zeros(1, 15, dtype=torch.bool)
    assert model(padded, mask=nobody).isfinite().all()


def test_a_forward_pass_changes_no_state(tiny_model, random_model):
    model = random_model(tiny_model(num_nextn_predict_layers=1)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (model.loss(batch_of()) for _ in range(2))
    assert torch.equal(first.total, second.total)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_biases_move_once_per_call_by_the_load_of_their_layer(tiny_model, random_model):
    model = random_model(tiny_model(num_nextn_predict_layers=1, bias_update_speed=0.01))
    load = model.loss(batch_of()).load
    assert load.shape == (3, 8)  # layers 1 and 2, and the MTP module
    assert load.sum(-1).tolist() == [6 * 11 * 3, 6 * 11 * 3, 6 * 10 * 3]
    layers = [model.layers[1], model.layers[2], model.mtp[0]]
    before = [layer.mlp.gate.e_score_correction_bias.clone() for layer in layers]
    model.update_biases(load)
    for layer, bias, visits in zip(layers, before, load, strict=True):
        step = layer.mlp.gate.e_score_correction_bias - bias
        want = 0.01 * torch.sign(visits.float().mean() - visits)
        torch.testing.assert_close(step, want, rtol=0, atol=1e-7)


def test_routings_are_collected_only_on_request(tiny_model, random_model):
    model, routings = random_model(tiny_model()), []
    model.hidden(batch_of().tokens, routings=routings)
    assert [r.expert.shape for r in routings] == [(66, 3)] * 2


@torch.no_grad()
def test_bfloat16_computes_near_float32_from_float32_weights(tiny_model, random_model):
    cfg = tiny_model(initializer_range=0.05)
    model, tokens = random_model(cfg), batch_of().tokens
    want = model(tokens)
    model.compute_dtype = torch.bfloat16
    got = model(tokens)
    assert got.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert (got - want).abs().max() < 0.1 * want.abs().max()


def test_weights_start_as_the_table_says(tiny_model):
    model = Transformer(tiny_model(num_nextn_predict_layers=1, zero_init_output=True))
    model.init_weights(torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert weight.unique().tolist() == [1.0], name
        elif {"o_proj", "down_proj", "lm_head"} & set(name.split(".")):
            assert weight.abs().max() == 0, name
        else:
            assert weight.std().item() == pytest.approx(0.2, rel=0.15), name
    loss = model.loss(batch_of())
    assert (loss.main / loss.n_targets).item() == pytest.approx(torch.tensor(97.0).log().item())


def test_a_range_of_zero_means_one_over_the_root_of_the_inputs(tiny_model):
    model = Transformer(tiny_model(initializer_range=0.0))
    model.init_weights(torch.Generator().manual_seed(0))
    experts = model.layers[1].mlp.experts
    assert experts.gate_up_proj.std().item() == pytest.approx(42**-0.5, rel=0.1)
    assert experts.down_proj.std().item() == pytest.approx(22**-0.5, rel=0.1)
    assert model.embed_tokens.weight.std().item() == pytest.approx(1, rel=0.1)


def test_a_seed_is_the_same_weights_whatever_was_drawn_before(tiny_model):
    first, second = Transformer(tiny_model()), Transformer(tiny_model())
    second.layers[1].mlp.gate.e_score_correction_bias.fill_(3)
    for model in (first, second):
        model.init_weights(torch.Generator().manual_seed(5))
        torch.rand(3)
    for mine, yours in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.parametrize("preset", [p for p in presets() if load(p).model.attention != "csa"])
def test_every_preset_builds_without_memory(preset):
    cfg = load(preset).model
    with torch.device("meta"):
        model = Transformer(cfg)
    assert len(model.layers) == cfg.num_hidden_layers
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("deepseek-v3", 671_026_419_200),
        ("deepseek-v2", 235_741_434_880),
        ("deepseek-v2-lite", 15_706_484_224),
    ],
)
def test_released_models_have_their_published_size(preset, parameters):
    with torch.device("meta"):
        model = Transformer(load(preset).model)
    main = [w for n, w in model.state_dict().items() if not n.startswith("mtp")]
    assert sum(w.numel() for w in main) == parameters


def test_v4_is_counted_not_built():
    with pytest.raises(UserError, match="csa"), torch.device("meta"):
        Transformer(load("deepseek-v4-flash").model)
