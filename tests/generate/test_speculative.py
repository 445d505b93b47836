"""Drafts may be worth much or nothing: what comes out is distributed as plain decoding."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from minids.errors import UserError
from minids.generate import speculative
from minids.generate.engine import Engine
from minids.generate.settings import Sampling
from minids.generate.speculative import Drafter, Speculative, verify

GREEDY = Sampling(temperature=0)
PROMPTS = [[5, 9, 200, 31, 7, 7, 90], [4], [66, 67, 68]]
RULES = [
    Sampling(seed=5), Sampling(seed=6, temperature=0.6, top_k=3),
    Sampling(seed=7, temperature=1.4, top_p=0.8),
]  # fmt: skip
NO_END = SimpleNamespace(eos=-1, pad=0, decode=str)


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}-modules")
def model(request, tiny_model):
    return tiny_model(num_nextn_predict_layers=request.param).double()


def exact(model):
    model.compute_dtype = torch.float64
    return model


def agreeing(model):
    """The same with drafts that are near the truth: the newest token alone says what follows.

    The module's block adds nothing and it passes the embedding on; the main blocks add little."""
    with torch.no_grad():
        for block in model.layers:
            block.self_attn.o_proj.weight *= 0.3
            scale_down(block, 0.3)
        for module in model.mtp:
            module.self_attn.o_proj.weight.zero_()
            scale_down(module, 0)
            d = module.eh_proj.weight.shape[0]
            module.eh_proj.weight.copy_(torch.cat((torch.eye(d), torch.zeros(d, d)), dim=1))
    return model


def scale_down(block, factor):
    for name, weight in block.mlp.named_parameters():
        if "down" in name:
            weight *= factor


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_greedy_output_is_that_of_plain_greedy_decoding(model, prompt):
    model = exact(model)
    plain = Engine(model, NO_END).complete([prompt], GREEDY, 60)[0]
    fast = Speculative(model, NO_END)
    done = fast.complete([prompt], GREEDY, 60)[0]
    assert done.tokens == plain.tokens and done.stop == plain.stop == "length"
    torch.testing.assert_close(done.logprobs, plain.logprobs, atol=1e-9, rtol=0)


def test_a_perfect_draft_always_stays():
    p = torch.rand(4, 9, dtype=torch.float64).softmax(-1)
    generator = torch.Generator().manual_seed(1)
    for drafts in itertools.product(range(9), repeat=2):
        uniform = torch.rand(3, generator=generator, dtype=torch.float64)
        assert verify(p[:3], p[:2], list(drafts), uniform)[0] == 2


@pytest.mark.parametrize("rule", [GREEDY, *RULES], ids=str)
def test_after_any_rejection_the_caches_hold_what_a_fresh_reading_holds(model, rule, monkeypatch):
    """Every guess equals that of a drafter that has seen nothing before."""
    model, seen, guess = exact(agreeing(model)), [], Drafter.guess

    def watched(self, known, state):
        before = self.generator.get_state()
        drafts, q = guess(self, known, state)
        fresh = torch.Generator()
        fresh.set_state(before)
        whole = model.hidden(torch.tensor([known[:-1]]))
        again = guess(Drafter(model, rule, fresh, torch.float64), known, whole)
        assert again[0] == drafts
        torch.testing.assert_close(again[1], q, atol=1e-9, rtol=0)
        seen.append(len(known))
        return drafts, q

    monkeypatch.setattr(Drafter, "guess", watched)
    Speculative(model, NO_END).complete([PROMPTS[0]], rule, 30)
    assert len(seen) > 5


def test_on_a_small_vocabulary_the_law_of_two_tokens_is_exactly_that_of_p(monkeypatch):
    """All drafts enumerated, acceptance integrated: p(a) · p(b | a), to rounding."""
    V, generator, weights = 4, torch.Generator().manual_seed(3), []

    def drawn_from(probability, uniform):
        weights.append(probability[0] / probability.sum())
        return torch.zeros(1, dtype=torch.int64)

    monkeypatch.setattr(speculative, "draw", drawn_from)
    for _ in range(5):
        p, q = torch.rand(2, 2 + V, V, generator=generator, dtype=torch.float64) ** 4
        p[0, 0] = q[0, 1] = p[2, 3] = 0  # what one of them never says
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        p_after, q_after = p[2:], q[2:]  # [V V], the second token given the first
        law = torch.zeros(V, V, dtype=torch.float64)
        for a, b in itertools.product(range(V), repeat=2):
            rows = torch.stack([p[0], p_after[a], p[1]]), torch.stack([q[0], q_after[a]])
            chance = q[0, a] * q_after[a, b]
            keep = [min(1.0, (rows[0][i, x] / rows[1][i, x]).item()) if rows[1][i, x] else 1.0
                    for i, x in enumerate((a, b))]  # fmt: skip
            for yes in itertools.product((True, False), repeat=2):
                share = [k if y else 1 - k for k, y in zip(keep, yes, strict=True)]
                if chance * share[0] * share[1] < 1e-15:
                    continue
                at = [k / 2 if y else (1 + k) / 2 for k, y in zip(keep, yes, strict=True)]
                kept, _ = verify(*rows, [a, b], torch.tensor([*at, 0.0], dtype=torch.float64))
                assert kept == (0 if not yes[0] else 1 if not yes[1] else 2)
                part = chance * share[0] * share[1]
                if kept == 2:
                    law[a, b] += part
                elif kept == 1:
                    law[a] += part * weights[-1]
                else:
                    law += part * weights[-1][:, None] * p_after
        torch.testing.assert_close(law, p[0][:, None] * p_after, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_samples_follow_the_plain_distribution(tiny_model, rule):
    """Third tokens of 400 samples each: χ² of their difference below df + 4√(2 df) + 10."""
    model = agreeing(tiny_model(num_nextn_predict_layers=2))
    n, counts = 400, []
    for engine in (Engine(model, NO_END), Speculative(model, NO_END)):
        done = engine.complete([PROMPTS[0][:3]], rule, 3, n)
        counts.append(torch.bincount(torch.tensor([c.tokens[2] for c in done]), minlength=300))
    assert 40 < engine.tally.accepted < engine.tally.drafted
    a, b = (c.double() for c in counts)
    often = a + b >= 10
    a, b = (torch.cat([c[often], c[~often].sum()[None]]) for c in (a, b))
    chi2, df = ((a - b) ** 2 / (a + b).clamp(min=1)).sum().item(), len(a) - 1
    assert chi2 < df + 4 * (2 * df) ** 0.5 + 10, (chi2, df)


def test_it_ends_at_the_end_token_the_limit_and_the_context(model):
    model = exact(agreeing(model))
    plain = Engine(model, NO_END).complete([PROMPTS[0]], GREEDY, 200)[0]
    fast = Speculative(model, NO_END)
    done = fast.complete([PROMPTS[0]], GREEDY, 200)[0]
    assert done.tokens == plain.tokens and done.stop == plain.stop == "context"
    for n in (1, 2, 3, 4):
        done = fast.complete([PROMPTS[0]], GREEDY, n)[0]
        assert done.tokens == plain.tokens[:n] and done.stop == "length"
    end = SimpleNamespace(eos=plain.tokens[5], pad=0, decode=str)
    done = Speculative(model, end).complete([PROMPTS[0]], GREEDY, 50)[0]
    assert done.tokens == plain.tokens[: plain.tokens.index(end.eos) + 1] and done.stop == "eos"


def test_the_tally_adds_up(model):
    fast = Speculative(exact(agreeing(model)), NO_END)
    assert fast.tally.acceptance is None
    fast.complete([PROMPTS[0]], Sampling(seed=2), 40, 2)
    tally = fast.tally
    assert tally.tokens == 80 == tally.passes + tally.accepted
    assert tally.acceptance == tally.accepted / tally.drafted


def test_a_model_without_modules_is_refused(tiny_model):
    with pytest.raises(UserError, match="no MTP module"):
        Speculative(tiny_model(), NO_END)
