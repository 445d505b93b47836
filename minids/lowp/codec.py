"""Small floating-point formats from their bits: what one byte can say, and which byte says it best.

A code is sign, exponent, fraction. With exponent bits you buy range, with fraction bits precision,
and eight are all there are. Everything here is whole-number arithmetic on the bits of a float32, so
that no cast of anybody is trusted; the tests hold it against torch's and ml_dtypes'.

| format | bits  | largest | smallest > 0 | extras                                 |
|--------|-------|---------|--------------|----------------------------------------|
| E4M3   | 1+4+3 | 448     | 2⁻⁹          | no infinity, one NaN per sign          |
| E5M2   | 1+5+2 | 57,344  | 2⁻¹⁶         | infinities and NaNs, as in float16     |
| E2M1   | 1+2+1 | 6       | 1/2          | neither: all 16 codes are numbers      |
| UE8M0  | 8     | 2¹²⁷    | 2⁻¹²⁷        | powers of two alone: no sign, no zero  |

(OCP 8-bit floating point 1.0, OCP microscaling 1.0; DeepSeek-V3 §3.3 uses E4M3 throughout.)
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

FRACTION = 23  # stored fraction bits of a float32
BIAS = 127  # of its exponent


@dataclass(frozen=True)
class Format:
    """A sign bit, `exponent` bits, `fraction` bits."""

    name: str
    exponent: int
    fraction: int
    largest: int  # code of the largest finite number
    infinity: int | None  # code, where there is one
    nan: int | None

    @property
    def bias(self) -> int:
        """Subtracted from the stored exponent, so that about half of the numbers are below 1."""
        return 2 ** (self.exponent - 1) - 1

    @property
    def bits(self) -> int:
        """Of a whole code."""
        return 1 + self.exponent + self.fraction

    @property
    def max(self) -> float:
        """The largest finite number."""
        return float(decode(torch.tensor([self.largest], dtype=torch.uint8), self))


E4M3 = Format("e4m3", 4, 3, largest=0x7E, infinity=None, nan=0x7F)
E5M2 = Format("e5m2", 5, 2, largest=0x7B, infinity=0x7C, nan=0x7F)
E2M1 = Format("e2m1", 2, 1, largest=0x7, infinity=None, nan=None)
SCALE_NAN = 0xFF  # of UE8M0


def encode(x: Tensor, form: Format = E4M3, *, saturate: bool = True) -> Tensor:
    """The nearest code, ties to the even one.  x [...] float → [...] uint8

    Beyond the largest number: that number, or with `saturate=False` infinity where the format has
    one, else NaN. E2M1 has neither, so it always saturates, and NaN becomes −0 there.
    """
    bits = x.float().contiguous().view(torch.int32).long()
    sign, magnitude = (bits >> 31) & 1, bits & 0x7FFF_FFFF
    code = round_magnitude(magnitude, form)
    beyond = form.infinity if form.infinity is not None else form.nan
    if saturate or beyond is None:
        beyond = form.largest
    code = torch.where(code > form.largest, beyond, code)
    is_nan = magnitude > 0x7F80_0000
    if form.nan is not None:
        code = torch.where(is_nan, form.nan, code)
    else:
        code, sign = torch.where(is_nan, 0, code), torch.where(is_nan, 1, sign)
    return (code | sign << (form.bits - 1)).to(torch.uint8)


def round_magnitude(magnitude: Tensor, form: Format) -> Tensor:
    """Bits of a float32 without its sign → the code without its sign; may exceed `form.largest`.

    A float32 is significand · 2^(exponent − 150). Fewer fraction bits are kept: some are dropped
    off the right, more where the result is subnormal. What is kept still holds the leading 1, and
    adding that to the exponent field one below it puts a carry where it belongs.
    """
    exponent, fraction = magnitude >> FRACTION, magnitude & (1 << FRACTION) - 1
    significand = torch.where(exponent > 0, fraction | 1 << FRACTION, fraction)
    exponent = exponent.clamp(min=1) - BIAS + form.bias
    below = (1 - exponent).clamp(min=0)  # binades under the smallest normal number
    kept = shift_to_even(significand, (FRACTION - form.fraction + below).clamp(max=FRACTION + 2))
    return ((exponent.clamp(min=1) - 1) << form.fraction) + kept


def shift_to_even(value: Tensor, drop: Tensor) -> Tensor:
    """value / 2^drop to the nearest whole number, ties to the even one."""
    kept, rest, half = value >> drop, value & (1 << drop) - 1, 1 << (drop - 1)
    up = (rest > half) | ((rest == half) & (kept & 1 == 1))
    return kept + up


def decode(code: Tensor, form: Format = E4M3) -> Tensor:
    """What a code says.  code [...] uint8 → [...] float32

    exponent > 0: ±2^(exponent − bias) · (1 + fraction / 2^m); exponent 0: ±2^(1 − bias) · fraction
    / 2^m, evenly spaced down to zero.
    """
    whole = code.long()
    magnitude = whole & (1 << form.bits - 1) - 1
    exponent, fraction = magnitude >> form.fraction, magnitude & (1 << form.fraction) - 1
    significand = torch.where(exponent > 0, fraction + (1 << form.fraction), fraction)
    power = exponent.clamp(min=1) - form.bias - form.fraction
    value = torch.ldexp(significand.float(), power)
    if form.infinity is not None:
        value = torch.where(magnitude == form.infinity, torch.inf, value)
    if form.nan is not None:
        first_nan = form.largest + (1 if form.infinity is None else 2)
        value = torch.where(magnitude >= first_nan, torch.nan, value)
    return torch.where(whole >> (form.bits - 1) == 1, -value, value)


def table(form: Format = E4M3) -> Tensor:
    """Every number of a format, by code.  → [2^bits] float32"""
    return decode(torch.arange(2**form.bits).to(torch.uint8), form)


# Scales: powers of two


def encode_scale(x: Tensor, *, up: bool = False) -> Tensor:
    """UE8M0: the exponent of a float32 alone.  x [...] → [...] uint8

    Nearest, ties up; `up=True` never goes below x, so that what is divided by the scale still fits.
    All between 2⁻¹²⁷ and 2⁻¹²⁶ goes up, as in torch and ml_dtypes. Zero, negative numbers, infinity
    and NaN have no code but NaN's.
    """
    bits = x.float().contiguous().view(torch.int32).long()
    exponent, fraction = bits >> FRACTION, bits & (1 << FRACTION) - 1
    half = 1 << (FRACTION - 1)
    above = fraction > 0 if up else fraction >= half
    above = torch.where(exponent == 0, fraction > half, above)  # 2⁻¹²⁷ is subnormal, its bits: half
    code = exponent + above
    return torch.where((bits <= 0) | (code >= SCALE_NAN), SCALE_NAN, code).to(torch.uint8)


def decode_scale(code: Tensor) -> Tensor:
    """2^(code − 127), NaN for 255.  code [...] uint8 → [...] float32"""
    value = torch.ldexp(torch.ones(code.shape, device=code.device), code.long() - BIAS)
    return torch.where(code == SCALE_NAN, torch.nan, value)


# FP4: two codes a byte, a scale for each block of 32


def pack(code: Tensor) -> Tensor:
    """Two E2M1 codes a byte, the first in the low half.  code [... 2*j] → [... j] uint8"""
    pairs = rearrange(code, "... (j two) -> ... j two", two=2)
    return pairs[..., 0] | pairs[..., 1] << 4


def unpack(packed: Tensor) -> Tensor:
    """[... j] → [... 2*j] uint8"""
    return torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2)
