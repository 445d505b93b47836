"""Policy losses: equal to TRL's, to their definitions, and indifferent to how a batch is cut."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange

from minids.errors import UserError
from minids.reason import grpo
from minids.reason.settings import LOSSES, METHODS, Objective, objective

FIXTURE = json.loads((Path(__file__).parent / "trl_numbers.json").read_text())
GIVEN = {k: torch.tensor(v, dtype=torch.float64) for k, v in FIXTURE["inputs"].items()}
GROUP = FIXTURE["group"]


def sizes(mask, tokens=None):
    rows, n = len(mask), float(mask.sum())
    return grpo.Sizes(rows, n, tokens or FIXTURE["tokens_per_update"], FIXTURE["longest"])


def rollouts(given=GIVEN, scale="group"):
    advantage = grpo.advantages(given["reward"], GROUP, scale)
    return grpo.Rollouts(
        given["logp_old"], given["logp_sampler"], given["logp_ref"], given["mask"], advantage
    )


def loss_and_gradient(logp, old, rule, total):
    logp = logp.clone().requires_grad_()
    loss = grpo.policy_loss(logp, old, rule, total)
    loss.total.backward()
    return loss.total.item(), logp.grad


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_those_of_trl(scale):
    expected = torch.tensor(FIXTURE["advantages"][scale], dtype=torch.float64)
    ours = grpo.advantages(GIVEN["reward"], GROUP, scale)
    tolerance = 1e-7 if scale == "batch" else 1e-12  # TRL takes n/(n - 1) in float32
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", FIXTURE["cases"])
def test_losses_and_gradients_are_those_of_trl(name):
    case = FIXTURE["cases"][name]
    loss, gradient = loss_and_gradient(
        GIVEN["logp"], rollouts(), Objective(**case["rule"]), sizes(GIVEN["mask"])
    )
    assert abs(loss - case["loss"]) < 1e-12
    expected = torch.tensor(case["gradient"], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_every_loss_has_a_case():
    seen = {case["rule"].get("loss", "grpo") for case in FIXTURE["cases"].values()}
    assert seen == set(LOSSES.split())


@pytest.mark.parametrize("name", FIXTURE["cases"])
def test_any_split_into_micro_batches_has_the_same_gradient(name):
    rule, old, total = Objective(**FIXTURE["cases"][name]["rule"]), rollouts(), sizes(GIVEN["mask"])
    whole, gradient = loss_and_gradient(GIVEN["logp"], old, rule, total)
    parts = [
        loss_and_gradient(
            GIVEN["logp"][rows], grpo.Rollouts(*(field[rows] for field in old)), rule, total
        )
        for rows in (slice(0, 1), slice(1, 5), slice(5, 6))
    ]
    assert abs(sum(loss for loss, _ in parts) - whole) < 1e-12
    torch.testing.assert_close(torch.cat([g for _, g in parts]), gradient, rtol=0, atol=1e-12)


def test_the_last_step_of_the_sequence_is_the_default_loss():
    old, rule = rollouts(), Objective(beta=0.04)
    by_switches, _ = loss_and_gradient(GIVEN["logp"], old, rule, sizes(old.mask))
    by_hand = grpo.grpo(
        *(GIVEN[k] for k in ("logp", "logp_old", "logp_ref", "mask", "reward")), GROUP
    )
    assert abs(by_hand.item() - by_switches) < 1e-12


def test_before_the_first_update_the_clip_changes_nothing():
    logp = GIVEN["logp"].clone().requires_grad_()
    a = grpo.advantages(GIVEN["reward"], GROUP, "none")
    clipped = grpo.ppo_clip(logp, logp.detach(), GIVEN["mask"], a)
    plain = grpo.with_baseline(logp, GIVEN["mask"], GIVEN["reward"], GROUP)
    (one,), (other,) = (torch.autograd.grad(x, logp) for x in (clipped, plain))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-15)


def test_the_loss_of_the_first_update_is_zero_and_its_gradient_is_not():
    """Advantages of a group add up to 0 and every ratio is 1: a loss near 0 is right."""
    generator = torch.Generator().manual_seed(3)
    logp = -torch.rand(6, 7, generator=generator, dtype=torch.float64)
    old = rollouts()._replace(logp_old=logp, mask=torch.ones_like(logp))
    loss, gradient = loss_and_gradient(logp, old, Objective(), sizes(old.mask))
    assert abs(loss) < 1e-15
    assert gradient.abs().max() > 0.01


def test_reinforce_is_the_gradient_of_expected_reward():
    """Of a policy with one token: the mean over all of its choices, by enumeration."""
    theta = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([1.0, 0.0, 0.4], dtype=torch.float64)
    p = theta.softmax(0)
    (exact,) = torch.autograd.grad((p * reward).sum(), theta, retain_graph=True)
    ones, found = torch.ones(1, 1, dtype=torch.float64), torch.zeros_like(theta)
    for i in range(3):
        loss = grpo.reinforce(theta.log_softmax(0)[i].view(1, 1), ones, reward[i : i + 1])
        found -= p[i].detach() * torch.autograd.grad(loss, theta)[0]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-15)


def test_v32_kl_has_the_gradient_of_the_true_kl_and_plain_k3_has_not():
    """Samples from π_old, all of them with their probability; π has moved. (V3.2 §3)"""
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(3)]
    theta, old, ref = draws[0].requires_grad_(), draws[1].log_softmax(0), draws[2].log_softmax(0)
    logp = theta.log_softmax(0)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), theta, retain_graph=True)
    for unbiased in (True, False):
        rule = Objective(beta=1.0, unbiased_kl=unbiased)
        column = [rearrange(x, "V -> V 1") for x in (logp, old, ref)]
        none = torch.zeros(5, dtype=torch.float64)
        batch = grpo.Rollouts(column[1], column[1], column[2], torch.ones(5, 1).double(), none)
        kl = grpo.k3(column[0], batch.logp_ref)
        ratio = grpo.log_ratio(column[0], batch, rule).exp()
        mean = (old.exp() * (kl * ratio if unbiased else kl)[:, 0]).sum()
        (gradient,) = torch.autograd.grad(mean, theta, retain_graph=True)
        assert torch.allclose(gradient, exact, atol=1e-12) is unbiased


def test_a_group_of_equal_rewards_and_an_empty_completion_teach_nothing():
    given = GIVEN | {"reward": torch.tensor([1, 1, 1, 0, 1, 0.0]).double()}
    for loss in LOSSES.split():
        total, gradient = loss_and_gradient(
            given["logp"], rollouts(given), Objective(loss=loss), sizes(given["mask"])
        )
        assert torch.isfinite(torch.tensor(total))
        assert not gradient[:3].any()  # no signal
        assert not gradient[given["mask"] == 0].any()
        assert gradient[3:].any()


def test_a_batch_without_any_token_has_loss_zero():
    given = GIVEN | {"mask": torch.zeros_like(GIVEN["mask"])}
    for loss in LOSSES.split():
        total, gradient = loss_and_gradient(
            given["logp"], rollouts(given), Objective(loss=loss, beta=0.1), sizes(given["mask"])
        )
        assert total == 0
        assert not gradient.any()


def test_an_unscorable_completion_is_outside_of_its_group():
    reward = torch.tensor([1.0, 0.0, float("nan"), 1.0, 1.0, float("nan")])
    a = grpo.advantages(reward, 3)
    torch.testing.assert_close(a[:2], torch.tensor([0.5, -0.5]) / (0.5**0.5 + 1e-4))
    assert a[2:].tolist() == [0, 0, 0, 0]


def test_a_group_of_one_has_no_advantage():
    assert grpo.advantages(torch.tensor([1.0, 0.0]), 1).tolist() == [0, 0]


def test_length_bias_a_token_of_a_long_completion_counts_less_unless_told_otherwise():
    mask = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
    weight = {
        loss: grpo.share(mask, Objective(loss=loss), sizes(mask, 5.0))[:, 0].tolist()
        for loss in ("grpo", "dapo", "dr_grpo")
    }
    assert weight["grpo"][0] == 4 * weight["grpo"][1]
    assert weight["dapo"][0] == weight["dapo"][1] == pytest.approx(1 / 5)
    assert weight["dr_grpo"][0] == pytest.approx(1 / (2 * FIXTURE["longest"]))


def test_overlong_completions_pay_gradually():
    lengths = torch.tensor([0, 80, 90, 100, 120])
    assert grpo.overlong(lengths, 100, 20).tolist() == [0, 0, -0.5, -1, -1]
    assert not grpo.overlong(lengths, 100, 0).any()


def test_methods_are_rules_and_a_mistyped_one_is_answered():
    for name in METHODS:
        assert isinstance(objective(name, {}), Objective)
    assert objective("dapo", {"beta": "0.1"}).beta == 0.1
    with pytest.raises(UserError, match="no method"):
        objective("drgrpo", {})
    for bad in ({"epsilon": 1}, {"beta": "x"}, {"beta": float("nan")}, {"delta": 1.1}):
        with pytest.raises(UserError):
            objective("grpo", bad)
