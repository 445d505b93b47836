"""A student's runs: from text, from logits, on its own samples; the loss is the one named."""

import dataclasses

import pytest
import torch

from minids.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.nn.loss import IGNORE
from minids.nn.transformer import Transformer
from minids.reason import distill_run
from minids.reason.chat import example
from minids.reason.corpus import worked_examples
from minids.reason.distill import distill_loss
from minids.reason.distill_run import OwnBatches, distill, taught_loss
from minids.reason.distill_settings import DistillConfig
from minids.reason.packed import pack
from minids.reason.sft import packed_states
from minids.train import checkpoint, events
from minids.train.trainer import Hooks

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "kv_lora_rank": 8,
         "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 48,
         "max_position_embeddings": 64, "initializer_range": 0.3}  # fmt: skip
LETTERS = Tokenizer.of_characters("0123456789+= ")


@pytest.fixture(scope="module")
def cfg():
    return RunConfig(
        model=ModelConfig(vocab_size=LETTERS.vocab_size, **SMALL),
        data=DataConfig(name="text", path="examples", context=48),
        train=TrainConfig(max_steps=6, batch_size=4, save_every=2, warmup_steps=1, threads=1,
                          workers=1, device="cpu", precision="float32", sample_every_seconds=0),
    )  # fmt: skip


class Cut(Exception):
    """A power cut."""


def cut(event):
    """… after step 5; the newest checkpoint is that of step 4."""
    if isinstance(event, events.Step) and event.step == 5:
        raise Cut


def model(cfg, seed):
    made = Transformer(cfg.model)
    made.init_weights(torch.Generator().manual_seed(seed))
    return made


@pytest.fixture
def writes(monkeypatch):
    """A teacher whose answers are right, by decree."""

    def accepted(_model, own, tasks, n, *, to=None, **_rule):
        return worked_examples(to or own, tasks, n, 3)

    monkeypatch.setattr(distill_run, "accepted", accepted)


@pytest.mark.parametrize("rule", [{}, {"weight": 1.0}, {"weight": 0.5, "temperature": 2.0},
                                  {"temperature": 3.0, "top_k": 4}])  # fmt: skip
def test_the_loss_of_packed_rows_is_that_of_their_tokens(cfg, rule):
    student, teacher = model(cfg, 1), model(cfg, 2)
    found = [example(LETTERS, "1+2", "12"), example(LETTERS, "3", "4+5=9")]
    batch = pack([found, found[:1]], 24, LETTERS.pad)
    plan = DistillConfig(way="logits", **rule)
    loss = taught_loss(student, batch, teacher=teacher, plan=plan)
    learned = batch.labels != IGNORE
    logits = [m.logits(packed_states(m, batch, [])[learned]) for m in (student, teacher)]
    mean = distill_loss(*logits, torch.ones(int(learned.sum())), **rule)
    assert loss.n_targets == learned.sum()
    torch.testing.assert_close(loss.main, mean.detach() * loss.n_targets)
    loss.total.backward()
    assert all(p.grad is None for p in teacher.parameters()) and loss.main > 0


@pytest.mark.parametrize("way", ["traces", "logits", "samples"])
def test_every_way_pulls_the_student_to_its_teacher_and_resumes_exactly(cfg, way, writes, tmp_path):
    teacher = model(cfg, 2).requires_grad_(False)
    plan = DistillConfig(way=way, task="addition:1", examples=80, prompts=8, max_new_tokens=12)

    def go(out, steps, **more):
        now = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, max_steps=steps))
        return distill(now, plan, teacher, LETTERS, LETTERS, out=tmp_path / out, **more)

    whole = go("whole", 6)
    with pytest.raises(Cut):
        go("again", 6, hooks=Hooks(on_event=cut))
    assert go("again", 6, resume=True).weights_sha256 == whole.weights_sha256
    start = model(cfg, cfg.train.seed)
    end = Transformer(cfg.model)
    end.load_state_dict(checkpoint.load_latest(tmp_path / "whole/checkpoints")[0].model)
    batch = pack([list(worked_examples(LETTERS, [("addition", 1)], 1, 9))], 48, LETTERS.pad)
    away = [taught_loss(m, batch, teacher=teacher, plan=plan).main.item() for m in (start, end)]
    if way != "traces":
        assert away[1] < away[0]


def test_own_samples_are_new_every_step_and_the_same_again(cfg):
    def batches(position=0):
        found = OwnBatches(cfg, LETTERS, DistillConfig(prompts=4, max_new_tokens=6))
        found.student = model(cfg, 1)
        found.load_state_dict({"epoch": 0, "drawn": position})
        return found

    one = batches()
    first, second = one.next(), one.next()
    assert not torch.equal(first.tokens, second.tokens)
    assert torch.equal(batches(1).next().tokens, second.tokens)
    assert (first.labels != IGNORE).any()


def test_logits_of_another_vocabulary_are_refused_and_its_text_is_not(cfg, writes, tmp_path):
    other = Tokenizer.of_bytes()
    teacher = Transformer(dataclasses.replace(cfg.model, vocab_size=other.vocab_size))
    for way in ("logits", "samples"):
        with pytest.raises(UserError, match="vocabulary"):
            distill(cfg, DistillConfig(way=way), teacher, other, LETTERS, out=tmp_path / way)
        assert not (tmp_path / way).exists()
    plan = DistillConfig(task="addition:1", examples=40)
    assert distill(cfg, plan, teacher, other, LETTERS, out=tmp_path / "text").step == 6


def test_numbers_without_a_meaning_are_refused():
    for bad in ({"way": "dreams"}, {"weight": 2.0}, {"temperature": 0.0}, {"examples": 3},
                {"weight": 1.0, "top_k": 5}):  # fmt: skip
        with pytest.raises(UserError):
            DistillConfig(**bad)
