"""What several processes of one run say to each other: sums, pieces, and that they are still there.

One process says nothing (`Solo`); several talk through torch.distributed (`Gloo`). Both have the
same four words, so the training code knows only how many ranks there are.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minids.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

TIMEOUT_S = 120


class Solo:
    """A run of one process."""

    rank, world = 0, 1

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum over ranks, in place."""

    def all_gather(self, out: list[Tensor], mine: Tensor) -> None:
        """Fill `out` with every rank's tensor."""
        out[0].copy_(mine)

    def broadcast(self, tensor: Tensor) -> None:
        """Rank 0's values everywhere, in place."""

    def close(self) -> None:
        """Leave the group."""


class Group(Solo):
    """Ranks that have met, whoever brought them together.

    A rank that dies closes its sockets, so the others fail at once, not after the timeout. Raises
    UserError with code 1 naming what was lost.
    """

    def __init__(self, rank: int, world: int, group: ProcessGroup | None = None) -> None:
        """All ranks, or those of `group`, counted inside it."""
        import torch.distributed as dist

        self.rank, self.world, self.dist, self.group = rank, world, dist, group

    def all_reduce(self, tensor: Tensor) -> None:
        self._say(self.dist.all_reduce, tensor, group=self.group)

    def all_gather(self, out: list[Tensor], mine: Tensor) -> None:
        self._say(self.dist.all_gather, out, mine, group=self.group)

    def broadcast(self, tensor: Tensor) -> None:
        self._say(self.dist.broadcast, tensor, group=self.group, group_src=0)

    def close(self) -> None:
        if self.dist.is_initialized():
            self.dist.destroy_process_group()

    def _say(self, word, *args, **how) -> None:
        try:
            word(*args, **how)
        except (RuntimeError, torch.distributed.DistBackendError) as error:
            raise self.lost(error) from error

    def lost(self, error: Exception) -> UserError:
        """What a failed word means."""
        what = str(error).splitlines()[0][:120]
        return UserError("workers", f"rank {self.rank} lost another worker ({what})", code=1)


class Gloo(Group):
    """Ranks on one machine, meeting in a file."""

    def __init__(self, rank: int, world: int, meeting: Path) -> None:
        super().__init__(rank, world)
        self.dist.init_process_group(
            "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=TIMEOUT_S),
        )
