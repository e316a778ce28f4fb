"""Files that are cut, damaged, renamed or built to hurt."""

import pickle
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from phq_data.images.codecs import decode
from phq_data.images.formats import PhotoError, check_whole, sniff

LIMIT = 4_000_000
FORMATS = ["JPEG", "PNG", "WebP", "TIFF", "TIFF-LZW", "GIF", "BMP"]
if features.check("avif"):
    FORMATS.append("AVIF")
try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    FORMATS.append("HEIC")


def picture(height=48, width=64):
    """A smooth picture [H, W, 3] without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [40 + 180 * x / width, 200 * y / height, 120 + 60 * np.sin(x / 9 + (y / 7) ** 1.3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def file_of(kind, pixels=None, **options):
    image = Image.fromarray(picture() if pixels is None else pixels)
    buffer = BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(buffer, quality=90)
    elif kind == "TIFF-LZW":
        image.save(buffer, "TIFF", compression="tiff_lzw", **options)
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width, height, bits, color, rows, *more):
    """A PNG by hand; `more` are (type, data) chunks before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    middle = b"".join(chunk(kind, data) for kind, data in more)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def reason(data, **options):
    with pytest.raises(PhotoError) as caught:
        decode(data, max_pixels=options.pop("max_pixels", LIMIT), **options)
    assert len(str(caught.value)) > 8
    return caught.value.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_known_by_its_bytes_and_decoded(kind):
    data = file_of(kind)
    assert sniff(data[:32]) == kind.removesuffix("-LZW")
    check_whole(data, kind.removesuffix("-LZW"))
    photo = decode(data, max_pixels=48 * 64)
    assert (photo.width, photo.height, photo.format) == (64, 48, kind.removesuffix("-LZW"))
    assert photo.pixels.shape == (48, 64, 3) and photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.writeable
    error = np.abs(photo.pixels.astype(int) - picture())
    assert error.max() == 0 if kind in ("PNG", "TIFF", "TIFF-LZW", "BMP") else error.mean() < 6


def test_other_files_are_no_photos():
    assert reason(b"") == "empty"
    for data in (
        b"hello, I am a text renamed to photo.jpg",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\xff",
        b"<svg/>",
        b"BM",
    ):
        assert sniff(data) is None
        assert reason(data) == "not_an_image"
    assert sniff(b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00mp42") is None  # a film
    assert sniff(b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heic" + bytes(8)) == "HEIC"
    assert sniff(b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif" + bytes(8)) == "AVIF"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("careless", [False, True])
def test_a_cut_file_is_refused_wherever_the_cut_is(kind, careless, monkeypatch):
    data = file_of(kind, picture(96, 128))
    if careless:  # a library in the process has told Pillow to fill what is missing with grey
        if kind in ("GIF", "BMP"):
            pytest.skip("nothing in these files says where they end")
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for part in np.linspace(0.01, 0.97, 25):
        assert reason(data[: int(len(data) * part)]) in ("truncated", "corrupt", "not_an_image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_a_file_cut_in_its_pixels_is_called_truncated(kind):
    data = file_of(kind, picture(96, 128))
    assert reason(data[: int(len(data) * 0.8)]) == "truncated"


def test_a_jpeg_download_that_stopped_is_refused_although_the_file_has_its_full_length():
    data = file_of("JPEG", picture(96, 128))
    assert reason(data[: len(data) // 2] + bytes(len(data) - len(data) // 2)) == "truncated"


def test_what_follows_the_end_of_a_jpeg_does_not_matter():
    data = file_of("JPEG")
    assert (
        decode(data + b"video of two seconds", max_pixels=LIMIT).pixels
        == decode(data, max_pixels=LIMIT).pixels
    ).all()


def test_one_wrong_bit_in_the_pixels_of_a_png_is_noticed():
    data = bytearray(file_of("PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    assert reason(bytes(data)) == "corrupt"


def test_bombs_are_refused_by_their_header():
    bomb = png_of(60_000, 60_000, 8, 2, b"\0" * 100)
    assert reason(bomb, max_pixels=150_000_000) == "too_many_pixels"
    assert reason(bomb[:60], max_pixels=150_000_000) in ("too_many_pixels", "truncated")
    webp = bytearray(file_of("WebP", icc_profile=b"x" * 16))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16_382).to_bytes(3, "little") * 2
    assert reason(bytes(webp), max_pixels=150_000_000) == "too_many_pixels"
    jpeg = bytearray(file_of("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    assert reason(bytes(jpeg), max_pixels=150_000_000) == "too_many_pixels"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_pixel_limit_is_exact_and_names_its_numbers(kind):
    with pytest.raises(PhotoError) as caught:
        decode(file_of(kind), max_pixels=48 * 64 - 1)
    assert caught.value.reason == "too_many_pixels"
    assert caught.value.numbers == {"width": 64, "height": 48, "max_pixels": 48 * 64 - 1}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pillows_own_limit_plays_no_part(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(file_of(kind), max_pixels=LIMIT).width == 64


@pytest.mark.parametrize("kind", FORMATS)
def test_random_damage_raises_nothing_but_photo_error(kind):
    generator = np.random.default_rng(sum(kind.encode()))
    whole = file_of(kind, picture(40, 56))
    survived = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            data = bytearray(whole)
            for position in generator.integers(0, len(data), generator.integers(1, 6)):
                data[position] = generator.integers(0, 256)
            if generator.random() < 0.3:
                start = int(generator.integers(0, len(data)))
                del data[start : start + int(generator.integers(1, 40))]
            try:
                photo = decode(
                    bytes(data), max_pixels=200_000, max_side=32 if generator.random() < 0.3 else None
                )
            except PhotoError:
                continue
            survived += 1
            assert photo.pixels.ndim == 3 and photo.pixels.shape[2] == 3
    assert survived < 150


def test_the_error_comes_back_whole_from_another_process():
    error = pickle.loads(pickle.dumps(PhotoError("too_small", "12 x 9 pixels", {"width": 12})))
    assert (error.reason, str(error), error.numbers) == ("too_small", "12 x 9 pixels", {"width": 12})
