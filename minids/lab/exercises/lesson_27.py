"""Lesson 27, keep it running: how often to save, how a folder gets its name, what a spike is.

An answer that publishes a folder is judged by a disk on paper that loses power at every instant.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.lab.exercises.lesson_27_interval import INTERVAL, WASTED
from minids.lab.power import cut_everywhere
from minids.train.disk import publish
from minids.train.guard import LEAST_SPREAD, spike_limit

if TYPE_CHECKING:
    import torch

# 27.3 publish


def folders(generator: torch.Generator) -> Iterator[Case]:
    """One file and several."""
    import torch

    for n in (1, 2, 4):
        words = torch.randint(0, 999, (n,), generator=generator).tolist()
        names = tuple(f"file-{i}-{word}" for i, word in enumerate(words))
        yield Case((names,), f"{n} file{'s' * (n > 1)}, power cut at every instant")


def cut(answer: Callable[..., Any], case: Case) -> dict[str, list[str]]:
    """All that went wrong."""
    return cut_everywhere(answer, *case.args)


def nothing_flushed(disk, draft, final, manifest):
    disk.write(draft / "manifest.json", manifest)
    disk.rename(draft, final)


def name_first(disk, draft, final, manifest):
    disk.rename(draft, final)
    for path in disk.files(final):
        disk.flush(path)
    disk.write(final / "manifest.json", manifest)
    disk.flush(final / "manifest.json")
    disk.flush(final)
    disk.flush(final.parent)


def files_forgotten(disk, draft, final, manifest):
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft / "manifest.json")
    disk.flush(draft)
    disk.rename(draft, final)
    disk.flush(final.parent)


def manifest_forgotten(disk, draft, final, manifest):
    for path in disk.files(draft):
        disk.flush(path)
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft)
    disk.rename(draft, final)
    disk.flush(final.parent)


def names_forgotten(disk, draft, final, manifest):
    for path in disk.files(draft):
        disk.flush(path)
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft / "manifest.json")
    disk.rename(draft, final)
    disk.flush(final.parent)


def last_flush_forgotten(disk, draft, final, manifest):
    for path in disk.files(draft):
        disk.flush(path)
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft / "manifest.json")
    disk.flush(draft)
    disk.rename(draft, final)


def flushed_too_early(disk, draft, final, manifest):
    for path in disk.files(draft):
        disk.flush(path)
    disk.flush(draft)
    disk.write(draft / "manifest.json", manifest)
    disk.flush(draft / "manifest.json")
    disk.rename(draft, final)


PUBLISH = Exercise(
    "27.3",
    "publish",
    "whole under its name, or not there",
    publish,
    folders,
    (
        Mistake(
            "nothing flushed",
            "Written means: in memory. A power cut may keep the new name and none of the bytes "
            "behind it.",
            nothing_flushed,
        ),
        Mistake(
            "the name first",
            "From the rename on everybody believes the folder. Until the last flush it is a "
            "promise without cover.",
            name_first,
        ),
        Mistake(
            "files not flushed",
            "The manifest vouches for files that were never forced to the disk: their names may "
            "be there, their bytes not.",
            files_forgotten,
        ),
        Mistake(
            "manifest not flushed",
            "The last file written is a file like the others. Half of it vouches for nothing.",
            manifest_forgotten,
        ),
        Mistake(
            "the draft's names not flushed",
            "A flushed file keeps its bytes; that the folder knows its name is written in the "
            "folder, and that is a thing to flush by itself.",
            names_forgotten,
        ),
        Mistake(
            "the new name not flushed",
            "A rename changes the parent folder. The save has ended, the old checkpoint is "
            "deleted, and after a power cut the new one is still called a draft.",
            last_flush_forgotten,
        ),
        Mistake(
            "flushed before the manifest came",
            "The draft was flushed when it did not know the manifest yet, and the parent never.",
            flushed_too_early,
        ),
    ),
    (
        "Three kinds of things must outlive the cut: bytes of files, names in the draft, the new "
        "name in its parent.",
        "The rename is the promise. What must be kept before it may be made, and what after it, "
        "for it to count?",
        "Every file; then the manifest, which is a file too; then the folder that holds their "
        "names. Only then the new name, and the folder that holds that.",
    ),
    call=cut,
)

# 27.4 spike_limit


def histories(generator: torch.Generator) -> Iterator[Case]:
    """Quiet and noisy ones, long and short, with an outlier, constant, and all zero."""
    import torch

    def noisy(n: int, level: float, noise: float) -> list[float]:
        return (level + noise * torch.randn(n, generator=generator)).tolist()

    yield Case(([2.0] * 16, 6.0), "sixteen equal losses")
    yield Case(([0.0] * 20, 5.0), "twenty zeros")
    for n, level, noise, factor in ((17, 9.0, 1.0, 6.0), (64, 3.0, 0.5, 4.0), (40, 2.5, 1e-3, 8.0)):
        yield Case((noisy(n, level, noise), factor), f"{n} losses, {noise:g} of noise")
    high = noisy(30, 3.0, 0.3)
    yield Case(([*high, 40.0, 35.0], 6.0), "two outliers among them")
    low = noisy(33, -2.0, 0.01)
    yield Case((low, 3.0), "losses below zero")


def limit(losses, factor, *, middle=None, spread=None, floor=None):
    """`spike_limit` with one thing done otherwise."""
    centre = (middle or statistics.median)(losses)
    near = statistics.median(losses)
    wide = (spread or (lambda xs: 1.4826 * statistics.median(abs(x - near) for x in xs)))(losses)
    least = max(LEAST_SPREAD * abs(centre), 1e-6) if floor is None else floor
    return centre + factor * max(wide, least)


def by_means(losses, factor):
    return limit(losses, factor, middle=statistics.fmean, spread=statistics.pstdev)


def mean_in_the_middle(losses, factor):
    return limit(losses, factor, middle=statistics.fmean)


def deviation_around_the_median(losses, factor):
    return limit(losses, factor, spread=statistics.pstdev)


def medians_as_they_are(losses, factor):
    near = statistics.median(losses)
    return limit(losses, factor, spread=lambda xs: statistics.median(abs(x - near) for x in xs))


def without_a_floor(losses, factor):
    return limit(losses, factor, floor=0.0)


def from_the_last(losses, factor):
    return limit(losses, factor, middle=lambda xs: xs[-1])


def a_multiple(losses, factor):
    return factor * statistics.median(losses)


SPIKE = Exercise(
    "27.4",
    "spike_limit",
    "above which loss a step is a spike",
    spike_limit,
    histories,
    (
        Mistake(
            "mean and standard deviation",
            "One spike that slipped in pulls both up, and the next spike looks ordinary. Medians "
            "hardly move.",
            by_means,
        ),
        Mistake(
            "mean in the middle",
            "The spread is robust, the middle is not: a few high losses lift the whole limit.",
            mean_in_the_middle,
        ),
        Mistake(
            "standard deviation as spread",
            "Squares give the worst values most weight, and these are the ones to be found.",
            deviation_around_the_median,
        ),
        Mistake(
            "median distance as it is",
            "Half of all values lie within 0.67 deviations; without 1.4826 the limit is a third "
            "too near, and ordinary noise is thrown away.",
            medians_as_they_are,
        ),
        Mistake(
            "no least spread",
            "After a quiet time the spread is almost zero, and every flutter stops the run.",
            without_a_floor,
        ),
        Mistake(
            "counted from the last loss",
            "Then the limit jumps with every batch, and climbs along if losses climb.",
            from_the_last,
        ),
        Mistake(
            "a multiple of the loss",
            "Six times the loss is reached by nothing but an explosion. What counts is how far "
            "losses usually scatter.",
            a_multiple,
        ),
    ),
    (
        "Two medians: of the losses, and of something about them.",
        "How far is each loss from the middle? The median of that, times 1.4826, is the spread.",
        "The spread is never taken smaller than LEAST_SPREAD times the size of the middle, nor "
        "than a millionth; the limit lies factor spreads above the middle.",
    ),
    rtol=1e-9,
    atol=1e-12,
)

EXERCISES = (WASTED, INTERVAL, PUBLISH, SPIKE)

PREDICTIONS = (
    Prediction(
        "27.a",
        "Meta's 16,384 GPUs were interrupted unexpectedly 419 times in 54 days. At the same "
        "rate per GPU: how many hours would 2,048 GPUs run between two failures?",
        "hours",
        100.0,
        0.01,
        100_000.0,
    ),
    Prediction(
        "27.b",
        "These 2,048 GPUs stand still for a minute at each save. After how many minutes of work "
        "should they save?",
        "minutes",
        10.0,
        0.01,
        100_000.0,
    ),
)
