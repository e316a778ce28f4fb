"""Keypoints that somebody found before: the reference pipeline's JSON as a person detector.

Format (data specification, section 1): {image file name: [person][17][3 or more]}, rows of x, y, score in
COCO's order, in pixels of the stored image, whose EXIF orientation the reference ignores. People keep the
file's order: head boxes and vertex maps of the reference's tools count them by it (`given`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.errors import ModelError
from phq_data.foreign import parse_json
from phq_data.models.protocols import DetectedPerson

CODE_VERSION = 2  # raise it when the same file would give other people
_SURE = 0.05  # keypoints below do not count towards a person's box


def read_photo_table(path: Path, kind: str) -> tuple[bytes, dict[object, object]]:
    """(bytes, entries by photo) of a JSON file. Raises `ModelError` that calls it "the `kind` file"."""
    try:
        data = path.read_bytes()
        entries = parse_json(data, finite=False)
    except FileNotFoundError:
        raise ModelError(f"there is no {kind} file {path}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"the {kind} file {path} cannot be read ({error})") from error
    if not isinstance(entries, dict):
        raise ModelError(f"the {kind} file {path} is no table of photos")
    return data, entries


class KeypointFileDetector:
    """A `PersonDetector` for named photos; it uses no image."""

    def __init__(self, path: str | Path) -> None:
        """Read the file. Raises `ModelError` naming it and the photo whose entry is not whole."""
        self._path = Path(path).expanduser()
        data, entries = read_photo_table(self._path, "keypoint")
        self._people = {str(name): self._checked(str(name), people) for name, people in entries.items()}
        state = hashlib.sha256(f"{CODE_VERSION}".encode() + data)
        self.fingerprint = f"keypoints-{state.hexdigest()[:12]}"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """Nobody can be looked up by pixels [H, W, 3] alone: raises `ModelError`. See `detect_named`."""
        raise ModelError(f"the keypoints in {self._path} are of named photos; this one has no name")

    def detect_named(self, name: str, size: tuple[int, int], orientation: int) -> list[DetectedPerson]:
        """People of the photo called `name`, as in the file; nobody for a photo that it does not name.

        `size`: width and height of the upright photo; `orientation`: its EXIF orientation, 1..8.
        """
        found = []
        for rows in self._people.get(name, ()):
            points = rows.copy()
            points[:, :2] = upright(rows[:, :2], size, orientation)
            seen = points[points[:, 2] > _SURE]
            seen = seen if len(seen) else points
            box = np.concatenate([seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)])
            points[:, 2] = np.clip(points[:, 2], 0.0, 1.0)
            found.append(DetectedPerson(box, points, float(points[:, 2].mean())))
        return found

    def _checked(self, name: str, people: object) -> list[FloatArray]:
        try:
            rows = [np.asarray(person, np.float64)[:, :3] for person in people]  # type: ignore[attr-defined]
            whole = all(one.shape == (17, 3) and np.isfinite(one).all() for one in rows)
        except (TypeError, ValueError, IndexError):
            whole = False
        if not whole:
            raise ModelError(
                f"the keypoint file {self._path}: the people of {name} are not 17 rows of x, y, score each"
            )
        return rows


def upright(points: FloatArray, size: tuple[int, int], orientation: int) -> FloatArray:
    """Positions [N, 2] in the stored image as positions in the upright one of `size` (EXIF 1..8)."""
    width, height = size
    x, y = points[:, 0], points[:, 1]
    turned = {
        2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y), 5: (y, x),
        6: (width - y, x), 7: (width - y, height - x), 8: (y, height - x),
    }.get(orientation, (x, y))  # fmt: skip
    return np.stack(turned, axis=1)
