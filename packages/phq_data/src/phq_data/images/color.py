"""Any image that Pillow can hold to 8-bit sRGB: bit depths, palettes, alpha, CMYK, Lab and ICC profiles.

Choices: transparency is laid on white, as a web page would show it. Profiles are applied with relative
colorimetric intent and black point compensation, as browsers do. A profile that cannot be read or that is for
another kind of image is ignored, and the note that comes with the result says so.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from phq_data.images.cicp import Cicp
from phq_data.images.cicp import to_srgb as cicp_to_srgb
from phq_data.images.formats import PhotoError

_SAME_COLORS = 2  # grey levels of 255: profiles that move no color further than this are sRGB
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # Pillow mode -> color space as ICC spells it


def to_base(image: Image.Image, bits: int = 16, inverted: bool = False) -> tuple[Image.Image, str]:
    """`image` in one of the modes L, LA, RGB, RGBA, CMYK, LAB, and what it was, in words.

    `bits` says how many bits of a 16-bit grey image are used (TIFF also knows 12), `inverted` that its
    zero is white. Raises `PhotoError` (unsupported_mode) for images without an agreed white, e.g. floats.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        return _reduce_16_bit(image, bits, inverted), f"grey {bits}-bit"
    if mode == "1":
        return image.convert("L"), "1-bit"
    if mode in ("P", "PA"):
        clear = mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if clear else "RGB"), "palette"
    if mode in ("L", "RGB"):
        if "transparency" in image.info:  # one color counts as see-through
            image = image.convert("LA" if mode == "L" else "RGBA")
        return image, "grey" if mode == "L" else "sRGB"
    if mode in ("LA", "La"):
        return image.convert("LA"), "grey"
    if mode in ("RGBA", "RGBa"):
        return image.convert("RGBA"), "sRGB"
    if mode in ("RGBX", "YCbCr", "HSV"):
        return image.convert("RGB"), "sRGB"
    if mode in ("CMYK", "LAB"):
        return image, mode if mode == "CMYK" else "Lab"
    raise PhotoError(
        "unsupported_mode",
        f"pixels of kind '{mode}' (32-bit numbers) have no agreed white: save it with 8 or 16 bits",
    )


def to_srgb(
    image: Image.Image, profile: bytes | None, color: str, cicp: Cicp | None = None
) -> tuple[Image.Image, str]:
    """`image` (a mode of `to_base`) in sRGB, and `color` refined: "ICC <name>" and what else was done.

    `cicp`: the code points that speak for its colors in the profile's place (`images.cicp`).
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    notes: list[str] = []
    if cicp is not None and image.mode in ("L", "RGB"):
        image, color = cicp_to_srgb(image.convert("RGB"), cicp)
    elif image.mode == "LAB":
        image = _transformed(image, _profile(None, "LAB"))
    elif profile:
        try:
            image, name = _apply(image, profile)
            color = name or color
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            notes.append(f"ICC profile ignored ({error})")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() != (255, 255):
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        notes.append("alpha on white")
    return image, ", ".join([color, *notes])


def _apply(image: Image.Image, data: bytes) -> tuple[Image.Image, str | None]:
    """`image` through an ICC profile, and the new name of its colors (None: it was sRGB all along)."""
    profile = _profile(data)
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")  # a grey image that kept the profile of its colored original
    if _SPACES[image.mode] != space:
        raise ValueError(f"it is for {space} images, this one is {_SPACES[image.mode]}")
    described = "".join(c for c in ImageCms.getProfileDescription(profile) if c.isprintable()).strip()
    name = f"ICC {described[:80] or 'without a name'}"
    if image.mode == "RGB":
        before = _color_grid()
        after = _transformed(before, profile)
        moved = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16)).max()
        if moved <= _SAME_COLORS:
            return image, None
    return _transformed(image, profile), name


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = ImageCms.buildTransform(
        profile,
        _profile(None, "sRGB"),
        image.mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    result = ImageCms.applyTransform(image, transform)
    assert result is not None  # only with inPlace=True
    return result


def _profile(data: bytes | None, builtin: str = "") -> ImageCms.ImageCmsProfile:
    if data is not None:
        return ImageCms.ImageCmsProfile(BytesIO(data))
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB" if builtin == "LAB" else "sRGB"))


@lru_cache(maxsize=1)
def _color_grid() -> Image.Image:
    """17 levels of each channel, every combination: [289, 17] pixels."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return Image.fromarray(grid.reshape(289, 17, 3))


def _reduce_16_bit(image: Image.Image, bits: int, inverted: bool) -> Image.Image:
    """A 16-bit grey image to 8 bits: the whole range to the whole range, rounded."""
    top = 2**bits - 1
    table = np.minimum((np.arange(65_536, dtype=np.int64) * 255 + top // 2) // top, 255).astype(np.uint8)
    if inverted:
        table = 255 - table
    return Image.fromarray(table[np.asarray(image)])
