"""Workspaces of rendered portraits, written straight into the tables: fixtures of tests and benchmarks.

Portraits share a small pool of drawn figures, so that a queue of 100,000 takes seconds to make; everything
else (ids, labels, evidence, provenance) differs from row to row as in a real build.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from phq_data import camera, config, schema
from phq_data.bodies.anny import default_rig
from phq_data.rendering import renderer
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace

ROWS_A_PART = 512
_ALIKE = 16  # consecutive rows share an image: a row group, so that it is stored once
_PHOTO_WIDTH, _PHOTO_HEIGHT = 1200, 900


@dataclass(frozen=True)
class Figure:
    """A drawn portrait with its label."""

    portrait: bytes  # JPEG [size, size]
    mask: bytes  # PNG
    photo: bytes  # JPEG, the portrait within a larger image
    label: NDArray[np.float32]  # [25]
    pose: NDArray[np.float64]  # [6] radians
    angles: tuple[float, float, float]  # yaw, pitch, roll, radians
    window: tuple[float, float, float]  # x, y, side, pixels of the photo


def make_workspace(
    folder: Path,
    count: int,
    *,
    images: int = 12,  # different ones
    size: int = 512,
    faces: int | None = None,  # of the rig: a few hundred are drawn in no time
    photos: bool = True,  # a photo file a portrait; without, the original photos cannot be shown
    seed: int = 0,
    alike: int = _ALIKE,  # consecutive portraits of one image
) -> Workspace:
    """Write a workspace of `count` portraits that wait to be reviewed."""
    workspace = Workspace.open(folder, create=True)
    rig = default_rig()
    if faces is not None:
        rig = dataclasses.replace(rig, faces=rig.faces[:: max(1, len(rig.faces) // faces)])
    settings = config.default().replace_setting(f"crop.size={size}")
    workspace.write_bytes("config.json", settings.to_json().encode())
    workspace.write_bytes("rig.safetensors", rig.to_bytes())
    random = np.random.default_rng(seed)
    figures = [_figure(rig, number, images, size, random) for number in range(images)]
    for part, start in enumerate(range(0, count, ROWS_A_PART)):
        _write_part(
            workspace, part, range(start, min(count, start + ROWS_A_PART)), figures, photos, seed, alike
        )
    workspace.write_part("tables/duplicates", 0, schema.SCHEMAS["duplicates"].empty_table(), "fixture")
    return workspace


def portrait_id(number: int, seed: int = 0) -> str:
    """The id of portrait `number`."""
    return schema.make_id("fixture", seed, number)


def _figure(rig: PortraitRig, number: int, of: int, size: int, random: np.random.Generator) -> Figure:
    """A figure seen from around; every third one's label is off, so that there is something to reject."""
    yaw = (number + 0.5) / of * 2 * np.pi - np.pi
    pitch, roll = float(random.uniform(-0.25, 0.25)), float(random.uniform(-0.08, 0.08))
    pose = random.uniform(-0.15, 0.15, 6)
    true_label = camera.to_label(camera.from_angles(yaw, pitch, roll))
    vertices = rig.posed(pose)
    high, low = vertices[:, 1:2].max(), vertices[:, 1:2].min()
    share = np.clip((vertices[:, 1:2] - low) / (high - low) * 2.4 - 1.1, 0, 1)
    skin, shirt = random.uniform([0.55, 0.38, 0.3], [0.95, 0.75, 0.65]), random.uniform(0.1, 0.8, 3)
    drawn = renderer.render_mesh(
        vertices, rig.faces, *camera.from_label(true_label), size, share * skin + (1 - share) * shirt
    )
    alpha = drawn.rgba[..., 3:].astype(np.float64) / 255
    backdrop = _backdrop(_PHOTO_HEIGHT, _PHOTO_WIDTH, random)
    x, y = int(random.integers(0, _PHOTO_WIDTH - size)), int(random.integers(0, _PHOTO_HEIGHT - size))
    here = backdrop[y : y + size, x : x + size]
    here[:] = drawn.rgba[..., :3] * alpha + here * (1 - alpha)
    photo = np.clip(backdrop + random.normal(0, 3, backdrop.shape), 0, 255).astype(np.uint8)
    crop = photo[y : y + size, x : x + size]
    off = number % 3 == 2
    label = camera.to_label(camera.from_angles(yaw + 0.45, pitch + 0.1, roll + 0.12)) if off else true_label
    return Figure(
        portrait=_encoded(crop, "JPEG"), mask=_encoded(drawn.rgba[..., 3], "PNG"),
        photo=_encoded(photo, "JPEG"), label=label, pose=pose, angles=(float(yaw), pitch, roll),
        window=(float(x), float(y), float(size)),
    )  # fmt: skip


def _backdrop(height: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    y, x = np.mgrid[0:height, 0:width] / width
    colors = random.uniform(60, 210, (3, 3))
    light = np.stack([x, y, 0.5 + 0.5 * np.sin(5 * x + 7 * y)], -1)
    return light @ colors / 1.6 + 25


def _encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=90)
    return buffer.getvalue()


def _write_part(
    workspace: Workspace,
    part: int,
    numbers: range,
    figures: list[Figure],
    photos: bool,
    seed: int,
    alike: int,
) -> None:
    random = np.random.default_rng([seed, part])
    tables: dict[str, list[dict[str, Any]]] = {"photos": [], "portraits": [], "screened": [], "ledger": []}
    for number in numbers:
        which = number // alike % len(figures)
        # What follows a JPEG's end is ignored, and makes it another file.
        data = figures[which].photo + f"{seed}/{number}".encode()
        photo_id = hashlib.sha256(data).hexdigest()
        key = f"photos/{photo_id[:2]}/{photo_id}.jpg"
        if photos:
            workspace.write_bytes(key, data)
        _add_rows(
            tables, portrait_id(number, seed), number, figures[which], which % 3 == 2, photo_id, key, random
        )
    images = {
        "image": [{"bytes": figure.portrait, "path": "portrait.jpg"} for figure in figures],
        "mask": [{"bytes": figure.mask, "path": "mask.png"} for figure in figures],
    }
    picks = pa.array([number // alike % len(figures) for number in numbers], pa.int32())
    portraits = schema.SCHEMAS["portraits"]
    narrow = pa.schema([field for field in portraits if field.name not in images])
    columns = dict(zip(narrow.names, pa.Table.from_pylist(tables["portraits"], narrow).columns, strict=True))
    columns |= {name: pa.array(pool, schema.IMAGE).take(picks) for name, pool in images.items()}
    table = pa.table([columns[name] for name in portraits.names], schema=portraits)
    workspace.write_part("tables/photos", part, schema.to_table("photos", tables["photos"]), "fixture")
    workspace.write_part("tables/portraits", part, table, "fixture")
    workspace.write_part("tables/screened", part, schema.to_table("screened", tables["screened"]), "fixture")
    extra = {"items": len(numbers), "kept": len(numbers), "rejected": 0, "failed": 0, "seconds": 1.0}
    workspace.write_part("ledger/screen", part, schema.to_table("ledger", tables["ledger"]), "fixture", extra)


def _add_rows(
    tables: dict[str, list[dict[str, Any]]],
    one: str,
    number: int,
    figure: Figure,
    off: bool,
    photo_id: str,
    key: str,
    random: np.random.Generator,
) -> None:
    yaw, pitch, roll = figure.angles
    probability = float(np.clip(random.beta(4, 3) if off else random.beta(1.5, 8), 0, 1))
    source, uri = f"folder {number // 500 % 100}", f"file:///photos/{number:06d}.jpg"
    shared = {"effective_resolution": 1.5, "padding": float(random.uniform(0, 0.15)),
              "landmark_error": float(random.uniform(0.01, 0.05)) + 0.04 * off,
              "shoulder_error": float(random.uniform(0.01, 0.06)) + 0.1 * off}  # fmt: skip
    scores = {**shared, "blur": float(random.uniform(0.3, 0.9)), "exposure_low": 0.01, "exposure_high": 0.02,
              "contrast": float(random.uniform(0.4, 0.8)), "mask_share": 0.4, "overlap": 0.0,
              "error_probability": probability}  # fmt: skip
    tables["photos"].append(
        {
            "photo_id": photo_id, "key": key, "width": _PHOTO_WIDTH, "height": _PHOTO_HEIGHT,
            "format": "JPEG", "bytes": len(figure.photo), "orientation": 1, "color": "sRGB",
            "phash": number, "exif_time": None, "provider": "folder", "source": source, "uri": uri,
            "title": f"Fixture {number}", "author": f"Author {number // 30}", "license": "CC0-1.0",
        }
    )  # fmt: skip
    keypoints = np.column_stack([random.uniform(0, figure.window[2], (17, 2)), random.uniform(0.3, 0.95, 17)])
    tables["portraits"].append(
        {
            **shared, "portrait_id": one, "person_id": schema.make_id(one, "person"),
            "fit_id": schema.make_id(one, "fit"), "photo_id": photo_id, "camera": figure.label.tolist(),
            "pose": figure.pose.tolist(), "yaw": yaw, "pitch": pitch, "roll": roll,
            "window": list(figure.window), "size": int(figure.window[2]), "crop_mode": "fit",
            "keypoints": keypoints.reshape(-1).tolist(), "codec": "jpeg-90",
            "models": json.dumps({"detector": "fixture", "rig": "anny"}),
        }
    )  # fmt: skip
    tables["screened"].append(
        {**scores, "portrait_id": one, "photo_id": photo_id, "kept": True, "reasons": [], "phash": number}
    )
    tables["ledger"].append(
        {
            "stage": "screen", "item": one, "outcome": "kept", "reason": "", "message": "",
            "retryable": False, "evidence": json.dumps({**scores, "coverage": 0.8}), "outputs": [one],
            "uri": uri,
        }
    )  # fmt: skip
