"""Upright, one frame, the right size; and pictures for the tables."""

import sys
from io import BytesIO

import imagehash
import numpy as np
import pyarrow as pa
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from phq_data import schema
from phq_data.images.codecs import (
    PhotoError,
    decode,
    decode_struct,
    encode_image,
    image_struct,
    perceptual_hash,
)

LIMIT = 20_000_000


def picture(height, width):
    y, x = np.mgrid[0:height, 0:width]
    channels = [40 + 180 * x / width, 200 * y / height, 120 + 60 * np.sin(x / 9 + (y / 7) ** 1.3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def saved(image, kind, **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif_with(orientation, time=None, offset=None):
    exif = Image.Exif()
    exif[274] = orientation
    if time:
        exif.get_ifd(0x8769)[36867] = time
    if offset:
        exif.get_ifd(0x8769)[36881] = offset
    return exif


def as_stored(upright, orientation):
    """EXIF's own words: which side of the scene the stored first row and first column show."""
    rows, columns = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    sides = {rows, columns}
    scene = upright[::-1] if "bottom" in sides else upright
    scene = scene[:, ::-1] if "right" in sides else scene
    return np.ascontiguousarray(scene.swapaxes(0, 1) if rows in ("left", "right") else scene)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "TIFF-LZW", "AVIF", "HEIC"])
def test_every_orientation_comes_out_upright(kind, orientation):
    upright = picture(48, 80)
    image = Image.fromarray(as_stored(upright, orientation))
    exif = exif_with(orientation)
    if kind == "HEIC":
        pillow_heif = pytest.importorskip("pillow_heif")
        stored = pillow_heif.from_pillow(image)
        stored.info["exif"] = exif.tobytes()
        buffer = BytesIO()
        stored.save(buffer, quality=95)
        data = buffer.getvalue()
    elif kind == "TIFF-LZW":
        data = saved(image, "TIFF", compression="tiff_lzw", exif=exif)
    else:
        data = saved(image, kind, exif=exif, **({"quality": 95} if kind != "TIFF" else {}))
    photo = decode(data, max_pixels=LIMIT)
    assert photo.pixels.shape == (48, 80, 3)
    assert (photo.width, photo.height, photo.orientation) == (80, 48, orientation)
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 4
    small = decode(data, max_pixels=LIMIT, max_side=40)
    assert small.pixels.shape == (24, 40, 3) and (small.width, small.height) == (80, 48)
    assert np.abs(small.pixels.astype(int) - upright.reshape(24, 2, 40, 2, 3).mean((1, 3))).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_reduced_photo_keeps_every_point_at_its_share_of_the_side(kind):
    height, width = 901, 1337  # no multiple of 8: the last block of a reduced JPEG lies half outside
    y, x = np.mgrid[0:height, 0:width] + 0.5
    for px, py in [(150.0, 130.0), (668.0, 450.0), (1200.0, 770.0)]:
        blob = 200 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 30.0**2))
        image = Image.fromarray(np.repeat(blob.round()[..., None], 3, axis=2).astype(np.uint8))
        data = saved(image, kind, **({"quality": 97} if kind == "JPEG" else {}))
        for side in (1000, 500, 300, 160):
            photo = decode(data, max_pixels=LIMIT, max_side=side)
            h, w = photo.pixels.shape[:2]
            assert max(h, w) == side and photo.scale == pytest.approx(side / width)
            grey = photo.pixels[..., 0].astype(float)
            v, u = np.mgrid[0:h, 0:w] + 0.5
            assert (grey * u).sum() / grey.sum() * width / w == pytest.approx(px, abs=0.3)
            assert (grey * v).sum() / grey.sum() * height / h == pytest.approx(py, abs=0.3)


def test_a_photo_that_is_small_enough_is_not_touched():
    data = saved(Image.fromarray(picture(60, 90)), "JPEG")
    whole, limited = decode(data, max_pixels=LIMIT), decode(data, max_pixels=LIMIT, max_side=90)
    assert limited.scale == whole.scale == 1
    assert (limited.pixels == whole.pixels).all()


@pytest.mark.parametrize("kind", ["GIF", "WebP", "PNG", "AVIF"])
def test_animations_are_refused_and_say_how_many_frames(kind):
    frames = [Image.fromarray(np.roll(picture(40, 40), shift, axis=1)) for shift in (0, 5, 10)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(PhotoError) as caught:
        decode(data, max_pixels=LIMIT)
    assert caught.value.reason == "animated" and caught.value.numbers == {"frames": 3}


def test_of_several_pages_the_first_is_the_photo():
    first, second = picture(40, 56), 255 - picture(40, 56)
    pages = [Image.fromarray(second)]
    tiff = saved(Image.fromarray(first), "TIFF", save_all=True, append_images=pages)
    assert (decode(tiff, max_pixels=LIMIT).pixels == first).all()
    jpeg = saved(Image.fromarray(first), "MPO", save_all=True, append_images=pages, quality=95)
    photo = decode(jpeg, max_pixels=LIMIT)
    assert photo.format == "JPEG"
    assert np.abs(photo.pixels.astype(int) - first).mean() < 3


def test_camera_raw_files_are_not_taken_for_their_preview():
    buffer = BytesIO()
    tifffile.imwrite(
        buffer, picture(40, 56), photometric="rgb", extratags=[(50706, "B", 4, (1, 4, 0, 0), True)]
    )
    with pytest.raises(PhotoError, match="raw") as caught:
        decode(buffer.getvalue(), max_pixels=LIMIT)
    assert caught.value.reason == "raw_photo"


def test_heic_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"HEIC needs pillow-heif.*phq-data\[heic\]") as caught:
        decode(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(50), max_pixels=LIMIT)
    assert caught.value.reason == "heic_unsupported"


@pytest.mark.parametrize(
    ("time", "offset", "expected"),
    [
        ("2021:07:04 12:30:05", None, "2021-07-04T12:30:05"),
        ("2021:07:04 12:30:05", "+02:00", "2021-07-04T12:30:05+02:00"),
        ("2021:07:04 12:30:05", "somewhere", "2021-07-04T12:30:05"),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("yesterday", None, None),
    ],
)
def test_the_time_taken_is_read_from_exif_when_it_is_one(time, offset, expected):
    data = saved(Image.fromarray(picture(40, 56)), "JPEG", exif=exif_with(1, time, offset))
    assert decode(data, max_pixels=LIMIT).exif_time == expected


def test_damaged_exif_costs_the_exif_not_the_photo():
    data = saved(Image.fromarray(picture(40, 56)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    photo = decode(data, max_pixels=LIMIT)
    assert (photo.orientation, photo.exif_time, photo.width) == (1, None, 56)


def test_an_orientation_that_does_not_exist_is_upright():
    data = saved(Image.fromarray(picture(40, 56)), "JPEG", exif=exif_with(77))
    photo = decode(data, max_pixels=LIMIT)
    assert (photo.orientation, photo.width) == (1, 56)


def test_a_rotated_tiff_of_strips_cut_short_is_refused():
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[274] = 6
    data = bytearray(saved(Image.fromarray(picture(40, 56)), "TIFF", tiffinfo=info))
    with pytest.raises(PhotoError):
        decode(bytes(data[:-500]), max_pixels=LIMIT)


@pytest.mark.parametrize("codec", ["png", "webp-lossless", "jpeg-95"])
def test_codecs_give_back_the_picture(codec):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = pixels if codec != "jpeg-95" else picture(64, 64)
    data, extension = encode_image(pixels, codec)
    assert extension == {"png": "png", "webp-lossless": "webp", "jpeg-95": "jpg"}[codec]
    back = decode_struct(image_struct(data, f"x.{extension}"))
    if codec == "jpeg-95":
        assert np.abs(back.astype(int) - pixels).max() <= 8
    else:
        assert (back == pixels).all()


def test_masks_are_grey_png_and_structs_fit_the_schema():
    mask = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    data, extension = encode_image(mask, "png")
    assert extension == "png" and Image.open(BytesIO(data)).mode == "L"
    struct = image_struct(data, "mask.png")
    assert pa.array([struct], type=schema.IMAGE).to_pylist() == [struct]
    assert (decode_struct(struct) == mask).all()
    for wrong in ("webp-lossless", "jpeg-95", "gif"):
        with pytest.raises(ValueError, match=r"png|codec"):
            encode_image(mask, wrong)
    with pytest.raises(ValueError, match="float64"):
        encode_image(np.zeros((4, 4, 3)), "png")  # type: ignore[arg-type]
    with pytest.raises(PhotoError, match=r"x\.png"):
        decode_struct(image_struct(b"", "x.png"))


def test_the_perceptual_hash_survives_reencoding_and_shrinking_and_tells_pictures_apart():
    skimage_data = pytest.importorskip("skimage.data")
    astronaut, cat = skimage_data.astronaut(), skimage_data.chelsea()
    image = Image.fromarray(astronaut)
    squeezed = decode(saved(image.resize((300, 300)), "JPEG", quality=60), max_pixels=LIMIT).pixels
    one, again, other = perceptual_hash(astronaut), perceptual_hash(squeezed), perceptual_hash(cat)
    assert 0 <= one < 2**64
    assert (one ^ again).bit_count() <= 4
    assert (one ^ other).bit_count() >= 16
    assert (one ^ int(str(imagehash.phash(image)), 16)).bit_count() <= 2
