"""Colors: profiles against closed forms in float64, bit depths, alpha, CMYK, Lab."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from phq_data.images.codecs import PhotoError, decode

LIMIT = 1_000_000
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SWAPPED = (SRGB[1], SRGB[0], SRGB[2])
D65 = (0.3127, 0.3290)
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


# ---- ICC profiles by hand, from the published layout of version 2 -----------------------------------------


def to_xyz(x, y):
    return np.array([x / y, 1.0, (1 - x - y) / y])


def primaries_matrix(primaries):
    """Linear RGB to XYZ [3, 3], adapted from D65 to D50 by Bradford's method as profiles want it."""
    columns = np.stack([to_xyz(*p) for p in primaries], axis=1)
    gain = (BRADFORD @ D50) / (BRADFORD @ to_xyz(*D65))
    adapt = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD
    return adapt @ (columns * np.linalg.solve(columns, to_xyz(*D65)))


def s15(values):
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in np.ravel(values))


def xyz(values):
    return b"XYZ " + bytes(4) + s15(values)


def curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def profile(name, space, connection, tags, kind=b"mntr"):
    raw = name.encode("ascii") + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(raw)) + raw + bytes(4 + 4 + 2 + 1 + 67)
    tags = [(b"desc", description), (b"cprt", b"text" + bytes(4) + b"none\0"), (b"wtpt", xyz(D50)), *tags]
    body, table, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags:
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    head = (head.ljust(68, b"\0") + s15(D50)).ljust(128, b"\0")
    return head + struct.pack(">I", len(tags)) + table + body


def matrix_profile(name, primaries, gamma=2.2):
    matrix = primaries_matrix(primaries)
    tags = [(tag, xyz(matrix[:, i])) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    return profile(
        name, b"RGB ", b"XYZ ", tags + [(tag, curve(gamma)) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    )


def grey_profile(name, gamma):
    return profile(name, b"GRAY", b"XYZ ", [(b"kTRC", curve(gamma))])


def cmyk_profile(name, corner):
    """A CMYK profile from `corner(c, m, y, k) -> (L, a, b)` of the 16 combinations of no and full ink."""
    ramp = bytes(range(256))
    grid = b""
    for index in range(16):
        lightness, a, b = corner(*[(index >> shift) & 1 for shift in (3, 2, 1, 0)])  # black varies fastest
        grid += bytes([round(lightness * 255 / 100), round(a) + 128, round(b) + 128])
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + s15(np.eye(3)) + ramp * 4 + grid + ramp * 3
    return profile(name, b"CMYK", b"Lab ", [(b"A2B0", table)], kind=b"prtr")


# ---- what the colors must be -----------------------------------------------------------------------------


def srgb_from_xyz(values):
    """sRGB 0..255 of D50 XYZ [..., 3]."""
    linear = np.clip(values @ np.linalg.inv(primaries_matrix(SRGB)).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_from_lab(lightness, a, b):
    f = (lightness + 16) / 116 + np.array([a / 500, 0, -b / 200])
    return srgb_from_xyz(D50 * np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2))


def colors():
    """[16, 16, 3] of everyday and extreme colors."""
    levels = np.array([0, 40, 128, 255], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return np.repeat(np.repeat(grid.reshape(8, 8, 3), 2, axis=0), 2, axis=1)


def decoded(image, kind="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return decode(buffer.getvalue(), max_pixels=LIMIT)


@pytest.mark.parametrize(("name", "primaries"), [("Display P3", DISPLAY_P3), ("Swapped", SWAPPED)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_matrix_profile_is_applied_as_its_formula_says(kind, name, primaries):
    pixels = colors()
    photo = decoded(Image.fromarray(pixels), kind, icc_profile=matrix_profile(name, primaries))
    expected = srgb_from_xyz((pixels / 255) ** 2.2 @ primaries_matrix(primaries).T)
    assert photo.color == f"ICC {name}"
    assert np.abs(photo.pixels - expected).max() <= 3
    assert np.abs(photo.pixels - pixels.astype(float)).max() > 10  # so it is not just left alone


def test_profiles_reach_through_every_container():
    pixels = np.full((32, 32, 3), (200, 60, 60), np.uint8)
    expected = srgb_from_xyz((pixels[0, 0] / 255) ** 2.2 @ primaries_matrix(SWAPPED).T)
    formats: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 98}, "WebP": {"lossless": True}, "PNG": {}, "TIFF": {},
    }  # fmt: skip
    for kind, options in formats.items():
        icc = matrix_profile("Swapped", SWAPPED)
        photo = decoded(Image.fromarray(pixels), kind, icc_profile=icc, **options)
        assert np.abs(photo.pixels.mean((0, 1)) - expected).max() < 5, kind


def test_an_srgb_profile_changes_nothing():
    pixels = colors()
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = decoded(Image.fromarray(pixels), icc_profile=icc)
    assert photo.color == "sRGB" and (photo.pixels == pixels).all()


@pytest.mark.parametrize("icc", [b"no profile at all", matrix_profile("Cut", DISPLAY_P3)[:200], b""])
def test_a_broken_profile_is_ignored_and_noted(icc):
    pixels = colors()
    photo = decoded(Image.fromarray(pixels), icc_profile=icc)
    assert (photo.pixels == pixels).all()
    assert ("ICC profile ignored" in photo.color) == bool(icc)


def test_a_profile_for_another_kind_of_picture_is_ignored_and_noted():
    pixels = colors()
    photo = decoded(Image.fromarray(pixels), icc_profile=grey_profile("Grey", 1.8))
    assert (photo.pixels == pixels).all()
    assert photo.color == "sRGB, ICC profile ignored (it is for GRAY images, this one is RGB)"


def test_a_grey_profile_is_applied_to_a_grey_picture():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    photo = decoded(Image.fromarray(ramp), icc_profile=grey_profile("Dot gain", 1.2))
    expected = srgb_from_xyz((ramp / 255)[..., None] ** 1.2 * D50)
    assert photo.color == "ICC Dot gain"
    assert np.abs(photo.pixels - expected).max() <= 3


def test_grey_without_profile_is_itself():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    photo = decoded(Image.fromarray(ramp))
    assert photo.color == "grey" and (photo.pixels == ramp[..., None]).all()


def test_adobe_cmyk_jpegs_are_not_inverted():
    for color in ((0, 255, 255), (255, 255, 255), (20, 20, 20), (250, 200, 30)):
        image = Image.new("RGB", (32, 32), color).convert("CMYK")
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=95)
        assert b"Adobe" in buffer.getvalue()[:400]
        photo = decode(buffer.getvalue(), max_pixels=LIMIT)
        assert photo.color == "CMYK"
        assert np.abs(photo.pixels.astype(int) - color).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_decides_what_the_inks_look_like(kind):
    looks = {(1, 0, 0, 0): (60, -50, 40), (0, 1, 0, 0): (40, 50, -30), (0, 0, 0, 0): (100, 0, 0)}

    def corner(*inks):
        return looks.get(inks, (0, 0, 0))

    icc = cmyk_profile("Odd press", corner)
    for inks, lab in looks.items():
        image = Image.new("CMYK", (32, 32), tuple(255 * ink for ink in inks))
        photo = decoded(image, kind, icc_profile=icc, **({"quality": 98} if kind == "JPEG" else {}))
        assert photo.color == "ICC Odd press"
        assert np.abs(photo.pixels - srgb_from_lab(*lab)).max() <= 5, inks


def test_16_bit_grey_is_scaled_over_its_whole_range():
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    photo = decoded(Image.fromarray(ramp))
    assert photo.color == "grey 16-bit"
    assert np.abs(photo.pixels - (ramp / 257)[..., None]).max() <= 0.5001


def test_16_bit_color_png_is_scaled_over_its_whole_range():
    from zlib import compress, crc32

    ramp = np.linspace(0, 65535, 64).round().astype(">u2")
    pixels = np.stack(
        [np.tile(ramp, (64, 1)), np.tile(ramp[::-1], (64, 1)), np.tile(ramp[:, None], (1, 64))], -1
    )
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)),
        (b"IDAT", compress(rows)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))
        for kind, body in parts
    )
    photo = decode(data, max_pixels=LIMIT)
    assert np.abs(photo.pixels - pixels / 257).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiffs_of_either_byte_order_are_scaled(order):
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    for pixels, photometric in ((np.stack([ramp, ramp[::-1], ramp.T], -1), "rgb"), (ramp, "minisblack")):
        buffer = BytesIO()
        tifffile.imwrite(buffer, pixels, photometric=photometric, byteorder=order)
        photo = decode(buffer.getvalue(), max_pixels=LIMIT)
        expected = (pixels if pixels.ndim == 3 else pixels[..., None]) / 257
        assert np.abs(photo.pixels - expected).max() <= 1


def test_a_16_bit_tiff_whose_zero_is_white_is_turned_round():
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    buffer = BytesIO()
    tifffile.imwrite(buffer, ramp, photometric="miniswhite")
    photo = decode(buffer.getvalue(), max_pixels=LIMIT)
    assert np.abs(photo.pixels - (255 - ramp / 257)[..., None]).max() <= 1


def test_floats_are_refused_because_nobody_knows_their_white():
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.random.default_rng(0).random((40, 40)).astype(np.float32))
    with pytest.raises(PhotoError, match="white") as caught:
        decode(buffer.getvalue(), max_pixels=LIMIT)
    assert caught.value.reason == "unsupported_mode"


@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF"])
def test_transparency_is_laid_on_white(kind):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0], pixels[:, 16:, 3], pixels[:16, 16:, 3] = 200, 255, 128
    options = {"lossless": True, "exact": True} if kind == "WebP" else {}
    photo = decoded(Image.fromarray(pixels), kind, **options)
    assert photo.color == "sRGB, alpha on white"
    alpha = pixels[..., 3:] / 255
    assert np.abs(photo.pixels - (pixels[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1


def test_grey_with_alpha_palettes_and_see_through_colors_are_laid_on_white():
    grey = np.zeros((32, 32, 2), np.uint8)
    grey[..., 0], grey[16:, :, 1] = 100, 255
    photo = decoded(Image.fromarray(grey, "LA"))
    assert (photo.pixels[16:] == 100).all() and (photo.pixels[:16] == 255).all()

    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 10, 120, 30, 200, 0, 0])
    palette.paste(2, (0, 0, 16, 32))
    photo = decoded(palette)
    assert photo.color == "palette" and (photo.pixels[:, 20] == (10, 120, 30)).all()
    photo = decoded(palette, transparency=2)
    assert photo.color == "palette, alpha on white"
    assert (photo.pixels[:, :16] == 255).all() and (photo.pixels[:, 16:] == (10, 120, 30)).all()

    plain = np.full((32, 32, 3), (9, 8, 7), np.uint8)
    plain[:10] = 60
    photo = decoded(Image.fromarray(plain), transparency=(9, 8, 7))
    assert (photo.pixels[:10] == 60).all() and (photo.pixels[10:] == 255).all()


def test_an_opaque_alpha_channel_is_no_transparency():
    pixels = np.dstack([colors(), np.full((16, 16), 255, np.uint8)])
    photo = decoded(Image.fromarray(pixels))
    assert photo.color == "sRGB" and (photo.pixels == colors()).all()


def test_alpha_is_laid_on_white_after_the_profile_not_before():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[...] = (200, 60, 60, 128)
    photo = decoded(Image.fromarray(pixels), icc_profile=matrix_profile("Swapped", SWAPPED))
    color = srgb_from_xyz((pixels[0, 0, :3] / 255) ** 2.2 @ primaries_matrix(SWAPPED).T)
    assert np.abs(photo.pixels[0, 0] - (color * 128 + 255 * 127) / 255).max() <= 3


def test_one_bit_pictures_are_black_and_white():
    bits = np.indices((32, 32)).sum(0) % 2 == 0
    photo = decoded(Image.fromarray(bits))
    assert photo.color == "1-bit" and (photo.pixels == np.where(bits, 255, 0)[..., None]).all()


def test_lab_tiffs_are_converted():
    stored = np.full((16, 16, 3), (round(60 * 2.55), (-30) % 256, 25), np.uint8)  # a and b are signed bytes
    buffer = BytesIO()
    tifffile.imwrite(buffer, stored, photometric="cielab")
    photo = decode(buffer.getvalue(), max_pixels=LIMIT)
    assert photo.color == "Lab"
    assert np.abs(photo.pixels - srgb_from_lab(60, -30, 25)).max() <= 4


def test_a_reduced_photo_has_the_same_colors():
    pixels = np.kron(colors(), np.ones((40, 40, 1), np.uint8))
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=98, icc_profile=matrix_profile("P3", DISPLAY_P3))
    whole = decode(buffer.getvalue(), max_pixels=LIMIT)
    small = decode(buffer.getvalue(), max_pixels=LIMIT, max_side=160)
    assert small.color == whole.color == "ICC P3"
    blocks = whole.pixels.reshape(160, 4, 160, 4, 3).mean((1, 3))
    assert np.abs(small.pixels - blocks).mean() < 1
