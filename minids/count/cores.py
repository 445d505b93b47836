"""What a small run costs where nobody sells an hour of it: busy cores as energy and as rent.

A vendor's sheet names no watts of one core at work, and nobody bills a laptop by the minute. So
both rates are assumptions, written beside every figure that rests on them; a device of
`hardware.TABLE` is billed by its own row instead.
"""

from __future__ import annotations

from typing import NamedTuple

from minids.count.hardware import Hardware

HOUR = 3600.0


class Rate(NamedTuple):
    """What an hour of one unit draws and costs."""

    unit: str  # core or device
    watts: float
    dollars_per_hour: float
    assumed: str  # the sentence that a reader needs


CORE = Rate(
    "core",
    10.0,
    0.04,
    "10 W a busy core (a 16-core desktop of 160 W at work; a laptop's are nearer to 5, the rest of "
    "the machine not counted) and $0.04 an hour of rented core (a round figure, no offer)",
)


class Bill(NamedTuple):
    """Time as energy and money."""

    hours: float  # of one unit
    watt_hours: float
    dollars: float


def rate_of(machine: Hardware) -> Rate:
    """A device by its row: its own watts, not those of the computer around it."""
    what = f"{machine.watts:g} W and ${machine.dollars_per_hour:g} an hour of {machine.name}"
    return Rate("device", machine.watts, machine.dollars_per_hour, f"{what}: {machine.source}")


def bill(seconds: float, rate: Rate = CORE) -> Bill:
    """`seconds` of one unit at work: an hour of a core is 10 Wh and 4 cents."""
    hours = seconds / HOUR
    return Bill(hours, hours * rate.watts, hours * rate.dollars_per_hour)
