"""Every code and every bfloat16 value, against the casts of two other libraries."""

import ml_dtypes
import numpy as np
import pytest
import torch

from minids.lowp.codec import (
    E2M1,
    E4M3,
    E5M2,
    decode,
    decode_scale,
    encode,
    encode_scale,
    pack,
    table,
    unpack,
)

TORCH = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
ML = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e2m1": "float4_e2m1fn"}
EIGHT = pytest.mark.parametrize("form", [E4M3, E5M2], ids=lambda f: f.name)
ALL = pytest.mark.parametrize("form", [E4M3, E5M2, E2M1], ids=lambda f: f.name)


def bfloat16_values():
    """All 65,536, as float32."""
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    return bits.view(torch.bfloat16).float()


def awkward_values(form):
    """Each number of a format, each midpoint, and the float32 values just beside both."""
    whole = table(form)
    whole = whole[whole.isfinite()].sort().values
    points = torch.cat((whole, (whole[1:] + whole[:-1]) / 2, whole * 1.5))
    beside = [torch.nextafter(points, torch.tensor(side)) for side in (-torch.inf, torch.inf)]
    return torch.cat((points, *beside))


def other(x, form):
    """ml_dtypes' cast: overflow gives infinity or NaN, in E2M1 the largest number."""
    with np.errstate(invalid="ignore"):
        codes = x.numpy().astype(getattr(ml_dtypes, ML[form.name]))
    return torch.from_numpy(codes.view(np.uint8))


def values(form):
    return torch.cat((bfloat16_values(), awkward_values(form)))


@EIGHT
def test_torch_decodes_every_code_alike(form):
    code = torch.arange(256).to(torch.uint8)
    theirs = code.view(TORCH[form.name]).float()
    torch.testing.assert_close(table(form), theirs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(table(form).signbit(), theirs.signbit())


@ALL
def test_ml_dtypes_decodes_every_code_alike(form):
    theirs = np.arange(2**form.bits, dtype=np.uint8).view(getattr(ml_dtypes, ML[form.name]))
    theirs = torch.from_numpy(theirs.astype(np.float32))
    torch.testing.assert_close(table(form), theirs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(table(form).signbit(), theirs.signbit())


@EIGHT
def test_torch_encodes_every_value_alike(form):
    """Within range; what happens beyond it differs between versions of torch."""
    x = values(form)
    x = x[x.isnan() | (x.abs() <= form.max)]
    theirs = x.to(TORCH[form.name]).view(torch.uint8)
    assert torch.equal(encode(x, form), theirs)
    assert torch.equal(encode(x, form, saturate=False), theirs)


@ALL
def test_ml_dtypes_encodes_every_value_alike(form):
    x = values(form)
    ours, theirs = encode(x, form, saturate=False), other(x, form)
    nan = x.isnan()  # its E5M2 NaN has another fraction, its E2M1 answer is a zero of either sign
    assert torch.equal(ours[~nan], theirs[~nan])
    assert decode(ours[nan], form).isnan().all() or (ours[nan] == 0x8).all()


@ALL
def test_saturation_holds_the_largest_number(form):
    x = torch.tensor([form.max * 1.001, form.max * 8, 3e38, torch.inf])
    assert (decode(encode(x, form), form) == form.max).all()
    assert (decode(encode(-x, form), form) == -form.max).all()


def test_beyond_the_largest_number_without_saturation():
    past = torch.tensor(
        [464.0, 464.1, torch.inf, -torch.inf]
    )  # 464 is half way to 480: even is 448
    assert encode(past, E4M3, saturate=False).tolist() == [0x7E, 0x7F, 0x7F, 0xFF]
    past = torch.tensor([61439.0, 61440.0, -torch.inf])
    assert encode(past, E5M2, saturate=False).tolist() == [0x7B, 0x7C, 0xFC]


@ALL
def test_a_code_survives_decoding_and_encoding(form):
    code = torch.arange(2**form.bits).to(torch.uint8)
    code = code[table(form).isfinite()]
    assert torch.equal(encode(decode(code, form), form), code)


def test_the_published_constants():
    assert (E4M3.max, E5M2.max, E2M1.max) == (448, 57344, 6)
    assert table(E4M3)[1] == 2**-9 and table(E4M3)[8] == 2**-6
    assert table(E5M2)[1] == 2**-16
    assert table(E2M1)[:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert decode(encode(torch.tensor([0.3, 17.0, 0.001]))).tolist() == [0.3125, 16, 2**-9]


def test_a_view_a_scalar_and_nothing_encode():
    x = torch.randn(6, 4)
    assert torch.equal(encode(x.T), encode(x).T)
    assert encode(torch.tensor(1.0)).item() == 0x38
    assert encode(torch.empty(0, 3)).shape == (0, 3)


def test_scales_are_ml_dtypes_powers_of_two():
    edge = 2.0 ** torch.arange(-149, 128).float()
    x = torch.cat((bfloat16_values(), edge, edge * 1.5, edge * 1.25))
    with np.errstate(invalid="ignore"):
        theirs = x.numpy().astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    assert torch.equal(encode_scale(x), torch.from_numpy(theirs))
    code = torch.arange(256).to(torch.uint8)
    theirs = code.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    torch.testing.assert_close(
        decode_scale(code), torch.from_numpy(theirs), rtol=0, atol=0, equal_nan=True
    )


def test_torch_agrees_on_scales_of_positive_numbers():
    x = bfloat16_values()
    x = x[x > 0]
    assert torch.equal(encode_scale(x), x.to(torch.float8_e8m0fnu).view(torch.uint8))
    code = torch.arange(256).to(torch.uint8)
    theirs = code.view(torch.float8_e8m0fnu).float()
    torch.testing.assert_close(decode_scale(code), theirs, rtol=0, atol=0, equal_nan=True)


def test_a_scale_rounded_up_is_the_least_power_of_two_above():
    x = bfloat16_values()
    x = x[(x > 0) & (x <= 2.0**127)]
    scale = decode_scale(encode_scale(x, up=True))
    assert (scale >= x).all()
    assert ((scale.double() / 2 < x) | (scale <= 2.0**-126)).all()
    assert encode_scale(torch.tensor([0.0, -1.0, torch.inf, torch.nan]), up=True).eq(0xFF).all()


def test_two_codes_share_a_byte_low_half_first():
    assert pack(torch.tensor([0x1, 0xF, 0x8, 0x7]).to(torch.uint8)).tolist() == [0xF1, 0x78]
    code = torch.randint(0, 16, (3, 10)).to(torch.uint8)
    assert torch.equal(unpack(pack(code)), code)
    theirs = torch.from_numpy(
        unpack(pack(code)).numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    )
    assert torch.equal(decode(code, E2M1), theirs)
