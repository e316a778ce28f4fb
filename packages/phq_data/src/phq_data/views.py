"""Calibrated views: cameras, and the photos that they took of the same people at the same instants.

The file of `phq accuracy --views`, JSON:

    {"format": "phq-views/1",
     "cameras": [{"name": "left", "width": 1920, "height": 1080,
                  "K": [[1400, 0, 960], [0, 1400, 540], [0, 0, 1]], "distortion": [k1, k2, p1, p2, k3],
                  "R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "t": [0, 0, 3]}],
     "photos": [{"file": "left/0001.jpg", "camera": "left", "instant": "0001"}]}

Conventions are OpenCV's: x_camera = R x_world + t in metres, x right, y down, z forward; K in pixels, the
middle of the first pixel is (0, 0); distortion of 0, 4 (k1 k2 p1 p2), 5 (k3) or 8 (k4 k5 k6) numbers. Points
of an image are in this module, as everywhere else here, in pixels from the image's corner: the middle of the
first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from phq_data.arrays import FloatArray
from phq_data.errors import PhqError
from phq_data.files import read_written_text, write_text
from phq_data.foreign import reading
from phq_data.typed_json import read_text

FORMAT: Literal["phq-views/1"] = "phq-views/1"
MOST_APART = 200.0
"""Metres between two cameras of one studio; more is a unit taken for another."""
Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]


class ViewsError(PhqError, ValueError):
    """Calibrated views that cannot be used; the message names the camera or photo."""


@dataclass(frozen=True)
class CalibratedCamera:
    """A pinhole camera with lens distortion, and where it stands."""

    name: str
    width: int
    height: int
    K: Matrix  # pixels
    R: Matrix  # world to camera
    t: Row  # metres
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise `ViewsError` unless this is a camera."""
        inner, rotation = np.array(self.K), np.array(self.R)
        if self.width < 1 or self.height < 1:
            raise ViewsError(f"camera '{self.name}': its images have no size ({self.width}x{self.height})")
        if not (inner[0, 0] > 0 and inner[1, 1] > 0) or inner[1, 0] != 0 or (inner[2] != (0, 0, 1)).any():
            raise ViewsError(
                f"camera '{self.name}': K is no camera matrix; it is [[fx, s, cx], [0, fy, cy], [0, 0, 1]] "
                "with positive focal lengths in pixels"
            )
        with np.errstate(all="ignore"):  # of numbers whose squares no float holds
            off = np.abs(rotation @ rotation.T - np.eye(3)).max()
        if not off <= 1e-3 or np.linalg.det(rotation) < 0:
            raise ViewsError(
                f"camera '{self.name}': R is no rotation; it turns the world's axes into the camera's "
                "(a Rodrigues vector must be made a matrix first)"
            )
        if len(self.distortion) not in (0, 4, 5, 8):
            raise ViewsError(
                f"camera '{self.name}': distortion has 4, 5 or 8 numbers (k1 k2 p1 p2 k3 k4 k5 k6), not "
                f"{len(self.distortion)}; fisheye lenses are not supported"
            )

    @property
    def centre(self) -> FloatArray:
        """Where the camera stands in the world [3], metres."""
        return np.asarray(-np.array(self.R).T @ np.array(self.t))

    def local(self, points: ArrayLike) -> FloatArray:
        """Points [..., 3] of the world in the camera's frame, metres."""
        return np.asarray(np.asarray(points, np.float64) @ np.array(self.R).T + np.array(self.t))

    def project(self, points: ArrayLike) -> FloatArray:
        """Pixels [..., 2] of points [..., 3] of the world in front of the camera."""
        local = self.local(points)
        ideal = local[..., :2] / local[..., 2:]
        seen = distorted(ideal, self.distortion)
        inner = np.array(self.K)
        return np.asarray(seen @ inner[:2, :2].T + inner[:2, 2] + 0.5)

    def bearings(self, pixels: ArrayLike) -> FloatArray:
        """x/z and y/z [..., 2] in the camera's frame of what is seen at `pixels` [..., 2].

        nan where the distortion cannot be undone: outside of what the lens can show.
        """
        inner = np.array(self.K)
        seen = (np.asarray(pixels, np.float64) - 0.5 - inner[:2, 2]) @ np.linalg.inv(inner[:2, :2]).T
        return undistorted(seen, self.distortion)


@dataclass(frozen=True)
class ViewPhoto:
    """A photo: its file (the name, or as much of the path as tells it from others), camera and instant."""

    file: str
    camera: str
    instant: str


@dataclass(frozen=True)
class Views:
    """All cameras and photos of one file."""

    cameras: tuple[CalibratedCamera, ...]
    photos: tuple[ViewPhoto, ...]
    format: Literal["phq-views/1"] = FORMAT

    def __post_init__(self) -> None:
        """Raise `ViewsError` for names given twice, unknown cameras, and where nothing is seen twice."""
        names = [camera.name for camera in self.cameras]
        _refuse_twice(names, "camera")
        _refuse_twice([photo.file for photo in self.photos], "photo")
        for photo in self.photos:
            if photo.camera not in names:
                raise ViewsError(
                    f"photo '{photo.file}' is of camera '{photo.camera}', which is not among the cameras "
                    f"({', '.join(names)})"
                )
        _refuse_twice([f"{photo.camera}' at instant '{photo.instant}" for photo in self.photos], "photo of")
        instants = Counter(photo.instant for photo in self.photos)
        if not instants or max(instants.values()) < 2:
            raise ViewsError(
                "no instant has photos of two cameras: photos of one moment carry the same 'instant', and "
                "nothing can be triangulated from one view"
            )

        centres = np.stack([camera.centre for camera in self.cameras])
        with np.errstate(all="ignore"):
            apart = np.linalg.norm(centres[:, None] - centres, axis=-1).max()
        if not apart <= MOST_APART:
            raise ViewsError(
                f"the cameras stand up to {apart:,.0f} m apart: t is in metres, neither cm nor mm"
            )

    def camera(self, name: str) -> CalibratedCamera:
        """The camera of this name."""
        return next(camera for camera in self.cameras if camera.name == name)


def read_views(path: str | Path) -> Views:
    """The views of a file. Raises `ViewsError` naming the file and what is wrong with it."""
    try:
        with reading(path, ViewsError, "docs/accuracy.md describes the file"):
            return read_text(Views, read_written_text(path))
    except FileNotFoundError:
        raise ViewsError(f"there is no file {path}; docs/accuracy.md describes it") from None
    except PhqError as error:
        raise error if str(error).startswith(str(path)) else ViewsError(f"{path}: {error}") from error


def write_views(path: str | Path, views: Views) -> None:
    """Write views as a file that `read_views` reads. Raises `OutputError`."""
    write_text(path, json.dumps(dataclasses.asdict(views), indent=1))


def distorted(ideal: ArrayLike, distortion: tuple[float, ...]) -> FloatArray:
    """What a lens makes of ideal points [..., 2] (x/z, y/z): OpenCV's radial and tangential distortion."""
    points = np.asarray(ideal, np.float64)
    if not distortion:
        return points
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *[0.0] * (8 - len(distortion)))
    x, y = points[..., 0], points[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def undistorted(seen: ArrayLike, distortion: tuple[float, ...]) -> FloatArray:
    """The inverse of `distorted`: ideal points [..., 2] of seen ones [..., 2], by Newton's method.

    nan where there is none, or where the lens model folds (its derivative is not positive there).
    """
    target = np.asarray(seen, np.float64)
    if not distortion:
        return target
    points, step = target.copy(), 1e-6
    with np.errstate(all="ignore"):
        for _ in range(30):
            here = distorted(points, distortion)
            columns = [
                (distorted(points + offset, distortion) - distorted(points - offset, distortion)) / (2 * step)
                for offset in (np.array([step, 0.0]), np.array([0.0, step]))
            ]
            (a, c), (b, d) = (np.moveaxis(column, -1, 0) for column in columns)
            determinant = a * d - b * c
            off = target - here
            points = points + np.stack(
                [d * off[..., 0] - b * off[..., 1], a * off[..., 1] - c * off[..., 0]], axis=-1
            ) / determinant[..., None]  # fmt: skip
        sound = (np.abs(distorted(points, distortion) - target).max(axis=-1) < 1e-9) & (determinant > 0)
    return np.where(sound[..., None], points, np.nan)


def _refuse_twice(names: list[str], kind: str) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ViewsError(f"{kind} '{name}' is there {count} times")
