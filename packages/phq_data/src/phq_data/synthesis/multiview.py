"""The same people seen by several calibrated cameras at once: a studio of known truth.

The cameras depend on (seed, number of views); what happens at an instant on (seed, instant) and the cameras.
Photos are numbered instant by instant: photo i is view i % views of instant i // views.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phq_data import camera as cameras
from phq_data.arrays import FloatArray
from phq_data.rig import rotation_matrix
from phq_data.synthesis.draw import Lens, Light, Place
from phq_data.synthesis.people import Variety, random_person
from phq_data.synthesis.photograph import Photo, label_of, random_light, shoot
from phq_data.views import CalibratedCamera, Matrix, Row, ViewPhoto, Views

MAX_VIEWS = 64
_SIZES = ((1280, 960), (1280, 720), (960, 1280), (1024, 1024))
_STUDIO, _INSTANT, _VIEW = 1, 2, 3
"""What keeps the random numbers of cameras, instants and ordinary photos of a seed apart."""


def studio(seed: int, count: int) -> tuple[CalibratedCamera, ...]:
    """`count` cameras around the origin of a world whose y points down."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, count, _STUDIO]))
    start = rng.uniform(0, 2 * np.pi)
    return tuple(
        _camera(rng, f"view{number}", start + 2 * np.pi * (number + rng.uniform(-0.25, 0.25)) / count)
        for number in range(count)
    )


def take_view(
    seed: int, index: int, count: int, backgrounds: Sequence[Path] = (), variety: Variety = "usual"
) -> Photo:
    """Photo `index` of a series of `count` views an instant."""
    instant, number = divmod(index, count)
    views = studio(seed, count)
    streams = [
        np.random.default_rng(stream)
        for stream in np.random.SeedSequence([seed, instant, count, _INSTANT]).spawn(3)
    ]
    scene, first, second = streams
    stands = _people(scene)
    light = random_light(scene)
    facing, view = views[int(scene.integers(count))], views[number]
    people = []
    for stand, rng in zip(stands, (first, second), strict=False):
        yaw = float(cameras.angles(label_of(_seen(facing, stand)))[0])
        people.append((random_person(rng, yaw, variety), _seen(view, stand)))
    own = [
        np.random.default_rng(stream)
        for stream in np.random.SeedSequence([seed, instant, count, _VIEW, number + 1]).spawn(4)
    ]
    turned = Light(np.array(view.R) @ light.towards, light.key, light.sky, light.ground, light.shadows)
    lens = Lens(view.width, view.height, view.K[0][0], view.distortion)
    return shoot(lens, people, turned, (own[0], own[1], own[2], own[3]), backgrounds)


def views_of(seed: int, instants: int, count: int) -> Views:
    """The file of the cameras and photos of `take_view`."""
    return Views(
        cameras=studio(seed, count),
        photos=tuple(
            ViewPhoto(f"{instant * count + number:06d}.jpg", f"view{number}", f"{instant:06d}")
            for instant in range(instants)
            for number in range(count)
        ),
    )


def _camera(rng: np.random.Generator, name: str, azimuth: float) -> CalibratedCamera:
    """A camera that looks at the middle from this side."""
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    distance, elevation = rng.uniform(2.2, 4.5), np.radians(rng.uniform(-10, 35))
    centre = distance * np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    # Aimed below the neck, so that hips are seen, too.
    forward = rng.normal(0, 0.08, 3) + np.array([0, 0.15, 0]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward])
    R = rotation_matrix(np.array([0.0, 0.0, rng.normal(0, np.radians(4))])) @ level
    focal = float(min(width, height) * distance / rng.uniform(1.3, 1.9))
    k1 = rng.uniform(-0.15, 0.05)
    distortion = (k1, 0.6 * k1 * k1 + rng.uniform(0, 0.02), rng.normal(0, 5e-4), rng.normal(0, 5e-4), 0.0)
    return CalibratedCamera(
        name=name,
        width=width,
        height=height,
        K=((focal, 0.0, width / 2 - 0.5), (0.0, focal, height / 2 - 0.5), (0.0, 0.0, 1.0)),
        R=_matrix(R),
        t=_row(-R @ centre),
        distortion=tuple(float(value) for value in distortion),
    )


def _people(rng: np.random.Generator) -> list[Place]:
    """Where one or two people stand: chest frame to world."""
    middle = rng.normal(0, 0.12, 3)
    places = [Place(_chest(rng), middle)]
    if rng.random() < 0.2:
        side, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.8)
        offset = apart * np.array([np.sin(side), rng.normal(0, 0.1), np.cos(side)])
        places = [Place(places[0].rotation, middle - offset / 2), Place(_chest(rng), middle + offset / 2)]
    return places


def _chest(rng: np.random.Generator) -> FloatArray:
    """A chest [3, 3] in the world: turned anywhere, leaning a little."""
    turn = rotation_matrix(np.array([0.0, rng.uniform(-np.pi, np.pi), 0.0]))
    lean = rotation_matrix(np.array([rng.normal(np.radians(4), np.radians(8)), 0.0, 0.0]))
    tilt = rotation_matrix(np.array([0.0, 0.0, rng.normal(0, np.radians(5))]))
    return np.asarray(np.diag([-1.0, -1.0, 1.0]) @ turn @ lean @ tilt)


def _seen(view: CalibratedCamera, stand: Place) -> Place:
    """Chest frame to camera frame of who stands in the world."""
    return Place(np.array(view.R) @ stand.rotation, view.local(stand.translation))


def _row(values: FloatArray) -> Row:
    return float(values[0]), float(values[1]), float(values[2])


def _matrix(values: FloatArray) -> Matrix:
    return _row(values[0]), _row(values[1]), _row(values[2])
