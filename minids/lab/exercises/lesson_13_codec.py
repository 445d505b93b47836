"""Lesson 13: between bytes and numbers.

A format has a sign, exponent bits, fraction bits; one without NaN uses every code as a number.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minids.lab.exercise import Case, Exercise, Mistake
from minids.lowp.codec import (
    E2M1,
    E4M3,
    E5M2,
    Format,
    decode,
    encode,
    round_magnitude,
    shift_to_even,
)


def form_of(exponent: int, fraction: int) -> Format:
    """A format of any width without infinity and NaN."""
    name = f"e{exponent}m{fraction}"
    return Format(name, exponent, fraction, (1 << exponent + fraction) - 1, None, None)


E3M4 = form_of(3, 4)


# 13.1 decode


def codes(generator: torch.Generator) -> Iterator[Case]:
    """A few bytes, then all of each format."""
    few = torch.tensor([0x38, 0x40, 0x41, 0xB8, 0x08, 0x01], dtype=torch.uint8)
    yield Case((few, E4M3), "six bytes")
    for form in (E2M1, E3M4, E4M3, E5M2):
        every = torch.randperm(2**form.bits, generator=generator).to(torch.uint8)
        yield Case((every.reshape(2, -1), form), f"every code of {form.name}")


def decoded(
    code: Tensor, form: Format, *, bias: int = 0, hidden: bool = True, step: int = 0,
    swap: bool = False, signed: bool = True, top: str = "as it is",
) -> Tensor:  # fmt: skip
    """decode with one thing done otherwise."""
    whole = code.long()
    magnitude = whole & (1 << form.bits - 1) - 1
    m, wide = form.fraction, 1 << form.fraction
    exponent, fraction = magnitude >> m, magnitude & wide - 1
    if swap:
        exponent, fraction = magnitude & (1 << form.exponent) - 1, magnitude >> form.exponent
        fraction = fraction & wide - 1
    normal = exponent > 0
    significand = fraction + torch.where(normal | (not hidden), wide, 0)
    power = torch.where(normal, exponent, 1 - step) - form.bias - bias - m
    value = torch.ldexp(significand.float(), power)
    if top == "as float16" and form.nan is not None:
        last = (1 << form.exponent) - 1
        special = torch.where(fraction == 0, torch.inf, torch.nan)
        value = torch.where(exponent == last, special, value)
    elif top == "as it is":
        right = decode(magnitude.to(torch.uint8), form)
        value = torch.where(right.isfinite(), value, right)
    return torch.where((whole >> form.bits - 1 == 1) & signed, -value, value)


DECODE = Exercise(
    "13.1",
    "decode",
    "what a byte says",
    decode,
    codes,
    (
        Mistake(
            "bias off by one",
            "Every number is half of what it should be. With e exponent bits the stored exponent "
            "counts from 2^(e−1) − 1, not from 2^(e−1).",
            lambda code, form: decoded(code, form, bias=1),
        ),
        Mistake(
            "a hidden one in subnormals",
            "Where all exponent bits are 0 there is no leading 1: that is how a format reaches "
            "zero, in even steps.",
            lambda code, form: decoded(code, form, hidden=False),
        ),
        Mistake(
            "subnormals one binade too low",
            "Exponent field 0 has the same power of two as field 1, only without the leading 1. "
            "As it is, a gap opens between the smallest normal number and the largest subnormal.",
            lambda code, form: decoded(code, form, step=1),
        ),
        Mistake(
            "exponent and fraction swapped",
            "The exponent stands right behind the sign, the fraction at the low end of the byte.",
            lambda code, form: decoded(code, form, swap=True),
        ),
        Mistake(
            "sign bit ignored",
            "The highest bit makes the number negative; here all come out positive.",
            lambda code, form: decoded(code, form, signed=False),
        ),
        Mistake(
            "a whole binade for infinity",
            "That is how float16 does it, and E5M2. E4M3 gives its top binade to numbers and "
            "keeps a single code for NaN: so it reaches 448 instead of 240.",
            lambda code, form: decoded(code, form, top="as float16"),
        ),
        Mistake(
            "NaN read as a number",
            "The code behind the largest number is no number; whoever reads it as one hides a "
            "failure.",
            lambda code, form: decoded(code, form, top="a number"),
        ),
    ),
    (
        "Take the three fields apart first, with shifts and masks on whole numbers.",
        "A normal number is a whole significand, leading 1 included, times a power of two; a "
        "subnormal one is the same without the 1, and with the power of field 1.",
        "`torch.ldexp` multiplies by a power of two exactly. What lies beyond form.largest is "
        "form.infinity if the format has one, everything else up there is NaN.",
    ),
    atol=0.0,
    rtol=0.0,
)


# 13.2 shift_to_even


def values(generator: torch.Generator) -> Iterator[Case]:
    """Every remainder of a few bits, ties on even and odd; then large numbers and many widths."""
    yield Case((torch.arange(0, 17), torch.tensor(2)), "0 to 16, two bits dropped")
    yield Case((torch.arange(40, 60), torch.tensor(3)), "40 to 59, three bits dropped")
    yield Case((torch.arange(0, 9), torch.tensor(1)), "one bit dropped")
    value = torch.randint(0, 1 << 24, (4, 12), generator=generator)
    drop = torch.randint(1, 26, (4, 12), generator=generator)
    value[0] = value[0] >> drop[0] << drop[0] | 1 << drop[0] - 1  # ties
    yield Case((value, drop), "significands, a width each")


def up_if(rule):
    """A rounding: kept bits, the rest, half a unit → add one?"""

    def answer(value: Tensor, drop: Tensor) -> Tensor:
        kept, rest, half = value >> drop, value & (1 << drop) - 1, 1 << (drop - 1)
        return kept + rule(kept, rest, half)

    return answer


ROUND = Exercise(
    "13.2",
    "shift_to_even",
    "to the nearest, ties to even",
    shift_to_even,
    values,
    (
        Mistake(
            "bits cut off",
            "Whatever is dropped counts as nothing, so every number moves towards zero, and a "
            "long sum of such numbers drifts.",
            up_if(lambda kept, *_: torch.zeros_like(kept)),
        ),
        Mistake(
            "half always up",
            "A tie goes up each time, so sums drift upwards. Ties should go to the even "
            "neighbour: up as often as down.",
            up_if(lambda _, rest, half: rest >= half),
        ),
        Mistake(
            "half always down",
            "A tie goes down each time. It should go to the even neighbour: up as often as down.",
            up_if(lambda _, rest, half: rest > half),
        ),
        Mistake(
            "ties to the odd one",
            "The tie is broken the wrong way round: an even number stays, an odd one moves.",
            up_if(lambda kept, rest, half: (rest > half) | ((rest == half) & (kept & 1 == 0))),
        ),
        Mistake(
            "any rest rounds up",
            "Every number with a rest goes up, however small that rest is: this is the ceiling.",
            up_if(lambda _, rest, __: rest > 0),
        ),
    ),
    (
        "What decides is the part that falls off: compare it with half of a unit.",
        "More than half: up. Less: not. Exactly half: look at the last bit that stays.",
        "Shift for what stays, mask for what falls off; the two conditions joined by `|` are 0 or "
        "1 and can be added.",
    ),
    atol=0.0,
    rtol=0.0,
)


# 13.3 encode


def numbers(generator: torch.Generator) -> Iterator[Case]:
    """All sizes: large, subnormal, too large, too small, infinite, NaN; both ways to overflow."""
    for form in (E4M3, E5M2):
        inside = torch.tensor([0.0, 1.0, -1.0, 0.3, -17.0, 100.0])
        yield Case((inside, form), f"{form.name}, small numbers")
        tiny = form.max * 2.0 ** -(2**form.exponent - 3)
        wide = torch.randn(3, 17, generator=generator)
        wide = wide * torch.logspace(-2, 2, 17) * torch.tensor([[tiny], [1.0], [form.max / 8]])
        edge = torch.tensor([1.02, -1.08, 2.0, torch.inf, -torch.inf, torch.nan, -0.0]) * form.max
        edge = torch.cat([edge, torch.tensor([torch.nan, torch.inf, 0.0])])
        for saturate in (True, False):
            how = {"saturate": saturate}
            yield Case((wide, form), f"{form.name}, saturate={saturate}", how)
            yield Case((edge, form), f"{form.name}, around the end", how)
    yield Case((torch.randn(40, generator=generator).bfloat16(), E4M3), "bfloat16 in")
    tie = torch.tensor([1.0625, -1.1875, 17.0, 2.0**-10])
    past = torch.nextafter(tie, 2 * tie)
    yield Case((torch.cat([tie, past]), E4M3), "ties, and a hair beyond them")


def flushed(x: Tensor, form: Format, *, saturate: bool = True) -> Tensor:
    smallest = 2.0 ** (1 - form.bias)
    zero = torch.copysign(torch.zeros(()), x.float())
    return encode(torch.where(x.float().abs() < smallest, zero, x.float()), form, saturate=saturate)


def nan_saturated(x: Tensor, form: Format, *, saturate: bool = True) -> Tensor:
    sign = (x.float().view(torch.int32) < 0).to(torch.uint8) << 7
    return torch.where(x.isnan(), form.largest | sign, encode(x, form, saturate=saturate))


def always_nan(x: Tensor, form: Format, *, saturate: bool = True) -> Tensor:
    found = encode(x, form, saturate=False).long()
    sign, magnitude = found & 0x80, found & 0x7F
    if form.nan is not None and not saturate:
        magnitude = torch.where(magnitude > form.largest, form.nan, magnitude)
    return (magnitude | sign).to(torch.uint8)


def unsigned(x: Tensor, form: Format, *, saturate: bool = True) -> Tensor:
    return encode(x.float().abs(), form, saturate=saturate)


def wrapped(x: Tensor, form: Format, **_: bool) -> Tensor:
    bits = x.float().contiguous().view(torch.int32).long()
    code = round_magnitude(bits & 0x7FFF_FFFF, form) & 0x7F
    code = torch.where(x.isnan(), form.nan or 0, code)
    return (code | (bits >> 31 & 1) << 7).to(torch.uint8)


ENCODE = Exercise(
    "13.3",
    "encode",
    "the nearest byte",
    encode,
    numbers,
    (
        Mistake(
            "subnormals flushed to zero",
            "Below the smallest normal number there is still a ladder of even steps down to zero. "
            "For a gradient that is the difference between little and nothing.",
            flushed,
        ),
        Mistake(
            "saturates though told not to",
            "With saturate=False what is too large must show: as infinity where the format has "
            "one, else as NaN.",
            lambda x, form, **_: encode(x, form, saturate=True),
        ),
        Mistake(
            "overflow is not saturated",
            "With saturate=True what is too large becomes the largest number. A single NaN would "
            "make the whole product NaN.",
            lambda x, form, **_: encode(x, form, saturate=False),
        ),
        Mistake(
            "NaN saturated as well",
            "NaN is not a large number. Whoever turns it into one hides where a run broke.",
            nan_saturated,
        ),
        Mistake(
            "sign bit lost",
            "The sign is the highest bit of the byte; here −1 comes out as 1.",
            unsigned,
        ),
        Mistake(
            "codes beyond the end wrap",
            "What rounds beyond the largest number runs on into the codes of infinity, NaN and, "
            "after those, of small numbers.",
            wrapped,
        ),
        Mistake(
            "NaN where infinity belongs",
            "E5M2 has an infinity. Without saturation it stands for everything too large.",
            always_nan,
        ),
    ),
    (
        "Split off the sign, let codec.round_magnitude do the inside, then think about the ends.",
        "Two things are left: a code beyond form.largest, and a NaN that came in. For the first "
        "it matters what was asked for and what the format has.",
        "A float32's bits without the sign are larger than 0x7F800000 only if it is NaN. Choose "
        "the code for `beyond` first, then use torch.where twice, then put the sign back on top.",
    ),
)
