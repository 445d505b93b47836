"""Divergences: those of torch and of TRL's GKD, with their gradients, and their edges."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason.distill import check_vocabulary, distill_loss, divergence, keep_top

GKD = json.loads((Path(__file__).parent / "trl_numbers.json").read_text())["gkd"]
STUDENT, TEACHER = (torch.tensor(GKD[n], dtype=torch.float64) for n in ("student", "teacher"))
MASK = torch.tensor(GKD["mask"], dtype=torch.float64)


@pytest.mark.parametrize("case", GKD["cases"], ids=lambda c: f"{c['weight']}, {c['temperature']}")
def test_values_and_gradients_are_those_of_trl(case):
    rule = {name: case[name] for name in ("weight", "temperature")}
    x = STUDENT.clone().requires_grad_()
    loss = distill_loss(x, TEACHER, MASK, **rule)
    loss.backward()
    scale = case["temperature"] ** 2  # which TRL leaves out
    assert loss.item() == pytest.approx(scale * case["loss"], rel=1e-6)  # TRL's β is a float32
    expected = scale * torch.tensor(case["gradient"], dtype=torch.float64)
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("weight", "order"), [(0.0, 1), (1.0, -1)])
def test_the_ends_are_torchs_kl_in_both_directions(weight, order):
    own, other = (STUDENT.log_softmax(-1), TEACHER.log_softmax(-1))[::order]
    expected = F.kl_div(own, other, reduction="none", log_target=True).sum(-1)
    found = divergence(STUDENT, TEACHER, weight=weight)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("weight", [0.0, 0.2, 0.5, 1.0])
def test_a_student_that_is_the_teacher_costs_nothing_and_another_one_something(weight):
    assert divergence(TEACHER, TEACHER, weight=weight).abs().max() < 1e-14
    assert (divergence(STUDENT, TEACHER, weight=weight) > 0.01).all()


def test_jensen_shannon_is_symmetric_and_bounded():
    far = 100 * STUDENT
    one, other = divergence(far, TEACHER, weight=0.5), divergence(TEACHER, far, weight=0.5)
    torch.testing.assert_close(one, other)
    assert one.max() <= torch.log(torch.tensor(2.0, dtype=torch.float64)) + 1e-12


def test_temperature_squared_keeps_the_gradients_size():
    """At high temperature the scaled gradient tends to that of matching logits: a fixed size."""
    sizes = []
    for temperature in (20.0, 40.0):
        x = STUDENT.clone().requires_grad_()
        distill_loss(x, TEACHER, MASK, temperature=temperature).backward()
        sizes.append(x.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_top_k_keeps_the_likeliest_and_its_gradient_is_finite():
    kept = keep_top(TEACHER, 2)
    assert (kept.isfinite().sum(-1) == 2).all()
    assert torch.equal(kept.argmax(-1), TEACHER.argmax(-1))
    assert keep_top(TEACHER, 9) is TEACHER
    for weight in (0.0, 0.5):
        x = STUDENT.clone().requires_grad_()
        loss = distill_loss(x, TEACHER, MASK, weight=weight, top_k=2)
        loss.backward()
        assert loss.isfinite()
        assert x.grad.isfinite().all()
    by_hand = kept.softmax(-1)
    expected = (by_hand * (by_hand.clamp(min=1e-300).log() - STUDENT.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(divergence(STUDENT, kept), expected)


def test_no_token_no_loss():
    assert distill_loss(STUDENT, TEACHER, torch.zeros_like(MASK)) == 0


def test_numbers_and_teachers_that_do_not_fit_are_told():
    for bad in ({"weight": -0.1}, {"weight": 2.0}, {"temperature": 0.0}, {"weight": float("nan")}):
        with pytest.raises(UserError):
            divergence(STUDENT, TEACHER, **bad)
    with pytest.raises(UserError, match="infinitely"):
        distill_loss(STUDENT, TEACHER, MASK, weight=1.0, top_k=2)
    one, other = Tokenizer.of_bytes(), Tokenizer.of_characters("abc")
    check_vocabulary(one, Tokenizer.of_bytes())
    with pytest.raises(UserError, match="vocabulary"):
        check_vocabulary(one, other)
