"""Ill runs to diagnose: each case is a real run with one thing wrong, beside its healthy twin.

Cases come in wards of eight. A ward has one seed, so one healthy twin, and each of the eight
illnesses once, in an order of its own: `case(0)` … `case(7)` are the first ward, and whoever wants
new ones takes `case(8)` and so on. A ward is run once, then read from the student's folder.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.lab import clinic_run, evidence, panel, progress
from minids.lab.clinic_run import Curves, Plan
from minids.nn.rope import rotate_halves

STEPS, SHORT = 80, 14  # of a run; the second where nobody looks (MINIDS_FAST=1)
FOLDER = "clinic"  # in the student's folder
SPIKE = 10, 6.0  # window and factor of the spike detector
STARVED = 0.1  # share of a fair load


class Case(NamedTuple):
    """A run with something wrong, and what it would have been."""

    number: int
    ill: Curves
    twin: Curves
    floor: float  # nats per target of the held-out rows: less is impossible for a causal model


class Sign(NamedTuple):
    """What one illness would show, looked for in a case."""

    found: bool
    says: str


class Illness(NamedTuple):
    """One thing that goes wrong."""

    change: Callable[[Plan, random.Random], Plan]
    sign: Callable[[Case], Sign]


class Diagnosis(NamedTuple):
    """Whether it was right, and the evidence for or against it."""

    right: bool
    says: str

    def _ipython_display_(self) -> None:
        """Nothing: `diagnose` has shown it already."""


def rate_too_high(case: Case) -> Sign:
    """The same share of the peak moves the weights much further, and the loss stays high."""
    moved = case.ill.update[0] / case.twin.update[0]
    share = case.ill.lr[0] / case.twin.lr[0]
    worse = last(case.ill) - last(case.twin)
    says = (
        f"the first step, at {share:.0f} times the twin's share of the peak, moves the weights "
        f"{moved:.1f} times as far; the held-out loss ends {worse:+.2f} nats from the twin's"
    )
    return Sign(moved > 2 * share and worse > 0.1, says)


def warm_up_missing(case: Case) -> Sign:
    """The first step is as large as any, and what it destroys is not mended."""
    first, usual = case.ill.lr[0], case.twin.lr[0]
    moved, worse = case.ill.update[0], last(case.ill) - last(case.twin)
    says = (
        f"the first step has {first:.0%} of the peak rate (twin {usual:.0%}) and changes the "
        f"weights by {moved:.0%} (twin {case.twin.update[0]:.0%}); held out it ends {worse:+.2f} "
        "nats from the twin"
    )
    return Sign(first > 2 * usual, says)


def mask_leaks(case: Case) -> Sign:
    """Too good to be true: below what any causal model can reach, in training and held out."""
    held, own = last(case.ill), late(case.ill.loss)
    says = (
        f"the held-out loss ends at {held:.2f}, the twin's at {last(case.twin):.2f}; no causal "
        f"model gets below {case.floor:.2f}, and what this one writes by itself is nonsense"
    )
    return Sign(held < case.floor and own < case.floor, says)


def layout_swapped(case: Case) -> Sign:
    """Training as the twin's to the last digit, evaluation worse."""
    apart = max(abs(a - b) for a, b in zip(case.ill.loss, case.twin.loss, strict=True))
    worse = last(case.ill) - last(case.twin)
    says = (
        f"the training losses differ from the twin's by at most {apart:.1g}, the held-out loss "
        f"by {worse:+.2f} nats: the weights are the same, the evaluation is not"
    )
    return Sign(apart < 1e-6 and worse > 0.05, says)


def experts_dead(case: Case) -> Sign:
    """Some experts see almost no token in the last third."""
    ill, twin = (health(curves) for curves in (case.ill, case.twin))
    says = (
        f"{len(ill.dead)} of {len(case.ill.load[0])} experts get under {STARVED:.0%} of a fair "
        f"load (twin {len(twin.dead)}); evenness {ill.evenness:.2f} (twin {twin.evenness:.2f})"
    )
    return Sign(len(ill.dead) > len(twin.dead) and ill.evenness < twin.evenness - 0.1, says)


def wrongly_accumulated(case: Case) -> Sign:
    """Same weights, same rows, another gradient: it shows before the first update."""
    same = case.ill.rows[0] == case.twin.rows[0]
    ratio = case.ill.grad_norm[0] / case.twin.grad_norm[0]
    whole = max(ratio, 1 / ratio)
    rows = "the same rows" if same else "other rows"
    says = (
        f"in step 0 weights are the twin's and the batch is {rows}; the gradient norm is "
        f"{ratio:.2f} times the twin's"
    )
    return Sign(same and whole > 1.2, says)


def order_wrong(case: Case) -> Sign:
    """Rows come twice, or all of a kind come first."""
    again = evidence.repeats(case.ill.rows)
    first, second = (openings(half) for half in halves(case.ill.rows))
    says = (
        f"{again:.0%} of the rows had been trained on before; {first:.0%} of the first half are "
        f"openings of tales, {second:.0%} of the second"
    )
    return Sign(again > 0 or abs(first - second) > 0.3, says)


def spiked(case: Case) -> Sign:
    """A few steps stand out of an otherwise smooth curve."""
    found = evidence.spikes(case.ill.loss, *SPIKE)
    usual = evidence.spikes(case.twin.loss, *SPIKE)
    where = f"steps {', '.join(map(str, found[:6]))}" if found else "no step"
    says = f"{where} stand{'' if found else 's'} out of the loss before (twin: {len(usual)} steps)"
    return Sign(0 < len(found) <= 6 and not usual, says)


def with_noise(plan: Plan, draw: random.Random) -> Plan:
    """Three steps in a row read noise, somewhere past the middle."""
    return plan._replace(junk=(0.5 + draw.random() / 6, 3))


ILLNESSES = {
    "learning rate too high": Illness(lambda p, _: p._replace(lr=5 * p.lr), rate_too_high),
    "no warm-up": Illness(lambda p, _: p._replace(warmup=0), warm_up_missing),
    "mask leak": Illness(lambda p, _: p._replace(attend=clinic_run.attend_one_ahead), mask_leaks),
    "RoPE layout": Illness(lambda p, _: p._replace(rotate=rotate_halves), layout_swapped),
    "dead experts": Illness(lambda p, _: p._replace(balanced=False), experts_dead),
    "accumulation": Illness(
        lambda p, _: p._replace(gradient=clinic_run.mean_of_means), wrongly_accumulated
    ),
    "data order": Illness(
        lambda p, draw: p._replace(order=draw.choice(("sorted", "repeated"))), order_wrong
    ),
    "loss spike": Illness(with_noise, spiked),
}


def cause_of(number: int) -> str:
    """What is wrong in a case. Whoever reads this instead of the curves learns nothing."""
    ward, place = divmod(number, len(ILLNESSES))
    names = sorted(ILLNESSES)
    random.Random(f"ward {ward}").shuffle(names)
    return names[place]


def case(number: int, steps: int | None = None) -> Case:
    """Case 0, 1, …; a few seconds the first time, then read from the student's folder."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise UserError("case", f"{number!r} is not the number of one", "0, 1, 2, …")
    ward = number // len(ILLNESSES)
    plan = ILLNESSES[cause_of(number)].change(Plan(), random.Random(f"case {number}"))
    steps = steps or (SHORT if progress.unattended() else STEPS)
    floor = clinic_run.texts(ward, 0, Tokenizer.shipped("tales"))[2]
    return Case(number, curves(plan, ward, steps), curves(Plan(), ward, steps), floor)


def diagnose(number: int, cause: str | None, steps: int | None = None) -> Diagnosis:
    """Is it that? Shows the evidence for it, or what speaks against it."""
    if cause is None:
        panel.show(panel.line("○", f"case {number}  no diagnosis yet", panel.CALM))
        return Diagnosis(False, "no diagnosis yet")
    if cause not in ILLNESSES:
        raise UserError("diagnosis", f"{cause!r} is not known here", ", ".join(ILLNESSES))
    patient = case(number, steps)
    right = cause == cause_of(number)
    sign = ILLNESSES[cause].sign(patient)
    if right:
        says = f"The evidence: {sign.says}."
    elif sign.found:
        says = f"There is this: {sign.says}. But it follows from something else."
    else:
        says = f"It would show: {sign.says}."
    head = f"{'✓' if right else '✗'} case {number}  {cause}{'' if right else ': no'}"
    panel.show(panel.framed(head, says, panel.GOOD if right else panel.BAD))
    return Diagnosis(right, says)


def curves(plan: Plan, seed: int, steps: int) -> Curves:
    """The log of a run, from memory, from the student's folder, or by running it."""
    key = fingerprint(plan, seed, steps)
    if key not in known:
        known[key] = stored(key, steps) or keep(key, one_thread(plan, seed, steps))
    return known[key]


known: dict[str, Curves] = {}


def one_thread(plan: Plan, seed: int, steps: int) -> Curves:
    """The run, the same on every machine up to rounding: more threads would not help it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return clinic_run.run(plan, seed, steps)
    finally:
        torch.set_num_threads(threads)


def fingerprint(plan: Plan, seed: int, steps: int) -> str:
    """Of everything that decides the curves."""
    fields = [getattr(value, "__name__", value) for value in plan]
    code = Path(clinic_run.__file__).read_text(encoding="utf-8")
    vocabulary = Tokenizer.shipped("tales").fingerprint
    text = json.dumps([fields, seed, steps, vocabulary, code])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stored(key: str, steps: int) -> Curves | None:
    """A run kept earlier; None if there is none, or none that can be read."""
    path = progress.folder() / FOLDER / f"{key}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found = Curves(**fields)
        lengths = {len(column) for column in found[:-2]}
        return found if lengths == {steps} and found.held_out else None
    except (OSError, ValueError, TypeError):
        return None


def keep(key: str, found: Curves) -> Curves:
    """Store a run where the student's other files are, if one can write there."""
    path = progress.folder() / FOLDER / f"{key}.json"
    if progress.unattended():
        return found
    try:
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found._asdict()), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        progress.say(f"the run is not stored: {path.parent}: {error.strerror}")
    return found


def health(curves: Curves) -> evidence.Health:
    """Of the experts in the last third."""
    load = torch.tensor(curves.load[-len(curves.load) // 3 :])
    return evidence.expert_health(load, STARVED)


def last(curves: Curves) -> float:
    """The last held-out loss."""
    return curves.held_out[-1][1]


def late(values: list[float]) -> float:
    """The mean of the last tenth."""
    return statistics.fmean(values[-max(len(values) // 10, 1) :])


def halves(rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Row names of the first and of the second half of a run."""
    names = [name for step in rows for name in step]
    return names[: len(names) // 2], names[len(names) // 2 :]


def openings(names: list[str]) -> float:
    """Share of rows that begin a tale."""
    return sum(name.endswith(":0") for name in names) / len(names)
