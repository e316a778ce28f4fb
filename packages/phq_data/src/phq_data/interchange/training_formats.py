"""Portraits for training programs of others: COCO (boxes, keypoints, masks) and WebDataset (tar shards)."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from phq_data.arrays import ImageArray
from phq_data.interchange.annotations import SEEN, Annotated, images_into
from phq_data.models.protocols import COCO_KEYPOINTS

SHARD_BYTES = 1 << 28
"""Bytes of a tar after which the next one begins."""
_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10),
    (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""Pairs of COCO keypoints, counted from 1, that its person category joins."""


def write_coco(portraits: Iterable[Annotated], out: Path) -> int:
    """`images/` and `annotations.json`: box, keypoints and mask of every portrait, and its label."""
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    licenses: dict[tuple[str, str], int] = {}
    for number, one in enumerate(images_into(out / "images", portraits), 1):
        named = (one.photo.get("license") or "unknown", one.photo.get("license_url") or "")
        license_id = licenses.setdefault(named, len(licenses) + 1)
        images.append({
            "id": number, "file_name": one.file, "width": one.side, "height": one.side, "license": license_id,
            "portrait_id": one.portrait_id, "photo_id": one.photo_id, "author": one.photo.get("author"),
            "page_url": one.photo.get("page_url"),
        })  # fmt: skip
        inside = one.mask > 127
        points, seen = _keypoints(one)
        people.append({
            "id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": list(one.box),
            "area": int(inside.sum()), "segmentation": run_lengths(inside), "keypoints": points,
            "num_keypoints": seen, "camera": one.camera, "pose": one.pose, "degrees": one.numbers,
            "verdict": one.verdict,
        })  # fmt: skip
    document = {
        "info": {"description": "portraits of a PHQ workspace", "version": "1.0"},
        "licenses": [{"id": n, "name": name, "url": url} for (name, url), n in licenses.items()],
        "categories": [
            {
                "id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO_KEYPOINTS),
                "skeleton": [list(pair) for pair in _SKELETON],
            }
        ],
        "images": images,
        "annotations": people,
    }  # fmt: skip
    (out / "annotations.json").write_text(json.dumps(document))
    return len(images)


def write_webdataset(portraits: Iterable[Annotated], out: Path, shard_bytes: int = SHARD_BYTES) -> int:
    """`portraits-NNNNNN.tar`: of every portrait ID.webp (or .png), ID.mask.png and ID.json with its label."""
    count, shard, size = 0, 0, 0
    archive: tarfile.TarFile | None = None
    try:
        for one in portraits:
            if archive is None or size >= shard_bytes:
                if archive is not None:
                    archive.close()
                archive = tarfile.open(out / f"portraits-{shard:06d}.tar", "w")  # noqa: SIM115 (closed below)
                shard, size = shard + 1, 0
            label = {
                "portrait_id": one.portrait_id, "photo_id": one.photo_id, "camera": one.camera,
                "pose": one.pose, "degrees": one.numbers, "keypoints": one.keypoints.tolist(),
                "box": list(one.box), "verdict": one.verdict, **one.photo,
            }  # fmt: skip
            suffix = Path(one.file).suffix
            mask = ".png" if one.mask_bytes.startswith(b"\x89PNG") else suffix
            for name, data in (
                (f"{one.portrait_id}{suffix}", one.image),
                (f"{one.portrait_id}.mask{mask}", one.mask_bytes),
                (f"{one.portrait_id}.json", json.dumps(label).encode()),
            ):
                entry = tarfile.TarInfo(name)  # without times or owners: the same portraits, the same bytes
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                size += len(data)
            count += 1
    finally:
        if archive is not None:
            archive.close()
    return count


def run_lengths(inside: ImageArray | np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as COCO's uncompressed run lengths: column by column, beginning with those outside."""
    flat = np.asarray(inside, bool).T.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [len(flat)]])).tolist()
    return {"size": list(inside.shape), "counts": [0, *counts] if flat[0] else counts}


def _keypoints(one: Annotated) -> tuple[list[float], int]:
    """(x, y, v of every keypoint, how many are labelled); v is 2 for those seen, else all three are 0."""
    numbers: list[float] = []
    for x, y, score in one.keypoints.tolist():
        seen = score >= SEEN and 0 <= x < one.side and 0 <= y < one.side
        numbers += [round(x, 2), round(y, 2), 2] if seen else [0, 0, 0]
    return numbers, sum(value == 2 for value in numbers[2::3])
