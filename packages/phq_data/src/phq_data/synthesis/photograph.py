"""Take an image of one or two random people whose camera is known.

A photo is a function of (seed, index) alone, so a longer series begins with the shorter one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from phq_data import camera as cameras
from phq_data.arrays import Float32Array, FloatArray
from phq_data.synthesis import backdrop, figure
from phq_data.synthesis.draw import Layer, Lens, Light, Place, draw_person
from phq_data.synthesis.figure import Posed, pose_person
from phq_data.synthesis.people import Person, Variety, parts_of, random_person

PITCH_LIMIT, ROLL_LIMIT = np.radians(40.0), np.radians(15.0)
WIDE_PITCH_LIMIT = np.radians(65.0)
HEAD = 0.25
"""Metres from chin to crown: what 'head height' means when people are placed."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A person in a photo and what is true about them. Left to right in the photo."""

    person: Person
    place: Place
    posed: Posed
    mask: NDArray[np.uint8]  # [H, W] 0..255: what is seen of the person
    depth: Float32Array  # [H, W] metres of the person alone, inf where there is nothing of them
    alone: NDArray[np.bool_]  # [H, W] what would be seen if nothing stood in front


@dataclass(frozen=True, eq=False)
class Photo:
    """A finished photo."""

    jpeg: bytes
    lens: Lens
    subjects: list[Subject]


def take(seed: int, index: int, backgrounds: Sequence[Path] = (), variety: Variety = "usual") -> Photo:
    """Photo `index` of series `seed` and of a variety."""
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, index]).spawn(6)]
    scene, first, second, behind, front, finish = streams
    lens, places = _arrange(scene, variety)
    light = random_light(scene)
    people = [
        (random_person(rng, float(cameras.angles(label_of(place))[0]), variety), place)
        for place, rng in zip(places, (first, second), strict=False)
    ]
    return shoot(lens, people, light, (scene, behind, front, finish), backgrounds)


def shoot(
    lens: Lens,
    people: Sequence[tuple[Person, Place]],
    light: Light,
    streams: tuple[np.random.Generator, np.random.Generator, np.random.Generator, np.random.Generator],
    backgrounds: Sequence[Path] = (),
) -> Photo:
    """The photo of people who stand there; random numbers for the scene, background, occluder and camera."""
    scene, behind, front, finish = streams
    image = backdrop.background(behind, lens.width, lens.height, backgrounds)
    image *= np.float32(scene.uniform(0.7, 1.1))
    drawn: list[tuple[Person, Place, Posed, Layer | None]] = []
    for person, place in people:
        parts = parts_of(person)
        posed = pose_person(parts, person.build, person.stance)
        drawn.append((person, place, posed, draw_person(person, parts, posed, place, lens, light)))

    # Far to near; whoever is nearer takes from the masks of the others.
    subjects: list[Subject] = []
    for person, place, posed, layer in sorted(drawn, key=lambda item: -item[1].translation[2]):
        cover, depth = _composite(image, layer)
        for other in subjects:
            other.mask[:] = np.round(other.mask * (1 - cover))
        subjects.append(
            Subject(person, place, posed, np.round(cover * 255).astype(np.uint8), depth, cover > 0.5)
        )
    if scene.random() < 0.18:
        near = max(subjects, key=lambda s: -s.place.translation[2])
        neck = lens.project(near.place.translation[None])[0]
        color, cover = backdrop.occluder(
            front, lens.width, lens.height, (neck[0], neck[1]), lens.focal / near.place.translation[2]
        )
        image += cover[..., None] * (color - image)
        for subject in subjects:
            subject.mask[:] = np.round(subject.mask * (1 - cover))
    jpeg = _develop(image, finish)
    subjects.sort(key=lambda s: float(lens.project(s.place.translation[None])[0, 0]))
    return Photo(jpeg, lens, subjects)


def label_of(place: Place) -> FloatArray:
    """The camera label's matrix [4, 4] of a placed person: on the sphere, re-aimed, roll kept."""
    centre = -place.rotation.T @ place.translation
    up = place.rotation.T @ np.array([0.0, -1.0, 0.0])
    return cameras.look_from(centre, up)


def place_person(
    yaw: float, pitch: float, roll: float, distance: float, pixel: tuple[float, float], lens: Lens
) -> Place:
    """A person seen from (yaw, pitch) at `distance` metres, with the neck joint at `pixel`."""
    looking = cameras.from_angles(yaw, pitch, roll)
    # `from_angles` aims a little above the neck; aim at the neck itself, then turn until it meets the pixel.
    direction = looking[:3, 3] / np.linalg.norm(looking[:3, 3])
    forward = -direction
    right = np.cross(forward, -looking[:3, 1])
    right /= np.linalg.norm(right)
    aimed = np.stack([right, np.cross(forward, right), forward])  # rows: camera axes in the chest frame
    ray = np.array([(pixel[0] - lens.width / 2) / lens.focal, (pixel[1] - lens.height / 2) / lens.focal, 1.0])
    ray /= np.linalg.norm(ray)
    turn = figure.between(np.array([0.0, 0.0, 1.0]), ray)
    return Place(turn @ aimed, distance * ray)


def _arrange(rng: np.random.Generator, variety: Variety) -> tuple[Lens, list[Place]]:
    """The lens and where one or two people stand."""
    shares = [0.3, 0.4, 0.3, 0, 0, 0] if variety == "wide" else [0.12, 0.22, 0.24, 0.2, 0.14, 0.08]
    long = int(rng.choice([480, 640, 800, 1024, 1280, 1600], p=shares))
    short = round(long / float(rng.choice([1.0, 1.25, 4 / 3, 1.5, 16 / 9], p=[0.1, 0.15, 0.3, 0.3, 0.15])))
    width, height = (short, long) if rng.random() < 0.55 else (long, short)
    pair = rng.random() < 0.2
    cut = rng.random() < 0.12
    largest = 0.28 if pair else 0.5
    head = float(np.exp(rng.uniform(np.log(max(0.07, 36 / short)), np.log(largest)))) * short
    focal = float(np.exp(rng.uniform(np.log(0.75), np.log(3.5)))) * long
    focal = max(focal, 0.6 * head / HEAD)
    distance = focal * HEAD / head
    lens = Lens(width, height, focal)
    unit = head / HEAD  # pixels a metre
    if cut:
        x, y = rng.uniform(-0.02, 1.02) * width, rng.uniform(0.05, 1.1) * height
    else:
        x = _between(rng, 0.16 * unit, width - 0.16 * unit)
        y = _between(rng, 0.30 * unit, height - 0.12 * unit)
    yaw = rng.uniform(-np.pi, np.pi)
    limit = WIDE_PITCH_LIMIT if variety == "wide" else PITCH_LIMIT
    pitch, roll = _wide_tilt(rng) if variety == "wide" else _tilt(rng)
    places = [place_person(yaw, pitch, roll, distance, (x, y), lens)]
    if pair:
        side = 1 if x < width / 2 else -1
        apart = rng.uniform(0.28, 0.75) * unit
        ratio = float(np.exp(rng.normal(0, 0.15)))
        pixel = (x + side * apart, y + rng.normal(0, 0.12) * unit)
        other = np.clip(pitch + rng.normal(0, 0.1), -limit, limit)
        lean = np.clip(roll + rng.normal(0, 0.07), -ROLL_LIMIT, ROLL_LIMIT)
        places.append(place_person(rng.uniform(-np.pi, np.pi), other, lean, distance * ratio, pixel, lens))
    return lens, places


def _tilt(rng: np.random.Generator) -> tuple[float, float]:
    """Pitch and roll: mostly near level, a good part anywhere within the limits."""
    pitch = (
        rng.normal(np.radians(3), np.radians(11))
        if rng.random() < 0.55
        else rng.uniform(-PITCH_LIMIT, PITCH_LIMIT)
    )
    roll = rng.normal(0, np.radians(4)) if rng.random() < 0.65 else rng.uniform(-ROLL_LIMIT, ROLL_LIMIT)
    return float(np.clip(pitch, -PITCH_LIMIT, PITCH_LIMIT)), float(np.clip(roll, -ROLL_LIMIT, ROLL_LIMIT))


def _wide_tilt(rng: np.random.Generator) -> tuple[float, float]:
    """Pitch and roll: every height alike, from a camera on the floor to one under the ceiling."""
    pitch = rng.normal(np.radians(5), np.radians(14)) if rng.random() < 0.3 else rng.uniform(-1.0, 1.15)
    roll = rng.normal(0, np.radians(4)) if rng.random() < 0.65 else rng.uniform(-ROLL_LIMIT, ROLL_LIMIT)
    return float(np.clip(pitch, -WIDE_PITCH_LIMIT, WIDE_PITCH_LIMIT)), float(roll)


def random_light(rng: np.random.Generator) -> Light:
    """One lamp from somewhere above or beside, and light from everywhere, in a frame whose y points down."""
    azimuth, height = rng.normal(0, 1.2), rng.uniform(-0.15, 1.2)
    towards = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)])
    warm = rng.normal(0, 0.10)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    strength = rng.uniform(0.15, 1.0)
    key = tint * 0.95 * strength
    rest = 1.05 - 0.75 * strength
    sky = rest * np.array([1 - 0.5 * warm, 1.0, 1 + 0.5 * warm])
    ground = rest * rng.uniform(0.35, 0.9) * np.clip(1 + rng.normal(0, 0.08, 3), 0.5, 1.5)
    return Light(towards, key, sky, ground, shadows=bool(strength > 0.3))


def _composite(image: Float32Array, layer: Layer | None) -> tuple[Float32Array, Float32Array]:
    """Put a layer on the image (in place); (its cover, its depth), both [H, W] of the photo."""
    cover = np.zeros(image.shape[:2], np.float32)
    depth = np.full(image.shape[:2], np.inf, np.float32)
    if layer is not None:
        (x, y), (h, w) = layer.corner, layer.cover.shape
        cover[y : y + h, x : x + w] = layer.cover
        depth[y : y + h, x : x + w] = layer.depth
        region = image[y : y + h, x : x + w]
        region += layer.cover[..., None] * (layer.color - region)
    return cover, depth


def _develop(scene: Float32Array, rng: np.random.Generator) -> bytes:
    """What a camera does to a scene: blur, exposure, tint, vignette, noise, JPEG."""
    height, width = scene.shape[:2]
    image = Image.fromarray(np.clip(scene * 255, 0, 255).astype(np.uint8))
    if rng.random() < 0.85:  # a sharp lens; also what smooths the edges of what was drawn
        image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.35, 0.9))))
    else:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.8, 2.2))))
    values = np.array(image, np.float32)
    gain = np.exp(rng.normal(0, 0.12)) * (1 + rng.normal(0, 0.03, 3))
    contrast = rng.uniform(0.85, 1.2)
    level = 118 + rng.normal(0, 6) - 118 * contrast
    values *= (gain * contrast).astype(np.float32)
    values += np.float32(level)
    if rng.random() < 0.3:
        x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
        y = np.linspace(-1, 1, height, dtype=np.float32) ** 2
        values *= 1 - np.float32(rng.uniform(0.05, 0.25)) * (x[None] + y[:, None])[..., None]
    strength = np.float32(np.exp(rng.uniform(np.log(0.7), np.log(9))))
    tile = rng.standard_normal((256, 256, 3), dtype=np.float32)
    tile = (0.7 * tile[..., :1] + 0.7 * tile) * strength
    rows, columns = -(-height // 256), -(-width // 256)
    values += np.tile(tile, (rows, columns, 1))[:height, :width]
    out = io.BytesIO()
    np.clip(values, 0, 255, out=values)
    Image.fromarray(values.astype(np.uint8)).save(
        out, "JPEG", quality=int(rng.integers(62, 97)), subsampling=int(rng.choice([0, 2]))
    )
    return out.getvalue()


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if high > low else (low + high) / 2
