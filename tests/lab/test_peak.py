import torch

from minids.lab.peak import peak_bytes


def test_the_peak_is_what_lives_together_not_what_was_ever_made():
    def one_after_the_other():
        for _ in range(5):
            torch.ones(1000, dtype=torch.float64).neg_()

    assert peak_bytes(one_after_the_other) == 8000
    assert peak_bytes(lambda: [torch.ones(1000, dtype=torch.float64) for _ in range(5)]) == 40_000


def test_what_was_there_before_does_not_count():
    x = torch.ones(1000)
    assert peak_bytes(lambda: x.add_(1)) < 100
    assert 4000 <= peak_bytes(lambda: x + 1) < 4100  # the number 1 is a tensor as well


def test_it_says_nothing(capfd):
    peak_bytes(lambda: torch.ones(3))
    assert capfd.readouterr() == ("", "")
