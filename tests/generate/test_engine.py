"""The cached engine against the full forward pass; batches and samples against single rows."""

import math

import pytest
import torch

from minids.errors import UserError
from minids.generate.engine import Context, Engine, Rows, pad_left
from minids.generate.settings import Sampling

GREEDY = Sampling(temperature=0)
ATTENTION = [{"attention": "mla"}, {"attention": "gqa", "num_key_value_heads": 1, "head_dim": 14}]
RAGGED = [[5, 9, 200, 31, 7, 7, 90], [4], [66, 67, 68]]


@pytest.fixture(params=ATTENTION, ids=["mla", "mqa"])
def model(request, tiny_model):
    return tiny_model(**request.param)


def full_logits(model, ids: list[int]) -> torch.Tensor:
    """The definition: one row, no cache, no padding."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1]


def greedy_by_definition(model, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(full_logits(model, ids).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no-cache"])
def test_ragged_rows_see_what_they_would_see_alone(model, use_cache):
    tokens, mask = pad_left(RAGGED, pad=258, device=torch.device("cpu"))
    context = Context(model, mask, use_cache=use_cache)
    rows = [list(prompt) for prompt in RAGGED]
    with torch.no_grad():
        logits = context.read(tokens)
        for new in ([11, 12, 13], [21, 22, 23], [31, 32, 33]):
            for row, ids in enumerate(rows):
                # float32: other batch shapes round differently, 1e-4 is the promise (F47, F48)
                torch.testing.assert_close(logits[row], full_logits(model, ids), rtol=0, atol=1e-4)
                ids.append(new[row])
            logits = context.read(torch.tensor(new)[:, None])


def test_several_columns_at_once_equal_one_by_one(model):
    prompt, draft = [[3, 4, 5, 6]], [9, 8, 7]
    with torch.no_grad():
        together = Context(model, None, use_cache=True)
        together.read(torch.tensor(prompt))
        logits = model.logits(together.states(torch.tensor([draft])))
        single = Context(model, None, use_cache=True)
        single.read(torch.tensor(prompt))
        for i, token in enumerate(draft):
            alone = single.read(torch.tensor([[token]]))
            torch.testing.assert_close(logits[:, i], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no-cache"])
def test_greedy_tokens_equal_the_full_forward_also_in_ragged_batches(model, tokenizer, use_cache):
    engine = Engine(model, tokenizer, use_cache=use_cache)
    completions = engine.complete(RAGGED, GREEDY, 20, num_samples=2)
    assert [c.prompt for c in completions] == [p for p in RAGGED for _ in range(2)]
    for completion in completions:
        expected = greedy_by_definition(model, completion.prompt, 20)
        if tokenizer.eos in expected:
            expected = expected[: expected.index(tokenizer.eos) + 1]
        assert completion.tokens == expected


def test_logprobs_are_those_of_the_full_forward(model, tokenizer):
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=4)
    for c in Engine(model, tokenizer).complete(RAGGED, sampling, 9):
        ids = list(c.prompt)
        for token, logprob in zip(c.tokens, c.logprobs, strict=True):
            expected = full_logits(model, ids).log_softmax(-1)[token].item()
            assert logprob == pytest.approx(expected, abs=1e-4)
            ids.append(token)


def test_the_same_seed_gives_the_same_text_with_and_without_cache(model, tokenizer):
    sampling = Sampling(seed=7)
    with_cache = Engine(model, tokenizer).complete(RAGGED, sampling, 15, num_samples=3)
    again = Engine(model, tokenizer).complete(RAGGED, sampling, 15, num_samples=3)
    without = Engine(model, tokenizer, use_cache=False).complete(RAGGED, sampling, 15, 3)
    other = Engine(model, tokenizer).complete(RAGGED, Sampling(seed=8), 15, num_samples=3)
    assert with_cache == again
    assert [c.tokens for c in with_cache] == [c.tokens for c in without]
    assert [c.tokens for c in with_cache] != [c.tokens for c in other]


def test_samples_of_one_prompt_differ_from_the_first_token_on(model, tokenizer):
    completions = Engine(model, tokenizer).complete([[5, 6]], Sampling(temperature=1), 1, 40)
    assert len({c.tokens[0] for c in completions}) > 2


def test_rows_end_at_the_end_token_and_the_others_go_on_unharmed(tiny_model, tokenizer):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos] += 0.6 * model.lm_head.weight[:250].std()
        model.lm_head.weight[tokenizer.eos] *= 2.5  # the end token comes often, at odd times
    completions = Engine(model, tokenizer).complete([[5, 6], [7], [8, 9, 10]], Sampling(), 60, 8)
    ends = [c for c in completions if c.stop == "eos"]
    assert len({len(c.tokens) for c in ends}) > 3  # else the test tests nothing
    for c in completions:
        assert (c.tokens[-1] == tokenizer.eos) == (c.stop == "eos")
        assert tokenizer.eos not in c.tokens[:-1]
        ids = list(c.prompt)
        for token, logprob in zip(c.tokens, c.logprobs, strict=True):
            assert logprob == pytest.approx(
                full_logits(model, ids).log_softmax(-1)[token].item(), abs=1e-4
            )
            ids.append(token)


def test_a_row_stops_where_the_context_ends(tiny_model, tokenizer):
    model = tiny_model()
    model.lm_head.weight.data[tokenizer.eos] = 0
    long, short = Engine(model, tokenizer).complete([[1] * 95, [1] * 60], GREEDY, 30)
    assert (len(long.tokens), long.stop) == (2, "context")
    assert (len(short.tokens), short.stop) == (30, "length")


def test_half_empty_batches_shrink():
    rows = Rows([9, 9, 9, 9], 5, eos=0)
    rows.take([1, 0, 1, 1], [0.0] * 4)
    assert rows.running == [0, 2, 3]
    assert rows.compact() is None
    step = rows.take([0, 99, 2, 3], [-1.0, -99.0, -2.0, -3.0])
    assert step == ([0, 2, 3], [0, 2, 3], [-1.0, -2.0, -3.0], ["eos", "", ""])
    assert rows.compact() == [2, 3]
    assert rows.take([4, 5], [0.0, 0.0]).rows == [2, 3]


@pytest.mark.parametrize("length", [97, 98, 500])
def test_a_prompt_that_fills_the_context_is_refused(tiny_model, tokenizer, length):
    with pytest.raises(UserError, match=r"prompt: .* allowed: up to 96 tokens"):
        Engine(tiny_model(), tokenizer).complete([[1] * length], GREEDY, 3)


def test_a_prompt_without_tokens_is_refused(tiny_model, tokenizer):
    with pytest.raises(UserError, match="prompt: no tokens"):
        Engine(tiny_model(), tokenizer).complete([[1], []], GREEDY, 3)


@pytest.mark.parametrize(
    ("tokens", "samples"), [(0, 1), (-1, 1), (1 << 30, 1), (1, 0), (1, 1 << 20)]
)
def test_counts_outside_their_range_are_refused(tiny_model, tokenizer, tokens, samples):
    with pytest.raises(UserError, match="out of range"):
        Engine(tiny_model(), tokenizer).complete([[1]], GREEDY, tokens, samples)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_weight_that_is_not_finite_stops_with_its_name(tiny_model, tokenizer, value, temperature):
    model = tiny_model()
    model.layers[1].self_attn.o_proj.weight.data[3, 5] = value
    with pytest.raises(UserError, match=r"layers\.1\.self_attn\.o_proj\.weight") as caught:
        Engine(model, tokenizer).complete([[1, 2, 3]], Sampling(temperature=temperature), 5)
    assert caught.value.code == 3


def test_streamed_text_is_whole_characters_and_equals_the_completion(tiny_model, tokenizer):
    model = tiny_model()
    word = "né 日🐉!".encode()
    with torch.no_grad():  # a model that recites: the next byte follows from the last
        model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for i in range(len(word)):
            model.embed_tokens.weight[word[i], i] = 1.0
        for block in model.layers:
            block.self_attn.o_proj.weight.zero_()
            for name, weight in block.mlp.named_parameters():
                if "down_proj" in name:
                    weight.zero_()
        model.norm.weight.fill_(1)
        for i, follower in enumerate(word[1:]):
            model.lm_head.weight[follower, i] = 1.0
    assert len(set(word)) == len(word)
    pieces = list(Engine(model, tokenizer).stream([word[0]], GREEDY, len(word) - 1))
    assert "".join(pieces) == word[1:].decode()
    assert all("\ufffd" not in piece for piece in pieces)
    cut = "".join(Engine(model, tokenizer).stream([word[0]], GREEDY, 5))
    assert cut == "é \ufffd"  # 日 is cut after two of its bytes: said, not swallowed


def test_generating_leaves_the_random_state_of_the_program_alone(tiny_model, tokenizer):
    model, before = tiny_model(), torch.random.get_rng_state()
    Engine(model, tokenizer).complete([[1, 2]], Sampling(), 5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_between_two_steps_gradients_work_as_usual(tiny_model, tokenizer):
    for _ in Engine(tiny_model(), tokenizer).generate([[1, 2]], Sampling(), 2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_a_model_trained_in_bfloat16_decodes_in_float32_on_a_cpu(tiny_model, tokenizer):
    model, half = tiny_model(), tiny_model()
    half.compute_dtype = torch.bfloat16
    expected = Engine(model, tokenizer).complete(RAGGED, GREEDY, 12)
    assert Engine(half, tokenizer).complete(RAGGED, GREEDY, 12) == expected
    assert Engine(half, tokenizer, use_cache=False).complete(RAGGED, GREEDY, 12)[0].tokens == (
        expected[0].tokens
    )
    assert half.compute_dtype == torch.bfloat16


def test_double_precision_is_not_reduced(tiny_model, tokenizer):
    model = tiny_model().double()
    model.compute_dtype = torch.float64
    tokens, mask = pad_left(RAGGED, pad=258, device=torch.device("cpu"))
    context = Context(model, mask, use_cache=True)
    with torch.no_grad():
        context.read(tokens)
        logits = context.read(torch.tensor([[1], [2], [3]]))
        for row, (ids, token) in enumerate(zip(RAGGED, [1, 2, 3], strict=True)):
            torch.testing.assert_close(
                logits[row], full_logits(model, [*ids, token]), rtol=0, atol=1e-10
            )
