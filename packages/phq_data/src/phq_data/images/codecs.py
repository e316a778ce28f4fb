"""Photo files to upright sRGB pixels, once and for everybody; and images to bytes for the tables.

`decode` reads JPEG, PNG, WebP, TIFF, BMP, single-frame GIF, AVIF, and HEIC when pillow-heif is installed. It
applies the EXIF orientation and the ICC profile, tone-maps HDR (`images.cicp`), and refuses what it cannot
read whole: too many pixels (before anything is decoded), truncated or damaged files, animations, camera raw
files. Of a TIFF with several pages, a phone's multi-picture JPEG or a HEIC collection it takes the first
(primary) picture.

Pillow's own pixel limit is a global of the process and is not used: the format's reader is called directly
and its size checked against `max_pixels`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from phq_data.images.cicp import cicp_of, wins
from phq_data.images.color import to_base, to_srgb
from phq_data.images.formats import Bytes, PhotoError, check_whole, sniff, stream_of, webp_size
from phq_data.images.library_warnings import collected

__all__ = [
    "DecodedPhoto",
    "PhotoError",
    "decode",
    "decode_struct",
    "encode_image",
    "image_struct",
    "perceptual_hash",
    "sniff",
]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a stored image upright, by its EXIF orientation."""

_ORIENTATION, _TIME, _EXIF_IFD, _TIME_ORIGINAL, _OFFSET_ORIGINAL = 274, 306, 0x8769, 36867, 36881
_EXIF_TIME = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})", re.ASCII)
_OFFSET = re.compile(r"[+-]\d{2}:\d{2}", re.ASCII)
_SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706  # TIFF tags that camera raw files have
_HASH_SIDE = 256  # pixels; the hash looks at 32, so nothing is lost by halving down to here
_STRUCT_PIXELS = 1 << 26  # pictures in tables are far smaller
_NO_CODEC = re.compile(
    r"(de|en)coder \w+ not available|unsupported codec|no decod\w+ (plugin|found|available)"
    r"|support is not configured|unknown compression|unsupported feature",
    re.IGNORECASE,
)
"""How Pillow, libtiff and libheif say that a picture may be fine and they were built without its codec."""
_SAVE: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("PNG", "png", {"compress_level": 3}),
    "webp-lossless": ("WEBP", "webp", {"lossless": True, "quality": 0, "method": 0}),
    "jpeg-95": ("JPEG", "jpg", {"quality": 95, "subsampling": 0, "optimize": True}),
}


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photo as people see it."""

    pixels: NDArray[np.uint8]  # [H, W, 3] upright sRGB, writable
    width: int  # of the whole upright photo, also when `pixels` is smaller
    height: int
    format: str  # as `sniff` names it
    orientation: int  # EXIF orientation of the stored bytes, 1..8
    color: str  # what the pixels were converted from: sRGB, grey, CMYK, palette, "ICC <name>", with notes
    exif_time: str | None  # ISO 8601 local time when the photo was taken
    scale: float  # side of `pixels` / side of the photo; 1 unless `max_side` made it smaller
    notes: tuple[str, ...] = ()  # what the library warned of, e.g. damaged EXIF


def decode(data: bytes, *, max_pixels: int, max_side: int | None = None) -> DecodedPhoto:
    """The photo in a file's bytes, whole, or reduced so that no side exceeds `max_side` pixels.

    A reduced JPEG is decoded at 1/2, 1/4 or 1/8 where that suffices, which is several times faster. Point
    (x, y) of the photo lies at (x * w / width, y * h / height) of `pixels` [h, w]. Raises `PhotoError`.
    """
    with collected() as notes:
        try:
            photo = _decoded(data, max_pixels, max_side)
        except PhotoError as error:
            if notes:
                said = f"{error} (the image library: {'; '.join(notes)})"
                raise PhotoError(error.reason, said, error.numbers) from error
            raise
    return dataclasses.replace(photo, notes=tuple(notes))


def _decoded(data: bytes, max_pixels: int, max_side: int | None) -> DecodedPhoto:
    if not data:
        raise PhotoError("empty", "the file is empty")
    kind = sniff(data[:64])
    if kind is None:
        raise PhotoError("not_an_image", "its first bytes are those of no image format that PHQ reads")
    image = _open(data, kind, max_pixels)
    width, height = image.size  # of a TIFF: upright already
    _check_size(width, height, max_pixels)
    check_whole(data, kind)
    stored = _check_kind(image, data, kind)
    with _reading(kind):
        box = _draft(image, max_side) if kind == "JPEG" else (0.0, 0.0, float(width), float(height))
        image.load()
        orientation, taken = _exif(image)
        profile = image.info.get("icc_profile")
        cicp = cicp_of(data, kind, image.info)
        base, color = to_base(image, *_grey_range(image, kind))
        base = _shrunk(base, box, (width, height), max_side)
        rgb, color = to_srgb(base, profile, color, cicp if wins(cicp, kind, bool(profile)) else None)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
            if orientation >= 5:
                width, height = height, width
        pixels = _to_array(rgb)
    return DecodedPhoto(
        pixels=pixels,
        width=width,
        height=height,
        format=kind,
        orientation=stored or orientation,
        color=color,
        exif_time=taken,
        scale=max(pixels.shape[:2]) / max(width, height),
    )


def header(data: Bytes, kind: str) -> Any:
    """A file's header as Pillow's (or pillow-heif's) image, nothing decoded. Raises `PhotoError`."""
    with collected():
        return _open(data, kind, _STRUCT_PIXELS)


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """The 64-bit DCT hash of an upright image [H, W, 3] or [H, W], as an unsigned integer.

    Images that look alike differ in few bits (count them with `(a ^ b).bit_count()`).
    """
    import imagehash  # brings scipy and PyWavelets: only where it is needed

    image = Image.fromarray(pixels)
    factor = min(image.size) // _HASH_SIDE
    if factor > 1:
        image = image.reduce(factor)
    return int("".join("1" if bit else "0" for bit in imagehash.phash(image).hash.flat), 2)


def encode_image(pixels: NDArray[np.uint8], codec: str) -> tuple[bytes, str]:
    """(bytes, file extension) of an image [H, W, 3] or a mask [H, W] in a codec of `CropConfig.codec`.

    Masks are stored as 8-bit grey PNG: only "png" takes them.
    """
    if codec not in _SAVE:
        raise ValueError(f"there is no image codec '{codec}'; it is one of {', '.join(_SAVE)}")
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"an image is uint8 [H, W, 3] or [H, W], not {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2 and codec != "png":
        raise ValueError(f"masks are stored as png, not as {codec}")
    name, extension, options = _SAVE[codec]
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format=name, **options)
    return buffer.getvalue(), extension


def image_struct(data: bytes, name: str) -> dict[str, Any]:
    """Encoded bytes and a file name as the struct that `schema.IMAGE` columns hold."""
    return {"bytes": data, "path": name}


def decode_struct(struct: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The image [H, W, 3] or mask [H, W] of an `image_struct`. Raises `PhotoError` when it is damaged."""
    data, name = struct["bytes"], struct["path"]
    kind = sniff(data[:64]) if data else None
    if kind is None:
        raise PhotoError("not_an_image", f"the table's image '{name}' holds no image")
    image = _open(data, kind, _STRUCT_PIXELS)
    width, height = image.size
    _check_size(width, height, _STRUCT_PIXELS)
    check_whole(data, kind)
    with _reading(kind):
        return np.array(image if image.mode == "L" else image.convert("RGB"))


def _open(data: Bytes, kind: str, max_pixels: int) -> Any:
    """The file's header, read by the reader of its format. Nothing is decoded yet."""
    stream = stream_of(data)
    if kind == "WebP" and (size := webp_size(data)):
        _check_size(size[0], size[1], max_pixels)
    if kind == "HEIC":
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise PhotoError(
                "heic_unsupported", "HEIC needs pillow-heif: install the extra phq-data[heic] and try again"
            ) from None
    elif kind == "AVIF" and not features.check("avif"):
        raise PhotoError("avif_unsupported", "this build of Pillow cannot read AVIF")
    elif kind == "WebP" and not features.check("webp"):
        raise _codec_missing("WebP", "Pillow was built without libwebp")
    try:
        with _reading(kind):
            match kind:
                case "JPEG":
                    return JpegImagePlugin.JpegImageFile(stream)
                case "PNG":
                    return PngImagePlugin.PngImageFile(stream)
                case "WebP":
                    return WebPImagePlugin.WebPImageFile(stream)
                case "TIFF":
                    return TiffImagePlugin.TiffImageFile(stream)
                case "GIF":
                    return GifImagePlugin.GifImageFile(stream)
                case "BMP":
                    return BmpImagePlugin.BmpImageFile(stream)
                case "AVIF":
                    return AvifImagePlugin.AvifImageFile(stream)
                case _:
                    return HeifImageFile(stream)  # type: ignore[no-untyped-call]
    except PhotoError as error:
        if error.reason == "corrupt":
            check_whole(data, kind)  # says it better when the file is cut short
        raise


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise PhotoError("corrupt", f"the file says it is {width} x {height} pixels")
    if width * height > max_pixels:
        raise PhotoError(
            "too_many_pixels",
            f"{width} x {height} pixels; the limit (ingest.max_pixels) is {max_pixels:,}",
            {"width": width, "height": height, "max_pixels": max_pixels},
        )


def _check_kind(image: Any, data: bytes, kind: str) -> int | None:
    """Refuse what is no still photo. Returns the stored orientation where the reader undoes it itself."""
    with _reading(kind):
        if kind in ("GIF", "WebP", "PNG", "AVIF") and image.is_animated:
            raise PhotoError("animated", "an animation, not a photo", {"frames": int(image.n_frames)})
        if kind == "HEIC":
            return int(image.info.get("original_orientation") or 1)
        if kind == "TIFF":
            tags = image.tag_v2
            if (
                _DNG_VERSION in tags
                or data[8:10] == b"CR"
                or (tags.get(_SUBFILE, 0) & 1 and _SUB_IFDS in tags)
            ):
                raise PhotoError("raw_photo", "a camera raw file: export it as JPEG or TIFF")
            for starts, counts in ((273, 279), (324, 325)):
                parts = zip(tags.get(starts, ()), tags.get(counts, ()), strict=False)
                if any(start + count > len(data) for start, count in parts):
                    raise PhotoError("truncated", "the file is cut short: it lacks some of its pixels")
            return int(tags.get(_ORIENTATION, 1))
    return None


def _draft(image: Any, max_side: int | None) -> tuple[float, float, float, float]:
    """Let the JPEG decoder work at 1/2, 1/4 or 1/8 as far as `max_side` allows.

    Returns the box of the decoded image that the photo covers: its last column may lie half outside.
    """
    width, height = image.size
    if max_side is not None and max_side < max(width, height):
        part = max_side / max(width, height)
        if drafted := image.draft(image.mode, (math.ceil(width * part), math.ceil(height * part))):
            box: tuple[float, float, float, float] = drafted[1]
            return box
    return (0.0, 0.0, float(width), float(height))


def _shrunk(
    image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int], max_side: int | None
) -> Image.Image:
    """`box` of `image`, which shows a photo of `size`, resampled so that no side exceeds `max_side`."""
    if max_side is None or max(size) <= max_side:
        return image
    part = max_side / max(size)
    target = (max(1, round(size[0] * part)), max(1, round(size[1] * part)))
    return image.resize(target, Image.Resampling.HAMMING, box=box, reducing_gap=3.0)


def _to_array(image: Image.Image, rows: int = 128) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] of an RGB image, strip by strip: a third of the time and memory of one go."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _grey_range(image: Any, kind: str) -> tuple[int, bool]:
    """(bits used, is zero white) of 16-bit grey images."""
    if kind != "TIFF":
        return 16, False
    bits = image.tag_v2.get(258, (16,))
    return int(bits[0] if isinstance(bits, tuple) else bits), image.tag_v2.get(262) == 0


def _exif(image: Any) -> tuple[int, str | None]:
    """(orientation, ISO time taken) of a loaded image; (1, None) when its EXIF is missing or damaged."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        details = exif.get_ifd(_EXIF_IFD)
        time = details.get(_TIME_ORIGINAL) or exif.get(_TIME)
        offset = details.get(_OFFSET_ORIGINAL)
    except Exception:  # damaged EXIF makes Pillow raise anything; the pixels are fine without it
        return 1, None
    match = _EXIF_TIME.match(time) if isinstance(time, str) else None
    taken = None
    if match:
        year, month, day, hour, minute, second = match.groups()
        taken = f"{year}-{month}-{day}T{hour}:{minute}:{second}"
        with contextlib.suppress(ValueError):
            datetime.fromisoformat(taken)
            if isinstance(offset, str) and _OFFSET.fullmatch(offset):
                taken += offset
            return orientation if orientation in _UPRIGHT else 1, taken
    return orientation if orientation in _UPRIGHT else 1, None


def _codec_missing(kind: str, detail: str) -> PhotoError:
    return PhotoError(
        "codec_missing",
        f"what reads images here has no codec for this {kind} ({detail}): save it as JPEG or PNG, or install "
        "a Pillow with it",
    )


@contextlib.contextmanager
def _reading(kind: str) -> Iterator[None]:
    """Turn what a reader raises over a damaged file into `PhotoError`.

    Damaged bytes make Pillow's readers raise nearly any class (SyntaxError, struct.error, KeyError, ...), so
    all but `MemoryError` count.
    """
    try:
        yield
    except (PhotoError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError("too_many_pixels", f"refused by Pillow: {error}") from error
    except Exception as error:
        detail = str(error) or type(error).__name__
        if _NO_CODEC.search(detail):
            raise _codec_missing(kind, detail) from error
        reason = "truncated" if "truncated" in detail.lower() else "corrupt"
        raise PhotoError(reason, f"the {kind} is damaged: {detail}") from error
