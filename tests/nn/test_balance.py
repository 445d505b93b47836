"""Balance in numbers: known loads, and what must not change them."""

import math

import pytest
import torch

from minids.nn.balance import dead, evenness, max_violation


@pytest.mark.parametrize(
    ("load", "violation", "even"),
    [
        ([5, 5, 5, 5], 0.0, 1.0),
        ([20, 0, 0, 0], 3.0, 0.0),
        ([10, 10, 0, 0], 1.0, 0.5),
        ([8, 4, 2, 2], 1.0, 1.75 / 2),
    ],
)
def test_known_loads(load, violation, even):
    load = torch.tensor(load)
    assert max_violation(load).item() == pytest.approx(violation, abs=1e-12)
    assert evenness(load).item() == pytest.approx(even, abs=1e-12)


def test_layers_are_judged_each_for_itself_and_scale_does_not_matter():
    load = torch.randint(1, 50, (3, 4, 7), generator=torch.Generator().manual_seed(0))
    for rule in (max_violation, evenness, dead):
        assert torch.equal(rule(load)[1, 2], rule(load[1, 2]))
        torch.testing.assert_close(rule(3 * load), rule(load))


def test_evenness_is_the_entropy_over_its_largest():
    load = torch.tensor([3, 1, 4, 1, 5])
    entropy = torch.distributions.Categorical(load.double()).entropy().item()
    assert evenness(load).item() == pytest.approx(entropy / math.log(5), abs=1e-12)


def test_dead_is_less_than_a_share_of_the_fair_load():
    load = torch.tensor([[100, 1, 0, 99], [50, 50, 50, 50]])
    assert dead(load).tolist() == [[False, True, True, False], [False] * 4]
    assert dead(load, share=0.01).tolist()[0] == [False, False, True, False]
    assert not dead(load, share=0.0).any()
