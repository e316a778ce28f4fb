"""Portraits of other tools into a workspace's tables, and a workspace's portraits out again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phq_data import camera, config, schema
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.template import template_joints
from phq_data.images.codecs import PhotoError, decode, decode_struct, image_struct, perceptual_hash
from phq_data.interchange.portrait import ExchangeError, ReferencePortrait
from phq_data.records import Row
from phq_data.stages.align import posed_template
from phq_data.workspace import Workspace

IMPORTED = "imported-reference-1"
"""Detector, fitter and segmenter of imported rows: nobody here made them."""
_MODELS = json.dumps({"detector": IMPORTED, "fitter": IMPORTED, "segmenter": IMPORTED, "rig": ""})
PART = 64
_UNFINISHED = "import-unfinished.json"
_MAX_PIXELS = 150_000_000
_LARGEST_PHASH_SIDE = 512


def into_workspace(portraits: Iterable[ReferencePortrait], workspace: Workspace, source: str) -> int:
    """Write portraits as tables of an empty workspace and return how many.

    Their images, masks, cameras and poses stay as they are, bit for bit (numbers as float32). Each has a
    row in every table: the photo is the raw one where it is still there, else the image itself; the fit is
    what the label says, SMPL's neutral body in front of the image's camera. All count as kept, since the
    authors' tools let them pass. Nothing is known of rights. Raises `ExchangeError` for a workspace that has
    photos and for images that cannot be read; then, and in the next import after a kill, what had come in
    goes out again.
    """
    with workspace.lock(wait=False):
        if workspace.exists(_UNFINISHED):
            _clear(workspace)
        if workspace.parts("tables/photos"):
            raise ExchangeError(f"{workspace.url} holds photos already: import into a new workspace")
        workspace.write_bytes(_UNFINISHED, json.dumps({"source": source}).encode())
        try:
            count = _write(portraits, workspace, source)
        except BaseException:
            _clear(workspace)
            raise
        workspace.remove(_UNFINISHED)
    return count


def _clear(workspace: Workspace) -> None:
    """Take out what an import that did not end brought into a workspace that was empty."""
    for folder in ("tables", "photos"):
        workspace.remove_folder(folder)
    workspace.remove(_UNFINISHED)


def _write(portraits: Iterable[ReferencePortrait], workspace: Workspace, source: str) -> int:
    workspace.write_bytes("config.json", config.paper().to_json().encode())
    _write_rig(workspace)
    count, part, batch = 0, 0, []
    for portrait in portraits:
        batch.append(portrait)
        if len(batch) == PART:
            _write_part(workspace, part, batch, source, count)
            count, part, batch = count + len(batch), part + 1, []
    if batch:
        _write_part(workspace, part, batch, source, count)
        count += len(batch)
    if not count:
        raise ExchangeError(f"{source} holds no portraits")
    workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", []), IMPORTED)
    return count


def kept_portraits(workspace: Workspace) -> Iterator[ReferencePortrait]:
    """The portraits of `kept_rows`. Imported ones come in their old order; others by that of their parts."""
    for row in kept_rows(workspace, ("portrait_id", "camera", "pose", "image", "mask")):
        yield ReferencePortrait(
            row["portrait_id"],
            row["image"]["bytes"],
            row["mask"]["bytes"],
            np.asarray(row["camera"], np.float32),
            np.asarray(row["pose"], np.float32),
        )


def kept_rows(workspace: Workspace, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of the kept portraits, representatives of near-duplicates only, part by part.

    `columns` of the table; `portrait_id` is one of them.
    """
    dropped = {
        row["portrait_id"]
        for row in workspace.table("duplicates", ["portrait_id", "representative"]).to_pylist()
        if not row["representative"]
    }
    for part in workspace.parts("tables/portraits"):
        screened = workspace.read_part("tables/screened", part, ["portrait_id", "kept"]).to_pylist()
        kept = {row["portrait_id"] for row in screened if row["kept"]} - dropped
        for row in workspace.read_part("tables/portraits", part, list(columns)).to_pylist():
            if row["portrait_id"] in kept:
                yield row


def _write_rig(workspace: Workspace) -> None:
    """SMPL's rig, when the user has its file: overlays and releases need it, the import does not."""
    from phq_data.bodies.smpl import default_rig
    from phq_data.weights import store

    if store.record("smpl") is not None:
        workspace.write_bytes("rig.safetensors", default_rig().to_bytes())


def _write_part(
    workspace: Workspace, part: int, portraits: list[ReferencePortrait], source: str, first: int
) -> None:
    tables: dict[str, list[Row]] = {
        name: [] for name in ("photos", "people", "fits", "portraits", "screened")
    }
    known: set[str] = set()
    for offset, portrait in enumerate(portraits):
        rows = _rows(workspace, portrait, source, first + offset)
        if rows["photos"]["photo_id"] in known:
            del rows["photos"]
        else:
            known.add(rows["photos"]["photo_id"])
        for name, row in rows.items():
            tables[name].append(row)
    for name, listed in tables.items():
        workspace.write_part(f"tables/{name}", part, schema.to_table(name, listed), IMPORTED)


def _rows(workspace: Workspace, portrait: ReferencePortrait, source: str, number: int) -> dict[str, Row]:
    try:
        pixels = decode_struct(image_struct(portrait.image, portrait.name))
        mask = decode_struct(image_struct(portrait.mask, portrait.name))
        data = portrait.photo.read_bytes() if portrait.photo else portrait.image
        photo = decode(data, max_pixels=_MAX_PIXELS)
    except (PhotoError, OSError) as error:
        raise ExchangeError(f"{portrait.name} cannot be read: {error}") from error
    size = pixels.shape[0]
    if pixels.shape != (size, size, 3) or mask.shape[:2] != (size, size):
        raise ExchangeError(f"{portrait.name} is no square image with a mask of its size")
    photo_id = hashlib.sha256(data).hexdigest()
    extension = photo.format.lower()
    key = f"photos/{photo_id[:2]}/{photo_id}.{extension}"
    if not workspace.exists(key):
        workspace.write_bytes(key, data)
    window = portrait.window or (0.0, 0.0, float(photo.width))
    person_id = schema.make_id(photo_id, IMPORTED, number)
    fit_id = schema.make_id(person_id, IMPORTED)
    portrait_id = schema.make_id(person_id, portrait.image, portrait.mask)
    small = pixels[:: max(1, size // _LARGEST_PHASH_SIDE), :: max(1, size // _LARGEST_PHASH_SIDE)]
    where = portrait.photo or Path(portrait.name)
    links = {"person_id": person_id, "photo_id": photo_id}
    yaw, pitch, roll = (float(v) for v in camera.angles(camera.from_label(portrait.camera)[0]))
    unknown = np.zeros(51).tolist()
    fit = _label_as_fit(portrait, window)
    measured: dict[str, Any] = {
        "effective_resolution": window[2] / size,
        "padding": _outside(window, photo.width, photo.height),
        "landmark_error": 0.0,
        "shoulder_error": 0.0,
    }
    person = _mask_box(mask, window)
    return {
        "photos": {
            "photo_id": photo_id, "key": key, "width": photo.width, "height": photo.height,
            "format": photo.format, "bytes": len(data), "orientation": photo.orientation,
            "color": photo.color, "phash": perceptual_hash(photo.pixels), "exif_time": photo.exif_time,
            "provider": "folder", "source": source, "uri": str(where), "title": portrait.name,
        },
        "people": {
            **links, "detector": IMPORTED, "order": number, "box": person, "keypoints": unknown,
            "score": 1.0, "photo_width": photo.width, "photo_height": photo.height,
        },
        "fits": {**links, "fit_id": fit_id, **fit},
        "portraits": {
            **links, "portrait_id": portrait_id, "fit_id": fit_id, "camera": portrait.camera.tolist(),
            "pose": portrait.pose.tolist(), "yaw": yaw, "pitch": pitch, "roll": roll,
            "window": list(window), "size": size, "crop_mode": "reference", "keypoints": unknown,
            "codec": "png",
            "models": _MODELS,
            "image": image_struct(portrait.image, f"{portrait_id}.png"),
            "mask": image_struct(portrait.mask, f"{portrait_id}-mask.png"), **measured,
        },
        "screened": {
            "portrait_id": portrait_id, "photo_id": photo_id, "kept": True, "reasons": [], "blur": 1.0,
            "exposure_low": 0.0, "exposure_high": 0.0, "contrast": 1.0,
            "mask_share": float(mask.mean() / 255), "overlap": 0.0, "error_probability": 0.0,
            "phash": perceptual_hash(np.ascontiguousarray(small)), **measured,
        },
    }  # fmt: skip


def _label_as_fit(portrait: ReferencePortrait, window: tuple[float, float, float]) -> Row:
    """The label read as a fit: the neutral body, its head turned, in front of the image's camera."""
    cam2world, intrinsics = (np.asarray(a, np.float64) for a in camera.from_label(portrait.camera))
    posed = posed_template(template_joints("smpl"), portrait.pose)
    points = np.stack([posed[name] for name in JOINT_NAMES])
    rotation = cam2world[:3, :3].T
    translation = -rotation @ cam2world[:3, 3]
    return {
        "fitter": IMPORTED, "body": "smpl",
        "focal": float(intrinsics[0, 0] * window[2]),
        "principal": [window[0] + window[2] / 2, window[1] + window[2] / 2],
        "root_orient": _axis_angle(rotation), "translation": translation.tolist(),
        "pose": portrait.pose.tolist(), "shape": [0.0] * 10,
        "joints": (points @ rotation.T + translation).reshape(-1).tolist(),
        "residual": 0.0, "residuals": [float("nan")] * 17, "hypotheses": [], "converged": True,
    }  # fmt: skip


def _axis_angle(rotation: np.ndarray) -> list[float]:
    from scipy.spatial.transform import Rotation

    return [float(v) for v in Rotation.from_matrix(rotation).as_rotvec()]


def _mask_box(mask: np.ndarray, window: tuple[float, float, float]) -> list[float]:
    """The mask's box in photo pixels; the whole window when the mask is empty."""
    x, y, side = window
    rows, columns = (np.flatnonzero((mask > 127).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return [x, y, x + side, y + side]
    step = side / mask.shape[0]
    return [
        x + columns[0] * step, y + rows[0] * step, x + (columns[-1] + 1) * step, y + (rows[-1] + 1) * step,
    ]  # fmt: skip


def _outside(window: tuple[float, float, float], width: int, height: int) -> float:
    from phq_data.stages.crop import Window

    return Window(*window).outside_share(width, height)
