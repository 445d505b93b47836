"""Parameters of which a rank holds a part: what the training code must know of them.

A part is a DTensor: it knows the whole it belongs to. Updates number by number run on the parts
alone; what needs whole matrices (Muon) or whole files (checkpoints) gathers them. Without shards
every function here is the identity. `whole` talks to all ranks, so all must call it, in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from minids.nn.transformer import Labelled, Transformer
from minids.train.comm import Solo


class Spread(NamedTuple):
    """A model laid over ranks: what of it this rank holds, and what replaces a plain step."""

    model: Transformer  # parameters under the whole model's names
    passes: Callable[[Transformer, Sequence[Labelled], int], tuple[Tensor, Tensor]] | None = None
    counts: bool = True  # whether this rank counts the targets of its rows
    copies: tuple[str, ...] = ()  # parameters that another rank holds too, and counts


class Team(NamedTuple):
    """A run that a launcher started on several ranks: how they talk, and how the model is spread.

    Made by whoever knows how to shard; the training code calls `spread` once, after the weights
    have their first values. `first(key, value)` is what rank 0 says, the others wait for it;
    `collect` brings what the stages of a pipeline hold to rank 0.
    """

    comm: Solo
    peers: Solo  # the ranks of the same stage: all of them without a pipeline
    spread: Callable[[Transformer], Spread]
    first: Callable[[str, str | None], str]
    collect: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    local_rank: int = 0
    local_world: int = 1


def is_sharded(weight: Tensor) -> bool:
    """Whether this is a part of a larger tensor."""
    return hasattr(weight, "to_local")


def local(weight: Tensor) -> Tensor:
    """What this rank holds, the same memory."""
    return weight.to_local() if is_sharded(weight) else weight  # type: ignore[attr-defined]


def whole(weight: Tensor) -> Tensor:
    """The whole tensor, gathered from all ranks."""
    return weight.full_tensor() if is_sharded(weight) else weight  # type: ignore[attr-defined]


def part_like(weight: Tensor, mine: Tensor) -> Tensor:
    """`mine` [as local(weight)] as the same part of a tensor spread like `weight`."""
    if not is_sharded(weight):
        return mine
    from torch.distributed.tensor import DTensor

    assert isinstance(weight, DTensor)
    return DTensor.from_local(
        mine,
        weight.device_mesh,
        weight.placements,
        run_check=False,
        shape=weight.shape,
        stride=weight.stride(),
    )


def part_of(full: Tensor, weight: Tensor) -> Tensor:
    """This rank's part of a whole tensor that is spread like `weight`; nobody is asked."""
    if not is_sharded(weight):
        return full
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    spread = distribute_tensor(full, weight.device_mesh, weight.placements, src_data_rank=None)
    return spread.to_local()


def gathered(tensors: dict[str, Tensor], team: Team | None = None) -> dict[str, Tensor]:
    """All tensors whole, on the CPU where they had to be gathered; of all stages on rank 0 alone.

    Without a team nothing is spread and this is the identity.
    """
    found = {
        name: whole(tensor).cpu() if is_sharded(tensor) else tensor
        for name, tensor in tensors.items()
    }
    return team.collect(found) if team else found


def any_sharded(model: nn.Module) -> bool:
    """Whether a model is spread over ranks."""
    return any_sharded_of(model.parameters())


def any_sharded_of(weights: Iterable[Tensor]) -> bool:
    """Whether one of them is a part."""
    return any(is_sharded(weight) for weight in weights)
