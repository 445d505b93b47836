"""How evenly a router uses its experts: the numbers by which balance is judged.

Each expert's visits over some tokens, a layer or many at once. Where experts stand on different
devices the busiest one decides: all wait for it.  Axes: e experts.
"""

import math

import torch
from torch import Tensor


def max_violation(load: Tensor) -> Tensor:
    """MaxVio: how far the busiest expert lies above the fair share. (Loss-Free Balancing §4.1)

    load [… e] visits → […] float64; 0 is even, 1 twice the fair share, e − 1 one expert for all.
    """
    load = load.double()
    return load.amax(-1) / load.mean(-1) - 1


def evenness(load: Tensor) -> Tensor:
    """Entropy of the load over its largest: 1 is even, 0 is one expert for all.

    load [… e] visits → […] float64
    """
    p = load.double() / load.double().sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1) / math.log(load.shape[-1])


def dead(load: Tensor, share: float = 0.1) -> Tensor:
    """Which experts got less than `share` of their fair load.  load [… e] → [… e] bool"""
    load = load.double()
    return load < share * load.mean(-1, keepdim=True)
