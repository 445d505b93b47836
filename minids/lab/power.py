"""A disk on paper that loses power at every instant of a save, in all the ways it may."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minids.train.disk import Disk

PARENT = Path("checkpoints")
OLD, NEW, DRAFT = PARENT / "step-1", PARENT / "step-2", PARENT / ".tmp-step-2"
WHOLE = "whole"

Node = str | dict[str, int]  # a file's text, or a folder's names


class PaperDisk(Disk):
    """Files and folders by number: as everybody sees them now, and as they are kept."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """A whole old checkpoint, and a new one's files written, not flushed."""
        self.now: dict[int, Node] = {0: {"checkpoints": 1}, 1: {}}
        self.instants: list[tuple[dict[int, Node], dict[int, Node]]] = []
        self.kept: dict[int, Node] = {}
        for folder, files in ((OLD, (*names, "manifest.json")), (DRAFT, names)):
            self.put(folder, {})
            for name in files:
                self.put(folder / name, WHOLE)
            if folder == OLD:
                self.kept = copy.deepcopy(self.now)
        self.instants.clear()
        self.note()

    def note(self) -> None:
        """Another instant at which power may fail."""
        self.instants.append((copy.deepcopy(self.now), copy.deepcopy(self.kept)))

    def at(self, path: Path) -> int:
        """The number behind a path. Raises FileNotFoundError."""
        number = 0
        for name in Path(path).parts:
            inside = self.now[number]
            if not isinstance(inside, dict) or name not in inside:
                raise FileNotFoundError(f"{path} does not exist")
            number = inside[name]
        return number

    def names(self, folder: Path) -> dict[str, int]:
        """A folder's names. Raises NotADirectoryError."""
        found = self.now[self.at(folder)]
        if not isinstance(found, dict):
            raise NotADirectoryError(f"{folder} is a file")
        return found

    def put(self, path: Path, node: Node) -> None:
        """A new file or folder under a name."""
        number = max(self.now) + 1
        self.now[number] = node
        self.names(path.parent)[path.name] = number
        self.note()

    def files(self, folder: Path) -> list[Path]:
        return sorted(Path(folder) / name for name in self.names(folder))

    def write(self, path: Path, text: str) -> None:
        self.put(Path(path), text)

    def flush(self, path: Path) -> None:
        number = self.at(path)
        self.kept[number] = copy.deepcopy(self.now[number])
        self.note()

    def rename(self, old: Path, new: Path) -> None:
        old, new = Path(old), Path(new)
        number = self.at(old)
        del self.names(old.parent)[old.name]
        self.names(new.parent)[new.name] = number
        self.note()


class Ruin(NamedTuple):
    """What is left after a power cut."""

    nodes: dict[int, Node]

    def inside(self, path: Path) -> Node | None:
        """A file's text or a folder's names; None if there is nothing."""
        number = 0
        for name in path.parts:
            names = self.nodes.get(number, {})
            if not isinstance(names, dict) or name not in names:
                return None
            number = names[name]
        return self.nodes.get(number, "")  # a name of which no byte was kept


def ruins(now: dict[int, Node], kept: dict[int, Node]) -> Iterator[Ruin]:
    """What may be left: of all that was not flushed nothing, everything, one thing or all but one.

    A folder of which nothing was kept is empty.
    """
    open_ones = [number for number in now if kept.get(number) != now[number]]
    empty = {n: {} if isinstance(now[n], dict) else "" for n in open_ones if n not in kept}
    some = [[], open_ones, *([n] for n in open_ones)]
    some += [[m for m in open_ones if m != n] for n in open_ones]
    for lucky in some:
        yield Ruin({**empty, **kept, **{n: now[n] for n in lucky}})


def wrong_in(ruin: Ruin, folder: Path, names: tuple[str, ...]) -> list[str]:
    """What is missing in a folder; nothing if it is not there at all."""
    there = ruin.inside(folder)
    if there is None:
        return []
    found = []
    for name in (*names, "manifest.json"):
        text = ruin.inside(folder / name)
        what = "the manifest" if name == "manifest.json" else "a file"
        if text is None:
            found.append(f"without {what}")
        elif text != WHOLE:
            found.append(f"with half of {what}")
    return found


def cut_everywhere(publish: Callable[..., Any], names: tuple[str, ...]) -> dict[str, list[str]]:
    """A save with power cut at each of its instants → what went wrong, each thing once."""
    disk = PaperDisk(names)
    publish(disk, DRAFT, NEW, WHOLE)
    during: set[str] = set()
    for now, kept in disk.instants:
        for ruin in ruins(now, kept):
            during |= {f"step-2 {what}" for what in wrong_in(ruin, NEW, names)}
            if ruin.inside(OLD) is None or wrong_in(ruin, OLD, names):
                during.add("step-1 is damaged")
    after: set[str] = set()
    for ruin in ruins(disk.now, disk.kept):
        if ruin.inside(NEW) is None:
            after.add("step-2 is gone though the save had ended")
    return {"under its name": sorted(during), "afterwards": sorted(after)}
