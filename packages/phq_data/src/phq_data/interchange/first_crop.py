"""Folders of the reference's first crop, finished here: re-aligned by DensePose maps, cut anew, masked.

And the other way: the first crops of a workspace, for DensePose to look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.files import read_written_text
from phq_data.foreign import parse_json
from phq_data.images.codecs import PhotoError, decode, decode_struct, encode_image, image_struct
from phq_data.interchange import reference
from phq_data.interchange.portrait import ExchangeError, ReferencePortrait, check
from phq_data.models.protocols import Segmenter
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.photos import read_photo
from phq_data.records import Row
from phq_data.rig import PortraitRig
from phq_data.stages.crop import TIGHTER, CropError, Window
from phq_data.stages.ingest import open_photo
from phq_data.stages.mask import person_mask
from phq_data.stages.realign import CANVAS, decode_vertex_map, nearest, realign
from phq_data.stages.resample import resample
from phq_data.text import file_name
from phq_data.workspace import Workspace

_MAX_PIXELS = 150_000_000


def is_first_crop(folder: Path) -> bool:
    """Is the folder's `result.json` of crop A?"""
    try:
        entries = parse_json(read_written_text(folder / "result.json"), finite=False)
        return any("intrisics" in entry for entry in entries.values())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def read_any(
    folder: Path, *, masks: str = "selfie", published_center_formula: bool = False
) -> Iterator[ReferencePortrait]:
    """The portraits of a folder of the reference tools, whichever of their crops it holds.

    `masks` names the segmenter for crop A, which also needs the added SMPL file: `ModelError` without it.
    """
    if not folder.is_dir():
        raise ExchangeError(f"there is no folder {folder}")
    if not is_first_crop(folder):
        return reference.read(folder)
    from phq_data.bodies.smpl import default_rig
    from phq_data.models.registry import segmenter

    return finish(
        folder,
        default_rig(),
        segmenter(masks, include_bystanders=True),
        published_center_formula=published_center_formula,
    )


def finish(
    folder: Path,
    rig: PortraitRig,  # SMPL's
    segmenter: Segmenter,
    *,
    size: int = 1024,
    published_center_formula: bool = False,
) -> Iterator[ReferencePortrait]:
    """The final portraits of a crop-A folder with `result.json`, `images` and, where they are, maps in `seg`.

    A portrait without a map of its person keeps its centre and gets three quarters of its side, as in the
    reference. Raises `ExchangeError` for entries that are not whole and photos that are not there.
    """
    path = folder / "result.json"
    try:
        entries = parse_json(read_written_text(path), finite=False)
    except (OSError, ValueError) as error:
        raise ExchangeError(f"{path} cannot be read ({error})") from error
    for name in sorted(entries):
        yield _portrait(folder, name, entries[name], rig, segmenter, size, published_center_formula)


def _portrait(
    folder: Path,
    name: str,
    entry: dict[str, Any],
    rig: PortraitRig,
    segmenter: Segmenter,
    size: int,
    published_center_formula: bool,
) -> ReferencePortrait:
    try:
        pose = np.asarray(entry["smpl_pose"], np.float64).reshape(72)
        cam2world = np.asarray(entry["camera_pose"], np.float64).reshape(4, 4)
        x, y, side = (float(v) for v in np.asarray(entry["bbox"], np.float64).reshape(4)[:3])
        joints = np.asarray(entry["coco_joint"], np.float64).reshape(19, 3)[:17]
        raw = Path(str(entry["raw_image_name"])).name
    except (KeyError, TypeError, ValueError) as error:
        raise ExchangeError(
            f"{folder / 'result.json'}: the entry of {name} is not whole ({error})"
        ) from error
    label = camera.to_label(cam2world)
    neck_head = np.concatenate([pose[36:39], pose[45:48]]).astype(np.float32)
    check(label, neck_head, name)
    photo = folder / "images" / raw
    try:
        pixels = decode(photo.read_bytes(), max_pixels=_MAX_PIXELS).pixels
        found = [
            realign(decode_vertex_map(_image(file)), rig, cam2world, neck_head)
            for file in vertex_maps(folder / "seg", Path(name).stem)
        ]
        best = nearest(found)
        first = Window(x, y, side)
        window = (
            first.scaled(TIGHTER)
            if best is None
            else best.window(first, published_center_formula=published_center_formula)
        )
        image = resample(pixels, window, size).pixels
    except (PhotoError, CropError, OSError) as error:
        raise ExchangeError(f"{name} cannot be cut from {photo}: {error}") from error
    here: FloatArray = window.keypoints(joints, size)
    photo_size = (pixels.shape[1], pixels.shape[0])
    mask = person_mask(image, window, photo_size, here, [], segmenter)
    return ReferencePortrait(
        name,
        encode_image(image, "png")[0],
        encode_image(mask, "png")[0],
        label,
        neck_head,
        photo,
        (window.x, window.y, window.side),
        joints,
    )


def write(workspace: Workspace, out: Path) -> int:
    """The first crops of a workspace built in the reference's crop mode, as `OUT/NAME_PERSON.png`; how many.

    DensePose makes vertex maps of them, and `crop.vertex_maps` takes those in the next build. Raises
    `ExchangeError` for a workspace with other crops, with heads already re-aligned, or with two photos whose
    names are the same up to the first dot.
    """
    max_pixels = load_config(workspace).ingest.max_pixels
    count = 0
    names: dict[str, str] = {}
    for part in workspace.parts("tables/portraits"):
        columns = ["photo_id", "person_id", "window", "crop_mode", "models"]
        by_photo: dict[str, list[Row]] = {}
        for row in workspace.read_part("tables/portraits", part, columns).to_pylist():
            if row["crop_mode"] != "reference" or "vertex_maps" in json.loads(row["models"]):
                raise ExchangeError(
                    f"{workspace.url} does not hold first crops: build with crop.mode=reference and without "
                    "crop.vertex_maps"
                )
            by_photo.setdefault(row["photo_id"], []).append(row)
        people = workspace.read_part("tables/people", part, ["person_id", "order"]).to_pylist()
        order = {row["person_id"]: row["order"] for row in people}
        for photo in workspace.read_part("tables/photos", part).to_pylist():
            if photo["photo_id"] not in by_photo:
                continue
            stem = file_name(photo["uri"]).split(".", 1)[0]
            if names.setdefault(stem, photo["photo_id"]) != photo["photo_id"]:
                raise ExchangeError(f"two photos are called {stem}: their maps could not be told apart")
            pixels = open_photo(photo["photo_id"], read_photo(workspace, photo["key"]), max_pixels)
            for row in by_photo[photo["photo_id"]]:
                first = Window(*row["window"]).scaled(1 / TIGHTER)
                data = encode_image(resample(pixels, first, CANVAS).pixels, "png")[0]
                (out / f"{stem}_{order[row['person_id']]}.png").write_bytes(data)
                count += 1
    return count


def vertex_maps(folder: Path, stem: str) -> list[Path]:
    """The maps `STEM_segN.png` of one portrait; those of person 10 are not person 1's."""
    if not folder.is_dir():
        return []
    wanted = re.compile(re.escape(stem) + r"_seg\d+\.png")
    return sorted(file for file in folder.iterdir() if wanted.fullmatch(file.name))


def _image(file: Path) -> np.ndarray:
    return decode_struct(image_struct(file.read_bytes(), file.name))
