"""Head boxes and vertex maps that users bring from the reference's own tools, for its crop.

Both go by the photo's file name and the person's number in the keypoint file (data specification, sections 2
and 9): `head_bbox_yolov5_crowdhuman.json` has one box for each person of a photo, and the vertex map of
person 1 in `beach.jpg` is called `beach_1_seg0.png`.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.config import ConfigError, PipelineConfig
from phq_data.errors import ModelError
from phq_data.images.codecs import PhotoError, decode_struct, image_struct
from phq_data.models.keypoint_file import read_photo_table, upright

_MAP_SIDE = 1024  # pixels a side of crop A
_MAP_NAME = re.compile(r"(?P<stem>.+)_(?P<person>\d+)_seg\d+\.png", re.DOTALL)


class HeadBoxFile:
    """Head boxes by photo and person: {image file name: [{"bbox": [x, y, w, h] or [], ...} a person]}."""

    def __init__(self, path: str | Path) -> None:
        """Read the file. Raises `ModelError` naming it and the photo whose entry is not whole."""
        self.path = Path(path).expanduser()
        data, entries = read_photo_table(self.path, "head-box")
        self._boxes = {str(name): self._checked(str(name), people) for name, people in entries.items()}
        self.fingerprint = f"heads-{hashlib.sha256(data).hexdigest()[:12]}"

    def box(
        self,
        name: str,  # of the photo's file
        person: int,  # number in the photo
        people: int,  # in the photo
        size: tuple[int, int],  # width, height of the upright photo
        orientation: int,  # EXIF's
    ) -> FloatArray | None:
        """The person's head box [4] (x, y, width, height) in the upright photo; None when nobody found one.

        Raises `ModelError` for a photo that the file does not name, or names with another number of people.
        """
        boxes = self._boxes.get(name)
        if boxes is None:
            raise ModelError(f"the head-box file {self.path} does not name {name}")
        if len(boxes) != people:
            raise ModelError(
                f"the head-box file {self.path} has {len(boxes)} people in {name}, the keypoints {people}"
            )
        box = boxes[person]
        if box is None:
            return None
        corners = upright(np.array([box[:2], box[:2] + box[2:]]), size, orientation)
        return np.concatenate([corners.min(axis=0), np.ptp(corners, axis=0)])

    def _checked(self, name: str, people: object) -> list[FloatArray | None]:
        fault = ModelError(
            f"the head-box file {self.path}: the people of {name} do not have a 'bbox' of 4 numbers each"
        )
        if not isinstance(people, list):
            raise fault
        boxes: list[FloatArray | None] = []
        for person in people:
            try:
                box = np.asarray(person["bbox"], np.float64)
            except (KeyError, TypeError, ValueError):
                raise fault from None
            if box.size == 0:
                boxes.append(None)
            elif box.shape == (4,) and np.isfinite(box).all():
                boxes.append(box)
            else:
                raise fault
        return boxes


class VertexMapFolder:
    """The DensePose vertex maps in a folder, by the photo's name up to its first dot and the person."""

    def __init__(self, folder: str | Path) -> None:
        """List the folder. Raises `ModelError` when it is not there or holds no map."""
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ModelError(f"there is no folder {self.folder} with vertex maps")
        self._maps: dict[tuple[str, int], list[Path]] = defaultdict(list)
        state = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if match := _MAP_NAME.fullmatch(path.name):
                self._maps[match["stem"], int(match["person"])].append(path)
                told = path.stat()
                state.update(f"{path.name}\0{told.st_size}\0{told.st_mtime_ns}\n".encode())
        if not self._maps:
            raise ModelError(f"{self.folder} holds no vertex map; they are called NAME_PERSON_segNUMBER.png")
        self.fingerprint = f"maps-{state.hexdigest()[:12]}"

    def maps(self, name: str, person: int) -> list[Path]:
        """The maps of one person of the photo called `name`; those of person 10 are not person 1's."""
        return self._maps.get((name.split(".", 1)[0], person), [])


@dataclass(frozen=True, eq=False)
class ReferenceInputs:
    """What the user brought for the reference's crop."""

    head_boxes: HeadBoxFile | None = None
    vertex_maps: VertexMapFolder | None = None

    @property
    def fingerprints(self) -> dict[str, str]:
        """What is there, by name."""
        there = {"head_boxes": self.head_boxes, "vertex_maps": self.vertex_maps}
        return {name: one.fingerprint for name, one in there.items() if one is not None}


def check(config: PipelineConfig) -> None:
    """`ConfigError` when what is given cannot be used with the other settings."""
    crop = config.crop
    for name in ("head_boxes", "vertex_maps"):
        if getattr(crop, name) and crop.mode != "reference":
            raise ConfigError(f"crop.{name} is for crop.mode=reference, not {crop.mode}")
    if crop.head_boxes and not config.detect.model.startswith("keypoints:"):
        raise ConfigError(
            "crop.head_boxes numbers the people of a keypoint file: it goes with detect.model=keypoints:FILE"
        )
    if crop.vertex_maps and config.fit.model != "3dcrowdnet":
        raise ConfigError("crop.vertex_maps name vertices of SMPL: they go with fit.model=3dcrowdnet")


def load(config: PipelineConfig) -> ReferenceInputs:
    """What the settings name. Raises `ConfigError` or `ModelError`."""
    check(config)
    crop = config.crop
    return ReferenceInputs(
        HeadBoxFile(crop.head_boxes) if crop.head_boxes else None,
        VertexMapFolder(crop.vertex_maps) if crop.vertex_maps else None,
    )


def read_vertex_map(path: Path) -> NDArray[np.uint8]:
    """A map's pixels [1024, 1024, 3]. Raises `ModelError` when it cannot be read or has another size."""
    try:
        pixels = decode_struct(image_struct(path.read_bytes(), path.name))
    except (OSError, PhotoError) as error:
        raise ModelError(f"the vertex map {path} cannot be read: {error}") from error
    if pixels.shape != (_MAP_SIDE, _MAP_SIDE, 3):
        shape = " x ".join(map(str, pixels.shape))
        raise ModelError(f"the vertex map {path} is {shape}, not {_MAP_SIDE} x {_MAP_SIDE} x 3")
    return pixels
