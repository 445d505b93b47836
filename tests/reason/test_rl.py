"""RL runs: reward rises, resume is exact, what cannot teach does not, faults are skipped."""

import math
from types import SimpleNamespace

import pytest
import torch

from minids.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.nn.transformer import Transformer
from minids.reason import rl as rl_module
from minids.reason.chat import example
from minids.reason.packed import open_examples
from minids.reason.rl_events import Evaluated, Finished, Stepped, Warned
from minids.reason.rl_run import reinforce_run
from minids.reason.sampled import joined, sample, take_problems, with_signal
from minids.reason.settings import Objective, RLConfig, parse_tasks
from minids.reason.sft import tune
from minids.reason.tasks import problem
from minids.train import checkpoint

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "kv_lora_rank": 8,
         "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 48,
         "initializer_range": 0.0, "max_position_embeddings": 64}  # fmt: skip
QUICK = {"task": "addition:1", "prompts": 4, "group": 4, "max_new_tokens": 8, "eval_problems": 8,
         "eval_every": 0, "save_every": 0, "warmup_steps": 1}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.of_characters("0123456789+= ")


@pytest.fixture(scope="module")
def cfg(tokenizer):
    return RunConfig(
        model=ModelConfig(vocab_size=tokenizer.vocab_size, **SMALL),
        data=DataConfig(name="text", path="examples", context=48),
        train=TrainConfig(max_steps=60, batch_size=8, warmup_steps=2, threads=1, workers=1,
                          device="cpu", precision="float32", sample_every_seconds=0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def weights(cfg, tokenizer, tmp_path_factory):
    """A base that answers in the form that is paid about half of the time, and guesses."""
    made = [problem("addition", 1, 1, i) for i in range(200)]
    texts = [
        f"<think></think><answer>{i % 10}</answer>" if i % 2 else f"{i % 10}" for i in range(200)
    ]
    examples = [example(tokenizer, p.prompt, t) for p, t in zip(made, texts, strict=True)]
    out = tmp_path_factory.mktemp("base") / "run"
    tune(cfg, open_examples(cfg, tokenizer, examples, name="base"), out=out)
    return checkpoint.load_latest(out / "checkpoints")[0].model


def run(cfg, weights, tokenizer, out, rule=None, **changes):
    events = []
    again = {k: changes.pop(k) for k in ("resume", "inject") if k in changes}
    done = reinforce_run(
        cfg, weights, tokenizer, RLConfig(**(QUICK | changes)), rule or Objective(), out=out,
        on_event=events.append, **again,
    )  # fmt: skip
    return done, events


def records(events):
    return [e.record for e in events if isinstance(e, Stepped)]


def test_reward_selects_the_habit_that_is_paid(cfg, weights, tokenizer, tmp_path):
    _, events = run(
        cfg, weights, tokenizer, tmp_path / "run", steps=30, lr=3e-3, group=8, prompts=8,
        pay_format=1.0,
    )  # fmt: skip
    form = [r["format"] for r in records(events)]
    assert 0.2 < sum(form[:3]) / 3 < 0.75
    assert sum(form[-3:]) / 3 > 0.95
    first = records(events)[0]
    assert abs(first["loss"]) < 1e-6 < first["grad_norm"]
    assert first["mismatch"] < 1e-3
    assert [type(e) for e in (events[0], events[-1])] == [Evaluated, Finished]


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_resumed_run_ends_with_the_same_weights(cfg, weights, tokenizer, tmp_path, beta):
    rule = Objective(beta=beta)
    more = {"updates": 2, "reference_every": 3, "keep": 9}
    whole, _ = run(cfg, weights, tokenizer, tmp_path / "a", rule, steps=6, **more)
    run(cfg, weights, tokenizer, tmp_path / "b", rule, steps=4, **more)
    done, events = run(cfg, weights, tokenizer, tmp_path / "b", rule, steps=6, resume=True, **more)
    assert [r["step"] for r in records(events)] == [5, 6]
    assert done.weights_sha256 == whole.weights_sha256
    lines = (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    with pytest.raises(UserError, match=r"rl[.]lr"):
        run(cfg, weights, tokenizer, tmp_path / "b", rule, steps=6, resume=True, lr=0.5, **more)


def test_rows_without_signal_change_nothing_but_are_counted(cfg, weights, tokenizer, tmp_path):
    """The learner may skip groups of equal rewards: the step is that of reading them all."""
    policy = make(cfg, weights, tokenizer, tmp_path)
    sampled = policy.sample()
    assert 0 < int((sampled.advantage != 0).sum()) < 16
    policy.learn(sampled)
    skipping = policy.gradients.flat.clone()
    other = make(cfg, weights, tokenizer, tmp_path)
    other.reference = other.model  # with a reference all rows are read
    other.learn(sampled)
    torch.testing.assert_close(other.gradients.flat, skipping, rtol=0, atol=1e-6)


def make(cfg, weights, tokenizer, out, rule=None, **changes):
    planned = SimpleNamespace(happens=lambda *_: False)
    rl = RLConfig(**(QUICK | {"pay_format": 1.0, "prompts": 4} | changes))
    return rl_module.Policy(
        cfg, weights, tokenizer, rl, rule or Objective(), out, planned=planned,
        on_event=lambda _e: None,
    )  # fmt: skip


def test_micro_batches_and_updates_add_up(cfg, weights, tokenizer, tmp_path):
    whole = make(cfg, weights, tokenizer, tmp_path)
    parts = make(cfg, weights, tokenizer, tmp_path, tokens_per_pass=30)
    sampled = whole.sample()
    for policy in (whole, parts):
        policy.learn(sampled)
    torch.testing.assert_close(parts.gradients.flat, whole.gradients.flat, rtol=0, atol=1e-6)


def test_equal_rewards_leave_the_weights_alone(cfg, weights, tokenizer, tmp_path):
    done, events = run(
        cfg, weights, tokenizer, tmp_path / "run", steps=2, pay_accuracy=0.0, pay_format=0.0
    )
    assert all(r["no_signal"] == 1 and r["loss"] == 0 for r in records(events))
    assert done.weights_sha256 == checkpoint.weights_sha256(weights)


def test_dynamic_sampling_keeps_groups_with_a_signal(cfg, weights, tokenizer, tmp_path):
    policy = make(cfg, weights, tokenizer, tmp_path, dynamic=8, prompts=3, group=2)
    sampled = policy.sample()
    assert len(sampled.reward) == 6
    assert (sampled.advantage != 0).all()
    assert policy.drawn > 3
    assert sampled.roll.tokens.shape == sampled.roll.logp.shape == sampled.roll.mask.shape


def test_a_failing_verifier_is_outside_of_the_update(cfg, weights, tokenizer):
    def broken(_text):
        raise RuntimeError("boom")

    model = Transformer(cfg.model)
    model.load_state_dict(weights)
    rl = RLConfig(**QUICK)
    problems = [p._replace(verify=broken) for p in take_problems(rl, 0)]
    made = sample(model, tokenizer, problems, rl, "group", torch.Generator().manual_seed(1))
    bad = [not a.reward.scorable for a in made.attempts]
    assert any(bad)
    assert made.reward.isnan().tolist() == bad
    assert not made.advantage[torch.tensor(bad)].any()
    assert all(len(part.reward) == 4 for part in with_signal(made, 4))


def test_a_nan_gradient_is_skipped_and_said(cfg, weights, tokenizer, tmp_path):
    done, events = run(
        cfg, weights, tokenizer, tmp_path / "run", steps=3, inject="nan-grad@2", pay_format=1.0
    )
    assert [r["skipped"] for r in records(events)] == [False, True, False]
    assert any(isinstance(e, Warned) and "nan" in e.text for e in events)
    found = checkpoint.load_latest(done.folder / "checkpoints")[0]
    assert all(torch.isfinite(t).all() for t in found.model.values())


def test_truncated_completions_can_be_left_out(cfg, weights, tokenizer, tmp_path):
    policy = make(cfg, weights, tokenizer, tmp_path, drop_truncated=True, max_new_tokens=1)
    sampled = policy.sample()
    assert not sampled.roll.mask.any()
    assert policy.learn(sampled)["loss"] == 0


def test_settings_that_cannot_work_are_told(cfg, weights, tokenizer, tmp_path):
    for bad in ({"temperature": 0.0}, {"top_p": 0.0}, {"updates": 9}, {"overlong": 8},
                {"group": 0}, {"lr": math.nan}):  # fmt: skip
        with pytest.raises(UserError):
            RLConfig(**(QUICK | bad))
    with pytest.raises(UserError, match="no task 'additon'"):
        parse_tasks("additon:2")
    with pytest.raises(UserError, match="out of range"):
        parse_tasks("addition:12")
    with pytest.raises(UserError, match="not a whole number"):
        parse_tasks("addition:x")
    shape = SMALL | {"max_position_embeddings": 5}
    short = RunConfig(
        model=ModelConfig(vocab_size=tokenizer.vocab_size, **shape),
        data=DataConfig(name="text", path="x", context=4),
    )  # fmt: skip
    with pytest.raises(UserError, match="the model reads 5"):
        run(short, weights, tokenizer, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    with pytest.raises(UserError, match="no checkpoint"):
        run(cfg, weights, tokenizer, tmp_path / "none", resume=True)


def test_groups_joined_again_keep_their_routing(cfg, weights, tokenizer, tmp_path):
    """Experts, DAPO's dynamic sampling, kept routing: learner and sampler agree."""
    import dataclasses

    model = dataclasses.replace(
        cfg.model, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        first_k_dense_replace=1, n_shared_experts=1, n_group=1, topk_group=1,
    )  # fmt: skip
    fresh = Transformer(model)
    fresh.init_weights(torch.Generator().manual_seed(2))
    policy = make(
        dataclasses.replace(cfg, model=model), fresh.state_dict(), tokenizer, tmp_path,
        dynamic=4, prompts=3, group=3, keep_routing=True, pay_consistency=1.0, top_p=0.9,
    )  # fmt: skip
    made = policy.sample()
    assert made.roll.asked is not None
    assert len(made.roll.asked) == len(made.reward)
    parts = with_signal(made, 3) or [made]
    both = joined([*parts, *parts], tokenizer.pad)
    for sampled in (made, both):
        assert policy.learn(sampled)["mismatch"] < 1e-3
    assert both.roll.asked.shape[0] == len(both.reward)


def test_the_mask_is_kept_unless_asked_otherwise(cfg, weights, tokenizer):
    model = Transformer(cfg.model)
    model.load_state_dict(weights)
    for keep in (True, False):
        rl = RLConfig(**(QUICK | {"top_p": 0.5, "keep_mask": keep}))
        rng = torch.Generator().manual_seed(1)
        made = sample(model, tokenizer, take_problems(rl, 0), rl, "group", rng)
        assert (made.roll.kept is not None) == keep
