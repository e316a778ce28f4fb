"""Folders of the reference pipeline: `aligned_images`, `mask` and `result.json` of its last crop (crop B)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phq_data import camera
from phq_data.files import read_written_text
from phq_data.foreign import parse_json
from phq_data.interchange.eg3d import read_pair
from phq_data.interchange.portrait import ExchangeError, ReferencePortrait, check

_SUFFIX = "_new_crop"


def read(folder: Path) -> Iterator[ReferencePortrait]:
    """The portraits of a folder: the authors' own, or one with `dataset.zip` and `seg_dataset.zip`."""
    if (folder / "dataset.zip").exists():
        return read_pair(folder / "dataset.zip", folder / "seg_dataset.zip")
    return read_folder(folder)


def read_folder(folder: Path) -> Iterator[ReferencePortrait]:
    """The portraits of `result.json` (data specification, section 10), by name.

    Raw photos are looked for in the folder's own `images` and in those of the folder that crop B was made
    from. Raises `ExchangeError` for a folder of crop A, whose images show more than their labels' cameras
    do, and for images or masks that are not there.
    """
    path = folder / "result.json"
    try:
        entries = parse_json(read_written_text(path), finite=False)
    except FileNotFoundError:
        raise ExchangeError(f"{folder} has neither result.json nor dataset.zip") from None
    except (OSError, ValueError) as error:
        raise ExchangeError(f"{path} cannot be read ({error})") from error
    if not isinstance(entries, Mapping) or not entries:
        raise ExchangeError(f"{path} holds no portraits")
    for name in sorted(entries):
        yield _portrait(folder, name, entries[name], path)


def _portrait(folder: Path, name: str, entry: Any, path: Path) -> ReferencePortrait:
    if not isinstance(entry, Mapping) or Path(name).name != name:
        raise ExchangeError(f"{path}: {name!r} is no portrait")
    if "intrisics" in entry:
        raise ExchangeError(f"{path} is of the first crop; import the folder whose name ends in {_SUFFIX}")
    try:
        pose = np.asarray(entry["smpl_pose"], np.float64).reshape(-1)
        cam2world = np.asarray(entry["camera_pose"], np.float64).reshape(4, 4)
        x, y, side = (float(v) for v in np.asarray(entry["bbox"], np.float64).reshape(4)[:3])
        raw = str(entry["raw_image_name"])
        neck_head = np.concatenate([pose[36:39], pose[45:48]]).astype(np.float32)
        if pose.size != 72:
            raise ValueError(f"smpl_pose has {pose.size} numbers, not 72")
    except (KeyError, TypeError, ValueError) as error:
        raise ExchangeError(f"{path}: the entry of {name} is not whole ({error})") from error
    label = camera.to_label(cam2world)
    check(label, neck_head, name)
    data = []
    for kind in ("aligned_images", "mask"):
        file = folder / kind / name
        if not file.is_file():
            raise ExchangeError(f"{path} names {name}, but there is no file {file}")
        data.append(file.read_bytes())
    photo = _raw(folder, raw)
    window = (x, y, side) if photo else None
    return ReferencePortrait(name, data[0], data[1], label, neck_head, photo, window)


def _raw(folder: Path, name: str) -> Path | None:
    if Path(name).name != name:
        return None
    places = [folder / "images"]
    if folder.name.endswith(_SUFFIX):
        places.append(folder.with_name(folder.name.removesuffix(_SUFFIX)) / "images")
    return next((place / name for place in places if (place / name).is_file()), None)
