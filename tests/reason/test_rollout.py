"""Rollouts: the sampler and the learner agree, groups share prompts, ends are ends."""

import math

import pytest
import torch

from minids.errors import UserError
from minids.generate.engine import Engine
from minids.generate.settings import Sampling
from minids.reason.rollout import by_length, joined, mismatch, roll_out, score

PROMPTS = [[256, 1, 2, 3], [256, 9], [256, 4, 5, 6, 7, 8, 9, 10]]


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def wide(model):
    model.compute_dtype = torch.float64
    return model.double()


def rolled(model, tokenizer, *, group=3, longest=12, seed=1, **rule):
    return roll_out(model, tokenizer, PROMPTS, group, Sampling(**rule), longest, generator(seed))


@pytest.mark.parametrize("rule", [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.8}])
def test_sampler_and_learner_agree(tiny_model, tokenizer, rule):
    model = tiny_model()
    roll = rolled(model, tokenizer, **rule)
    scored = score(model, roll, rule.get("temperature", 1.0))
    found = mismatch(roll, scored.logp)
    assert found.largest < 2e-4  # float32, other sums
    assert 0 <= found.kl < 1e-8
    if "top_p" in rule:  # without the mask the ratio compares two different games
        assert mismatch(roll, score(model, roll._replace(kept=None), 1.3).logp).largest > 0.05
    elif rule:  # the temperature belongs to both sides
        assert mismatch(roll, score(model, roll, 1.0).logp).largest > 0.05


def test_learner_is_the_plain_forward_pass(tiny_model, tokenizer):
    model = wide(tiny_model())
    roll = rolled(tiny_model(), tokenizer)
    scored = score(model, roll, 1.0)
    for row, prompt in enumerate(roll.prompts):
        n = int(roll.lengths[row])
        ids = [*prompt, *roll.tokens[row, :n].tolist()]
        logp = model(torch.tensor([ids])).log_softmax(-1)[0]
        at = range(len(prompt) - 1, len(ids) - 1)
        expected = torch.stack([logp[i, ids[i + 1]] for i in at])
        torch.testing.assert_close(scored.logp[row, :n], expected, rtol=0, atol=1e-12)
        own = torch.stack([-(logp[i].exp() * logp[i]).sum() for i in at])
        torch.testing.assert_close(scored.entropy[row, :n], own, rtol=0, atol=1e-12)
        assert not scored.logp[row, n:].any()


def test_micro_batches_score_alike_and_every_row_once(tiny_model, tokenizer):
    model = wide(tiny_model())
    roll = rolled(tiny_model(), tokenizer, longest=20)
    whole, parts = score(model, roll, 1.0).logp, by_length(roll, 60)
    assert len(parts) > 2
    assert torch.cat(parts).sort().values.tolist() == list(range(9))
    for rows in parts:
        assert len(rows) == 1 or joined(roll, rows)[0].numel() <= 60
        torch.testing.assert_close(score(model, roll, 1.0, rows).logp, whole[rows])


def test_the_same_seed_gives_the_same_tokens_and_another_does_not(tiny_model, tokenizer):
    model = tiny_model()
    one, again, other = (rolled(model, tokenizer, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.tokens, again.tokens)
    assert torch.equal(one.logp, again.logp)
    assert not torch.equal(one.tokens[:, :5], other.tokens[:, :5])


def test_a_group_differs_inside_and_has_one_prompt(tiny_model, tokenizer):
    roll = rolled(tiny_model(), tokenizer)
    assert roll.prompts == [p for p in PROMPTS for _ in range(3)]
    assert len({tuple(row) for row in roll.tokens[:3].tolist()}) > 1


def test_rows_end_at_the_end_token_and_leave(tiny_model, tokenizer):
    """An end token that is likely: some rows end early, the others are what they were."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos] = 1.7 * model.lm_head.weight[7]
    roll = rolled(model, tokenizer, group=16, longest=30)
    ends = [(row == tokenizer.eos).nonzero() for row in roll.tokens]
    lengths = roll.lengths.long().tolist()
    assert len(set(lengths)) > 3
    for row, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        assert roll.stops[row] == ("eos" if len(end) else "length")
        assert length == (int(end[0]) + 1 if len(end) else 30)
        assert (roll.tokens[row, length:] == tokenizer.pad).all()
    assert {"eos", "length"} == set(roll.stops)
    assert mismatch(roll, score(model, roll, 1.0).logp).largest < 2e-4


def test_what_is_likely_is_drawn_as_often(tiny_model, tokenizer):
    model = tiny_model()
    many = roll_out(model, tokenizer, PROMPTS[:1], 1000, Sampling(), 1, generator())
    share = torch.bincount(many.tokens[:, 0], minlength=tokenizer.vocab_size) / 1000
    p = model(torch.tensor([PROMPTS[0]]))[0, -1].softmax(-1).detach()
    likely = p.argmax()
    assert abs(share[likely] - p[likely]) < 4 * math.sqrt(p[likely] / 1000)  # four deviations


def test_cold_sampling_is_the_engines_likeliest_text(tiny_model, tokenizer):
    model = tiny_model()
    cold = roll_out(model, tokenizer, PROMPTS, 1, Sampling(temperature=0.01), 9, generator())
    best = Engine(model, tokenizer).complete(PROMPTS, Sampling(temperature=0.0), 9)
    for row, done in enumerate(best):
        assert cold.tokens[row, : int(cold.lengths[row])].tolist() == done.tokens


def test_the_context_ends_a_completion_and_refuses_a_prompt(tiny_model, tokenizer):
    model = tiny_model(max_position_embeddings=10)
    roll = rolled(model, tokenizer, longest=20)
    assert int(roll.lengths.max()) <= 8
    assert "context" in roll.stops
    assert set(roll.lengths[6:].tolist()) <= {1.0, 2.0}
    with pytest.raises(UserError, match="model reads 10"):
        roll_out(model, tokenizer, [[1] * 10], 2, Sampling(), 5, generator())
    with pytest.raises(UserError, match="no tokens"):
        roll_out(model, tokenizer, [[]], 2, Sampling(), 5, generator())


def test_temperature_zero_and_broken_weights_are_told(tiny_model, tokenizer):
    with pytest.raises(UserError, match="explores nothing"):
        rolled(tiny_model(), tokenizer, temperature=0.0)
    model = tiny_model()
    with torch.no_grad():
        model.layers[1].self_attn.o_proj.weight[0, 0] = math.nan
    with pytest.raises(UserError, match="NaN") as found:
        rolled(model, tokenizer)
    assert found.value.code == 3
