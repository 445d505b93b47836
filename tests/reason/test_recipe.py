"""The road in miniature: every stage runs, starts where it should, and is not walked twice."""

import dataclasses

import pytest

from minids.config import load
from minids.data.tokenizer import Tokenizer
from minids.reason import recipe, roads


@pytest.fixture(scope="module")
def small():
    """The tiny road with everything smaller."""
    road = recipe.tiny("addition:1")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 48, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
             "qk_rope_head_dim": 4, "v_head_dim": 8}  # fmt: skip
    model = dataclasses.replace(road.model, **sizes)
    train = dataclasses.replace(
        road.train, batch_size=4, threads=1, eval_every=0, save_every=0, device="cpu"
    )
    stages = tuple(
        s._replace(examples=min(s.examples, 60), steps=min(s.steps, 3)) for s in road.stages
    )
    rl = dataclasses.replace(road.rl, prompts=2, group=2, max_new_tokens=5)
    return road._replace(model=model, student=model, train=train, stages=stages, rl=rl, held_out=8)


def test_the_whole_road_is_walked_once(small, tmp_path, monkeypatch):
    """RL for a fraction of a second; a teacher that is right now and then, by decree."""
    stages = tuple(s._replace(minutes=s.minutes and 1e-4) for s in small.stages)
    road, texts = small._replace(stages=stages), Tokenizer.shipped("tales")

    def some(_teacher, tokenizer, tasks, n, **_rule):
        return iter(list(recipe.worked_examples(tokenizer, tasks, n, 5)))

    monkeypatch.setattr(recipe, "accepted", some)
    said = []
    results = recipe.follow(road, tmp_path / "r1", said.append)
    assert [r.stage for r in results] == [s.name for s in road.stages]
    assert all(0 <= r.hits <= r.n == 8 and r.parameters > 0 for r in results)
    assert load(str(tmp_path / "r1/7-student/config.toml")).model.vocab_size == texts.vocab_size
    monkeypatch.setattr(recipe, "walk", None)  # a second walk would fail
    assert recipe.follow(road, tmp_path / "r1", said.append) == results


def test_a_signal_stops_the_road_and_marks_nothing_done(small, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "walk", lambda *_: 143)
    with pytest.raises(recipe.Interrupted) as found:
        recipe.follow(small, tmp_path / "r1")
    assert found.value.code == 143
    assert not list((tmp_path / "r1").rglob("stage.json"))


def test_stories_are_not_reasoning(small):
    tokenizer = Tokenizer.shipped("tales")
    stories = list(recipe.stories(tokenizer, 3, 1))
    assert len(stories) == 3
    assert all(tokenizer.specials["<think>"] not in s.tokens for s in stories)


def test_the_road_of_a_gpu_is_walked_by_a_cpu_cut_down(small, tmp_path, monkeypatch):
    """Its tasks, its experts, its context; no GPU has run it."""
    road, sizes = roads.gpu(), {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 1536}
    model = dataclasses.replace(
        road.model, **sizes, num_attention_heads=2, n_routed_experts=4, num_experts_per_tok=2,
        intermediate_size=48, moe_intermediate_size=16,
    )  # fmt: skip
    student = dataclasses.replace(road.student, **sizes, intermediate_size=48)
    stages = tuple(
        s._replace(examples=min(s.examples, 60), steps=min(s.steps, 2), minutes=s.minutes and 1e-4)
        for s in road.stages
    )
    rl = dataclasses.replace(road.rl, prompts=5, group=2, max_new_tokens=5)
    train = dataclasses.replace(
        road.train, batch_size=4, threads=1, eval_every=0, save_every=0, device="cpu",
        precision="float32",
    )  # fmt: skip
    road = road._replace(
        model=model, student=student, stages=stages, rl=rl, train=train, held_out=10
    )

    def some(_teacher, tokenizer, tasks, n, **_rule):
        return iter(list(recipe.worked_examples(tokenizer, tasks, n, 5)))

    monkeypatch.setattr(recipe, "accepted", some)
    results = recipe.follow(road, tmp_path / "r1")
    assert [r.stage for r in results] == [s.name for s in road.stages]
    assert load(str(tmp_path / "r1/1-base/config.toml")).data.context == 256
