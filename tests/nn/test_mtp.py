from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.nn.loss import IGNORE
from minids.nn.mtp import shift_labels


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 4))
def test_targets_never_leave_their_document(lengths, depth):
    """Documents packed into one row; token ids are unique, so a leak has a name."""
    document = [i for i, n in enumerate(lengths) for _ in range(n)]
    tokens = list(range(len(document)))
    labels = [
        tokens[i + 1] if i + 1 < len(tokens) and document[i + 1] == document[i] else IGNORE
        for i in range(len(tokens))
    ]
    shifted = torch.tensor([labels])
    for _ in range(depth):
        shifted = shift_labels(shifted)
    want = [
        tokens[i + depth + 1]
        if i + depth + 1 < len(tokens) and document[i + depth + 1] == document[i]
        else IGNORE
        for i in range(max(len(tokens) - depth, 0))
    ]
    assert shifted[0].tolist() == want


def batch_of(b=3, s=11, seed=0):
    tokens = torch.randint(0, 97, (b, s + 1), generator=torch.Generator().manual_seed(seed))
    labels = tokens[:, 1:].clone()
    labels[0, 4:5] = labels[1, 7:] = IGNORE
    return SimpleNamespace(tokens=tokens[:, :-1], labels=labels)


def test_the_main_loss_knows_nothing_of_mtp(tiny_model, random_model):
    with_mtp = random_model(tiny_model(num_nextn_predict_layers=2))
    without = random_model(tiny_model())
    weights = with_mtp.state_dict()
    without.load_state_dict({n: w for n, w in weights.items() if not n.startswith("mtp")})
    batch = batch_of()
    assert torch.equal(with_mtp.loss(batch).main, without.loss(batch).main)
    assert torch.equal(without.loss(batch).mtp, torch.zeros(0))


def test_every_depth_is_the_plain_statement(tiny_model, random_model):
    """V3 §2.2 position by position: state i and token i+u, causal, predict token i+u+1."""
    model = random_model(tiny_model(num_nextn_predict_layers=2)).double()
    model.compute_dtype = torch.float64
    batch = batch_of()
    loss = model.loss(batch)
    state = model.hidden(batch.tokens)
    for u, module in enumerate(model.mtp, start=1):
        length = batch.tokens.shape[1] - u
        joined = torch.zeros(3, length, 2 * 42, dtype=torch.float64)
        for i in range(length):
            embedding = model.embed_tokens.weight[batch.tokens[:, i + u]]
            joined[:, i, :42] = module.enorm(embedding)
            joined[:, i, 42:] = module.hnorm(state[:, i])
        inner, _ = module.forward(module.eh_proj(joined), model.rope(torch.arange(length)))
        state = module.shared_head.norm(inner)
        total, count = 0.0, 0
        for row in range(3):
            for i in range(length):
                if (batch.labels[row, i : i + u + 1] != IGNORE).all():
                    logp = model.logits(state[row, i]).log_softmax(-1)
                    total, count = total - logp[batch.labels[row, i + u]], count + 1
        torch.testing.assert_close(loss.mtp[u - 1], total, rtol=0, atol=1e-9)
        assert loss.n_mtp[u - 1] == count


def test_the_weight_of_mtp_is_lambda_over_depth(tiny_model, random_model):
    cfg = tiny_model(num_nextn_predict_layers=2, mtp_loss_weight=0.6)
    loss = random_model(cfg).loss(batch_of())
    want = loss.main + 0.3 * loss.mtp.sum() + loss.balance
    torch.testing.assert_close(loss.total.detach(), want)


def test_mtp_trains_the_trunk_the_embedding_and_the_head_it_shares(tiny_model, random_model):
    model = random_model(tiny_model(num_nextn_predict_layers=1))
    batch = batch_of()
    state = model.hidden(batch.tokens)
    sums, _ = model.mtp_losses(batch.tokens, batch.labels, state, [])
    sums.sum().backward()
    for name in ("embed_tokens.weight", "lm_head.weight", "layers.0.self_attn.o_proj.weight"):
        assert model.get_parameter(name).grad.abs().max() > 0


def test_a_row_shorter_than_the_depth_is_refused(tiny_model, random_model):
    model = random_model(tiny_model(num_nextn_predict_layers=3))
    with pytest.raises(AssertionError, match="MTP depth"):
        model.loss(batch_of(s=3))
    assert model.loss(batch_of(s=4)).n_mtp.tolist()[-1] <= 3
