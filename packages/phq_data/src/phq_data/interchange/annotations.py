"""Kept portraits as other tools take them: image, box, keypoints and mask of a person, the label in degrees.

The label is said in nine numbers that people can read and change: the camera's yaw, pitch and roll, and the
axis-angles of neck and head.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phq_data import camera
from phq_data.arrays import FloatArray, ImageArray
from phq_data.images.codecs import PhotoError, decode_struct, image_struct
from phq_data.interchange.portrait import ExchangeError
from phq_data.interchange.tables import kept_rows
from phq_data.workspace import Workspace

NUMBERS = ("yaw", "pitch", "roll", "neck_x", "neck_y", "neck_z", "head_x", "head_y", "head_z")
"""The label in degrees: camera angles, then axis-angles of neck and head."""
DIGITS = 4  # of a degree, after the point
UNDECIDED = "undecided"
SEEN = 0.3
"""Score from which on a keypoint counts as seen."""
_PORTRAIT = ("portrait_id", "photo_id", "camera", "pose", "keypoints", "image", "mask")
_PHOTO = ("photo_id", "title", "author", "page_url", "license", "license_url")


@dataclass(frozen=True, eq=False)
class Annotated:
    """A portrait and what is known of it."""

    portrait_id: str
    photo_id: str
    file: str  # name of the image
    image: bytes
    mask_bytes: bytes
    mask: ImageArray  # [S, S]
    camera: list[float]  # [25]
    pose: list[float]  # [6] radians
    numbers: dict[str, float]  # by the names of NUMBERS, degrees
    keypoints: FloatArray  # [17, 3] x, y in portrait pixels, score
    photo: dict[str, Any]  # title, author, page_url, license, license_url
    verdict: str  # of the reviewers: accept, reject, flag, undecided

    @property
    def side(self) -> int:
        """Pixels of the image, which is square."""
        return int(self.mask.shape[0])

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the person's mask; all of the image where it is empty."""
        rows, columns = (np.flatnonzero((self.mask > 127).any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return 0, 0, self.side, self.side
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def annotated(workspace: Workspace, verdicts: dict[str, str]) -> Iterator[Annotated]:
    """The kept portraits, part by part; `verdicts` by portrait. Raises `ExchangeError` for damaged images."""
    photos = {row["photo_id"]: row for row in workspace.table("photos", list(_PHOTO)).to_pylist()}
    for row in kept_rows(workspace, _PORTRAIT):
        name, data = row["portrait_id"], row["image"]["bytes"]
        try:
            mask = decode_struct(image_struct(row["mask"]["bytes"], name))
        except PhotoError as error:
            raise ExchangeError(f"the mask of portrait {name} cannot be read: {error}") from error
        photo = photos.get(row["photo_id"], {})
        yield Annotated(
            name, row["photo_id"], f"{name}{_suffix(data, name)}", data, row["mask"]["bytes"], mask,
            row["camera"], row["pose"], numbers_of(row["camera"], row["pose"]),
            np.asarray(row["keypoints"], np.float64).reshape(17, 3),
            {key: photo.get(key) for key in _PHOTO[1:]}, verdicts.get(name, UNDECIDED),
        )  # fmt: skip


def numbers_of(label: Any, pose: Any) -> dict[str, float]:
    """A label [25] with its pose [6] in degrees, by the names of NUMBERS."""
    angles = camera.angles(camera.from_label(np.asarray(label))[0])
    values = np.degrees([*(float(one) for one in angles), *np.asarray(pose, np.float64)])
    return {name: round(float(value), DIGITS) + 0.0 for name, value in zip(NUMBERS, values, strict=True)}


def into_folder(out: Path, write: Callable[[Path], int]) -> int:
    """What `write` puts into a folder, at `out`, whole or not at all; returns how many portraits it wrote.

    Raises `ExchangeError` for a folder that holds something and where there is no portrait.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExchangeError(f"{out} holds something already: give a new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            count = write(made)
            if not count:
                raise ExchangeError("there is no portrait to write: the screening kept none")
            if out.exists():
                out.rmdir()
            shutil.move(made, out)
    except OSError as error:
        raise ExchangeError(f"{out} cannot be written ({error.strerror or error})") from error
    return count


def images_into(folder: Path, portraits: Iterable[Annotated]) -> Iterator[Annotated]:
    """The portraits, each after its image was written into `folder`."""
    folder.mkdir()
    for one in portraits:
        (folder / one.file).write_bytes(one.image)
        yield one


def _suffix(data: bytes, name: str) -> str:
    """The suffix of an encoded image, by its first bytes."""
    for begin, suffix in ((b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"\xff\xd8", ".jpg")):
        if data.startswith(begin):
            return suffix
    raise ExchangeError(
        f"the image of portrait {name} is neither PNG, WebP nor JPEG: other tools cannot show it"
    )
