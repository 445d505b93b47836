"""A lesson 07 that exists for these tests only, and a student's folder."""

from types import SimpleNamespace

import pytest
import torch

from minids.lab import exercises, notebook, progress
from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.nn.attention import causal_softmax


def cases(generator):
    sizes = [(1, 1, 1, "float32"), (1, 2, 2, "float32"), (3, 5, 5, "float32")]
    sizes += [(2, 3, 7, "float64"), (1, 4, 4, "bfloat16")]
    for h, s, t, dtype in sizes:
        score = torch.randn(1, h, s, t, generator=generator).to(getattr(torch, dtype))
        yield Case((score,), f"{s} queries, {t} keys")


def softmax_of_the_past(score):
    return causal_softmax(score)


def mask_after_softmax(score):
    return score.softmax(-1).tril(score.shape[-1] - score.shape[-2])


def no_mask(score):
    return score.softmax(-1)


def wrong_offset(score):
    return score.masked_fill(torch.ones_like(score).tril() == 0, float("-inf")).softmax(-1)


TOY = Exercise(
    id="07.1",
    name="softmax_of_the_past",
    title="softmax over what a query may see",
    reference=softmax_of_the_past,
    cases=cases,
    mistakes=(
        Mistake("mask after softmax", "The rows no longer add up to one.", mask_after_softmax),
        Mistake("no mask at all", "A query sees what it should predict.", no_mask),
        Mistake(
            "offset of the prefix", "The last query sees all keys, not s of them.", wrong_offset
        ),
    ),
    hints=("Which keys?", "Forbidden scores count nothing after exp.", "Which score gives 0?"),
    gradients=True,
)
GUESS = Prediction("07.a", "How many bytes does a token leave?", "bytes", 512.0, 1.0, 1e6)


@pytest.fixture
def toy(monkeypatch):
    lesson = SimpleNamespace(EXERCISES=(TOY,), PREDICTIONS=(GUESS,))
    monkeypatch.setattr(exercises, "lesson", lambda number: lesson if number == 7 else None)
    monkeypatch.setattr(exercises, "lessons", lambda: [7])
    return TOY


@pytest.fixture
def student(tmp_path, monkeypatch):
    """An empty folder to work in, a fresh session, and nobody in a hurry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIDS_FAST", raising=False)
    monkeypatch.delenv("MINIDS_LAB_HOME", raising=False)
    monkeypatch.setattr(progress, "session", {})
    monkeypatch.setattr(progress, "warnings", [])
    monkeypatch.setattr(progress, "said", set())
    monkeypatch.setattr(notebook, "judged", {})
    monkeypatch.setattr(notebook, "unasked", set())
    return tmp_path
