"""HDR and wide-gamut files: one outcome for PNG, AVIF and HEIC, compared with formulas in float64."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from phq_data.images import cicp
from phq_data.images.cicp import Cicp
from phq_data.images.codecs import decode

PQ, HLG, SRGB = 16, 18, 13
BT2020, P3 = 9, 12
WHITE = 203.0


def pq_signal(nits):
    y = (np.asarray(nits, np.float64) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def srgb_code(linear):
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def in_png(pixels, primaries, transfer):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    body = b"cICP" + bytes([primaries, transfer, 0, 1])
    data = sink.getvalue()
    return data[:33] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def in_boxes(data, primaries, transfer):
    changed = bytearray(data)
    at = changed.find(b"nclx")
    changed[at + 4 : at + 8] = struct.pack(">HH", primaries, transfer)
    return bytes(changed)


def in_avif(pixels, primaries, transfer):
    if not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "AVIF", quality=100, subsampling="4:4:4")
    return in_boxes(sink.getvalue(), primaries, transfer)


def in_heic(pixels, primaries, transfer):
    pillow_heif = pytest.importorskip("pillow_heif")
    sink = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(sink, quality=100, chroma=444)
    return in_boxes(sink.getvalue(), primaries, transfer)


CONTAINERS = pytest.mark.parametrize("stored", [in_png, in_avif, in_heic])


def ramp(top, side=64):
    """Greys of 0 to `top` cd/m2 as a PQ picture [side, side, 3]."""
    nits = np.linspace(0, top, side)[None, :, None].repeat(side, 0).repeat(3, 2)
    return (pq_signal(nits) * 255).round().astype(np.uint8)


@CONTAINERS
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_every_container_gives_the_same_picture(stored, transfer):
    pixels = ramp(900)
    found = decode(stored(pixels, BT2020, transfer), max_pixels=10**6)
    plain = decode(in_png(pixels, BT2020, transfer), max_pixels=10**6)
    assert np.abs(found.pixels.astype(int) - plain.pixels.astype(int)).max() <= 8  # of the codec
    assert found.color.startswith(f"{cicp.HDR[transfer]}, BT.2020 tone-mapped from a peak of ")


def test_a_picture_no_brighter_than_reference_white_is_what_sdr_would_be():
    nits = np.linspace(0, WHITE, 64)
    found = decode(in_png(ramp(WHITE), BT2020, PQ), max_pixels=10**6).pixels[0, :, 0]
    # 8 bits of PQ are coarser than sRGB's in the shadows.
    assert np.abs(found[8:] - srgb_code(nits / WHITE)[8:]).max() <= 3
    assert found[-1] == 255


def test_brighter_pictures_keep_shadows_and_bend_highlights():
    """Reference: BT.2390's formula, written out once more in float64."""
    top = 1000.0
    codes = ramp(top)[0, :, 0] / 255
    root = codes ** (32 / 2523)
    nits = 10_000 * (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    peak = nits.max()
    e, m = codes / pq_signal(peak), pq_signal(WHITE) / pq_signal(peak)
    ks = 1.5 * m - 0.5
    t = (e - ks) / (1 - ks)
    p = (2 * t**3 - 3 * t**2 + 1) * ks + (t**3 - 2 * t**2 + t) * (1 - ks) + (-2 * t**3 + 3 * t**2) * m
    signal = np.where(e < ks, e, p) * pq_signal(peak)
    root = np.clip(signal, 0, 1) ** (32 / 2523)
    shown = 10_000 * (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    found = decode(in_png(ramp(top), BT2020, PQ), max_pixels=10**6).pixels[0, :, 0].astype(float)
    assert np.abs(found - srgb_code(shown / WHITE)).max() <= 1
    assert (np.diff(found) >= 0).all() and found[-1] == 255 and (found < 255).sum() > 40
    dim = nits < 60
    assert np.abs(found[dim] - srgb_code(nits[dim] / WHITE)).max() <= 1


def test_hlg_light_is_what_its_broadcasters_say():
    """BT.2408 table 1: reference white is 75 % HLG, 203 cd/m2 on a display of 1,000."""
    light = cicp._light(np.full((1, 3), 0.75, np.float32), HLG)
    assert np.abs(light - WHITE).max() < 1.5
    assert np.abs(cicp._light(np.ones((1, 3), np.float32), HLG) - 1000).max() < 0.5


@CONTAINERS
def test_wide_primaries_are_converted_alike(stored):
    """Flat colors of Display P3, against the matrices of the two spaces."""
    p3_to_srgb = np.array(
        [[1.224940, -0.224940, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]]
    )
    color = np.array([180, 100, 60])
    linear = ((color / 255 + 0.055) / 1.055) ** 2.4
    wanted = srgb_code(p3_to_srgb @ linear)
    pixels = np.full((32, 32, 3), color, np.uint8)
    found = decode(stored(pixels, P3, SRGB), max_pixels=10**6)
    assert np.abs(found.pixels[16, 16] - wanted).max() <= (1 if stored is in_png else 3)
    assert found.color == "Display P3 converted to sRGB"
    plain = decode(stored(pixels, 1, SRGB), max_pixels=10**6)
    assert plain.color == "sRGB"
    assert np.abs(plain.pixels[16, 16].astype(int) - color).max() <= 2


@pytest.mark.parametrize(
    ("code", "kind", "profile", "wanted"),
    [
        (Cicp(P3, SRGB), "PNG", True, True),
        (Cicp(P3, SRGB), "HEIC", True, False),
        (Cicp(P3, SRGB), "AVIF", False, True),
        (Cicp(BT2020, PQ), "HEIC", True, True),
        (Cicp(1, SRGB), "PNG", True, False),
        (Cicp(2, 2), "AVIF", False, False),
        (None, "PNG", False, False),
    ],
)
def test_who_speaks_for_the_colors(code, kind, profile, wanted):
    assert cicp.wins(code, kind, profile) is wanted
