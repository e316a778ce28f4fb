"""What is behind people, and what stands in front of them. Images are float32 [H, W, 3] in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from phq_data.arrays import Float32Array
from phq_data.images.codecs import PhotoError, decode

KINDS = ("plain", "gradient", "clouds", "wall", "room", "outdoor", "street", "lights", "texture", "clutter")
MAX_PIXELS = 150_000_000  # of a user's photo


def background(
    rng: np.random.Generator, width: int, height: int, photos: Sequence[Path] = ()
) -> Float32Array:
    """A background [H, W, 3]: one of `KINDS` or, half of the time, a cut of one of `photos`, if any."""
    if photos and rng.random() < 0.5:
        return from_photo(photos[int(rng.integers(len(photos)))], rng, width, height)
    kind = KINDS[int(rng.choice(len(KINDS), p=[0.08, 0.08, 0.08, 0.14, 0.16, 0.16, 0.12, 0.06, 0.05, 0.07]))]
    blur = float(rng.choice([0.0, 0.006, 0.02], p=[0.4, 0.35, 0.25])) * max(width, height)
    # A blurred background needs few pixels.
    shrink = 4 if blur > 8 else 2
    w, h = max(width // shrink, 16), max(height // shrink, 16)
    image = _draw(kind, rng, w, h)
    if blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(float(blur / shrink)))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / 255.0


def from_photo(path: Path, rng: np.random.Generator, width: int, height: int) -> Float32Array:
    """A random cut of a photo, as large as fits, as [height, width, 3]. Raises `OSError` if it is none."""
    try:
        source = Image.fromarray(decode(path.read_bytes(), max_pixels=MAX_PIXELS).pixels)
    except PhotoError as error:
        raise OSError(f"{path}: {error}") from error
    share = rng.uniform(0.6, 1.0)
    scale = share * min(source.width / width, source.height / height)
    w, h = max(int(width * scale), 1), max(int(height * scale), 1)
    x, y = (int(rng.integers(0, limit - size + 1)) for limit, size in ((source.width, w), (source.height, h)))
    cut = source.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
    return np.asarray(cut, np.float32) / 255.0


def occluder(
    rng: np.random.Generator, width: int, height: int, at: tuple[float, float], unit: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Something in front of a person: (color [H, W, 3], cover [H, W]), both 0..1.

    `at` is the person's neck and `unit` the pixels of a metre there: what covers people covers their chest,
    an arm or a shoulder, rarely the face.
    """
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    x, y = at[0] + rng.normal(0, 0.22) * unit, at[1] + abs(rng.normal(0.28, 0.12)) * unit
    kind = int(rng.integers(5))
    if kind == 0:  # a table or a parapet
        y = max(y, at[1] + 0.22 * unit)
        slope = rng.normal(0, 0.05)
        draw.polygon(
            [(0, y - slope * at[0]), (width, y + slope * (width - at[0])), (width, height), (0, height)],
            fill=255,
        )
    elif kind == 1:  # a pole
        x = at[0] + rng.choice([-1, 1]) * rng.uniform(0.10, 0.35) * unit
        w, lean = rng.uniform(0.01, 0.05) * unit, rng.normal(0, 0.08) * height
        draw.polygon([(x - w, 0), (x + w, 0), (x + w + lean, height), (x - w + lean, height)], fill=255)
    elif kind == 2:  # a box, a book, a screen
        w, h = rng.uniform(0.06, 0.25, 2) * unit
        y = max(y, at[1] + 0.05 * unit + h)
        turn = rng.normal(0, 0.2)
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) @ np.array(
            [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        )
        draw.polygon([(x + c[0], y + c[1]) for c in corners], fill=255)
    elif kind == 3:  # leaves
        for _ in range(int(rng.integers(15, 60))):
            cx, cy = x + rng.normal(0, 0.22) * unit, y + 0.15 * unit + abs(rng.normal(0, 0.25)) * unit
            r, s = rng.uniform(0.01, 0.04) * unit, rng.uniform(0.01, 0.06) * unit
            draw.ellipse([cx - r, cy - s, cx + r, cy + s], fill=255)
    else:  # somebody's shoulder or head, out of focus
        r = rng.uniform(0.12, 0.3) * unit
        cy = y + r * 1.3
        draw.ellipse([x - r, cy - r, x + r, cy + 2 * r], fill=255)
    if kind == 4 or rng.random() < 0.4:
        mask = mask.filter(ImageFilter.GaussianBlur(float(0.012 * unit * rng.uniform(0.3, 2.5))))
    color = rng.uniform(0.05, 0.9, 3) * rng.uniform(0.3, 1.0)
    if kind == 3:
        color = color * (0.5, 1.0, 0.4)
    small = _noise(rng, 24, 24, 2)[..., None]
    grain = np.asarray(
        Image.fromarray((small[..., 0] * 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BILINEAR
        ),
        np.float32,
    )
    shade = (0.75 + 0.5 * grain / 255.0)[..., None]
    return np.asarray(np.clip(color * shade, 0, 1), np.float32), np.asarray(mask, np.float32) / 255.0


def _draw(kind: str, rng: np.random.Generator, w: int, h: int) -> Image.Image:
    base = _color(rng)
    match kind:
        case "plain":
            return _image(np.broadcast_to(base, (h, w, 3)) + 0.05 * (_noise(rng, w, h, 2)[..., None] - 0.5))
        case "gradient":
            angle = rng.uniform(0, 2 * np.pi)
            y, x = np.mgrid[0:h, 0:w] / max(w, h)
            t = np.clip(0.5 + (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), 0, 1)[..., None]
            return _image(base + (_color(rng) - base) * t)
        case "clouds":
            t = _noise(rng, w, h, 5)[..., None]
            return _image(base + (_color(rng) - base) * t)
        case "texture":
            fine = rng.random((h, w, 1))
            t = 0.6 * _noise(rng, w, h, 7)[..., None] + 0.4 * fine
            return _image(base + (_color(rng) - base) * t)
    image = _image(np.broadcast_to(base, (h, w, 3)) + 0.10 * (_noise(rng, w, h, 5)[..., None] - 0.5))
    draw = ImageDraw.Draw(image)
    {
        "wall": _wall,
        "room": _room,
        "outdoor": _outdoor,
        "street": _street,
        "lights": _lights,
        "clutter": _clutter,
    }[kind](draw, rng, w, h)
    return image


def _wall(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """Bricks, boards or tiles."""
    rows = int(rng.integers(4, 28))
    high = h / rows
    wide = high * rng.choice([1.0, 2.2, 40.0])
    base, mortar = _color(rng), _rgb(_color(rng))
    for row in range(rows + 1):
        shift = (row % 2) * wide / 2
        for column in range(-1, int(w / wide) + 2):
            fill = _rgb(base * rng.uniform(0.8, 1.2))
            x, y = column * wide + shift, row * high
            draw.rectangle([x, y, x + wide, y + high], fill=fill, outline=mortar)


def _room(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """A floor, frames, shelves, windows."""
    floor = h * rng.uniform(0.6, 1.0)
    draw.rectangle([0, floor, w, h], fill=_rgb(_color(rng)))
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(-0.1, 0.9) * w, rng.uniform(-0.1, 0.7) * h
        a, b = rng.uniform(0.08, 0.4, 2) * (w, h)
        draw.rectangle(
            [x, y, x + a, y + b],
            fill=_rgb(_color(rng)),
            outline=_rgb(_color(rng)),
            width=int(rng.integers(1, 5)),
        )
        if rng.random() < 0.5:
            for k in range(1, int(rng.integers(2, 5))):
                draw.line([x, y + b * k / 4, x + a, y + b * k / 4], fill=_rgb(_color(rng)), width=2)
        if rng.random() < 0.3:
            for k in range(12):
                draw.rectangle(
                    [x + a * k / 12, y + b * rng.uniform(0, 0.2), x + a * (k + 0.8) / 12, y + b / 4],
                    fill=_rgb(_color(rng)),
                )


def _outdoor(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """Sky, hills, trees, grass."""
    top, low = (
        np.array([0.35, 0.55, 0.85]) * rng.uniform(0.6, 1.1),
        np.array([0.85, 0.9, 0.95]) * rng.uniform(0.7, 1.05),
    )
    for row in range(h):
        draw.line([0, row, w, row], fill=_rgb(top + (low - top) * row / h))
    for layer in range(int(rng.integers(1, 4))):
        y = h * (0.3 + 0.2 * layer + rng.uniform(0, 0.15))
        xs = np.linspace(0, w, 24)
        ridge = y + 0.08 * h * np.sin(xs / w * rng.uniform(3, 14) + rng.uniform(0, 6))
        green = np.array([0.25, 0.42, 0.18]) * rng.uniform(0.4, 1.5) + rng.normal(0, 0.05, 3)
        draw.polygon([(0, h), *zip(xs.tolist(), ridge.tolist(), strict=True), (w, h)], fill=_rgb(green))
    for _ in range(int(rng.integers(0, 60))):
        x, y, r = rng.uniform(0, w), rng.uniform(0.2, 0.9) * h, rng.uniform(0.01, 0.08) * w
        green = np.array([0.2, 0.38, 0.14]) * rng.uniform(0.4, 1.8)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_rgb(green))


def _street(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """House fronts with windows."""
    x = -0.1 * w
    while x < w:
        a, top = rng.uniform(0.12, 0.4) * w, rng.uniform(-0.1, 0.45) * h
        wall = _color(rng)
        draw.rectangle([x, top, x + a, h], fill=_rgb(wall))
        rows, columns = int(rng.integers(3, 9)), int(rng.integers(2, 6))
        glass = _color(rng)
        for i in range(rows):
            for j in range(columns):
                u, v = x + a * (j + 0.2) / columns, top + (h - top) * (i + 0.2) / rows
                fill = _rgb(glass * rng.uniform(0.6, 1.3))
                draw.rectangle([u, v, u + 0.6 * a / columns, v + 0.6 * (h - top) / rows], fill=fill)
        x += a
    draw.rectangle([0, h * rng.uniform(0.75, 1.0), w, h], fill=_rgb(np.full(3, rng.uniform(0.25, 0.55))))


def _lights(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """A dark place with lamps."""
    draw.rectangle([0, 0, w, h], fill=_rgb(_color(rng) * 0.25))
    for _ in range(int(rng.integers(10, 60))):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.01, 0.06) * w
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_rgb(0.4 + 0.6 * rng.random(3)))


def _clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    """Shapes of every kind, some as large and as colored as people."""
    for _ in range(int(rng.integers(15, 60))):
        x, y, a, b = rng.uniform(-0.1, 1, 4) * (w, h, 0.25 * w, 0.3 * h)
        a, b = abs(a) + 2, abs(b) + 2
        fill = _rgb(_color(rng))
        shape = int(rng.integers(3))
        if shape == 0:
            draw.rectangle([x, y, x + a, y + b], fill=fill)
        elif shape == 1:
            draw.ellipse([x, y, x + a, y + b], fill=fill)
        else:
            draw.line([x, y, x + a * 3, y + b * rng.normal(0, 3)], fill=fill, width=int(rng.integers(1, 9)))


def _noise(rng: np.random.Generator, w: int, h: int, octaves: int) -> NDArray[np.float32]:
    """Cloudy noise [h, w] in 0..1."""
    total = np.zeros((h, w), np.float32)
    for k in range(octaves):
        cells = 2 ** (k + 1) + 1
        grid = (rng.random((cells, cells)) * 255).astype(np.uint8)
        smooth = Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC)
        total += np.asarray(smooth, np.float32) * np.float32(0.5**k / 255)
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def _color(rng: np.random.Generator) -> NDArray[np.float64]:
    grey = rng.uniform(0.08, 0.95)
    return np.clip(grey + rng.normal(0, rng.choice([0.03, 0.10, 0.22]), 3), 0, 1)


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in np.clip(np.round(color * 255), 0, 255))
    return r, g, b


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values * 255, 0, 255).astype(np.uint8))
