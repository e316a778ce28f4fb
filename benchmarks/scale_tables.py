"""Workspaces of made-up rows, written column by column: a million portraits take half a minute.

Pictures are one tiny image that every row shares: what `benchmarks.scale` times reads none of them, or few.
A hundredth of the rows are near-duplicates of others, a hundredth of the portraits share their photo, three
photos in a row their author and day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.body import bust
from phq_data import camera, config, schema
from phq_data.images.codecs import encode_image
from phq_data.workspace import Workspace

MOST_PARTS = 2_000
LEAST_ROWS_A_PART = 64
_LIKE = 100  # every so many-th row is like the one before
SIDE = 8  # pixels


def make_workspace(folder: Path, rows: int) -> Workspace:
    """Write a workspace of `rows` portraits in at most `MOST_PARTS` parts, near-duplicates not found yet."""
    workspace = Workspace.open(folder, create=True)
    settings = config.default().replace_setting(f"crop.size={SIDE}")
    workspace.write_bytes("config.json", settings.to_json().encode())
    workspace.write_bytes("rig.safetensors", bust(16, 12).to_bytes())
    size = rows_a_part(rows)
    for part, start in enumerate(range(0, rows, size)):
        numbers = np.arange(start, min(rows, start + size), dtype=np.uint64)
        for name, table in _tables(numbers).items():
            folder_name = "ledger/screen" if name == "ledger" else f"tables/{name}"
            counts = {"items": len(numbers), "kept": len(numbers), "rejected": 0, "failed": 0, "seconds": 1.0}
            workspace.write_part(folder_name, part, table, "made up", counts if name == "ledger" else None)
    return workspace


def rows_a_part(rows: int) -> int:
    """Rows of a part, so that no workspace has more than `MOST_PARTS`."""
    return max(LEAST_ROWS_A_PART, -(-rows // MOST_PARTS))


def drop_some(workspace: Workspace, share: int) -> int:
    """Let the screening reject every `share`-th portrait (0: none) of a tenth of the parts; how many."""
    gone = 0
    parts = workspace.parts("tables/screened")
    for part in parts[: max(1, len(parts) // 10)]:
        table = workspace.read_part("tables/screened", part)
        kept = np.arange(table.num_rows) % share != 0 if share else np.ones(table.num_rows, bool)
        gone += int((~kept).sum())
        column = table.column_names.index("kept")
        changed = table.set_column(column, schema.SCHEMAS["screened"].field("kept"), pa.array(kept))
        workspace.write_part("tables/screened", part, changed, "made up")
    return gone


def portrait_ids(numbers: NDArray[np.uint64]) -> pa.Array:  # [N]
    """The ids of portraits [N], 32 digits each."""
    return _digits(numbers, 1, 32)


def _tables(numbers: NDArray[np.uint64]) -> dict[str, pa.Table]:
    rows = len(numbers)
    image, mask = _pictures()
    unit = mixed(numbers, 7).astype(np.float64) / 2.0**64  # [N] in [0, 1)
    yaw = (unit * 2 - 1) * 3.1
    portraits, photos = portrait_ids(numbers), _digits(numbers - (numbers % _LIKE == _LIKE - 1), 2, 64)
    hashes = mixed(numbers - (numbers % _LIKE == 1), 3) ^ (numbers % _LIKE == 1).astype(np.uint64)
    label = camera.to_label(camera.from_angles(0.3, 0.1, 0.0)).astype(np.float32)
    common = {
        "portrait_id": portraits, "photo_id": photos, "effective_resolution": np.float32(1) + unit,
        "padding": 0.0, "landmark_error": 0.02, "shoulder_error": 0.01,
    }  # fmt: skip
    first = numbers % _LIKE != _LIKE - 1  # of its photo
    shot = numbers[first]
    made: dict[str, Mapping[str, Any]] = {
        "photos": {
            "photo_id": photos.filter(pa.array(first)), "key": "", "width": 2000, "height": 1500,
            "format": "JPEG", "bytes": 1, "orientation": 1, "color": "sRGB", "phash": mixed(shot, 4),
            "exif_time": "2026-01-01T12:00:00", "provider": "wikimedia", "source": "made up",
            "uri": _named("https://example.org/photo/", shot),
            "page_url": _named("https://example.org/page/", shot),
            "author": _named("Author ", shot // np.uint64(3)), "license": "CC-BY-4.0",
            "rights_checked_at": "2026-01-01", "rights_evidence": "made up",
        },
        "fits": {
            "fit_id": _digits(numbers, 5, 32), "person_id": _digits(numbers, 6, 32), "photo_id": photos,
            "fitter": "made up", "body": "anny", "focal": 1.0, "residual": 0.0, "converged": True,
        },
        "portraits": {
            **common, "person_id": _digits(numbers, 6, 32), "fit_id": _digits(numbers, 5, 32),
            "camera": label.tolist(), "pose": [0.0] * 6, "yaw": yaw, "pitch": 0.1 * unit, "roll": 0.0,
            "window": [10.5, 20.25, 700.0], "size": SIDE, "crop_mode": "fit", "codec": "webp-lossless",
            "models": '{"rig": "anny"}', "image": {"bytes": image, "path": "portrait.webp"},
            "mask": {"bytes": mask, "path": "mask.png"},
        },
        "screened": {
            **common, "kept": True, "reasons": [], "blur": 1.0, "exposure_low": 0.0, "exposure_high": 0.0,
            "contrast": 1.0, "mask_share": 0.4, "overlap": 0.0, "error_probability": unit * unit,
            "phash": hashes,
        },
        "ledger": {
            "stage": "screen", "item": portraits, "outcome": "kept", "reason": "", "message": "",
            "retryable": False, "evidence": json.dumps({"coverage": 0.8}), "outputs": [],
            "uri": _named("https://example.org/photo/", numbers),
        },
    }  # fmt: skip
    counts = {"photos": len(shot)}
    return {name: _table(name, columns, counts.get(name, rows)) for name, columns in made.items()}


def _table(name: str, columns: Mapping[str, Any], rows: int) -> pa.Table:
    wanted = schema.SCHEMAS[name]
    return pa.table([_column(columns.get(f.name), f, rows) for f in wanted], schema=wanted)


def _column(value: Any, field: pa.Field, rows: int) -> pa.Array:
    if isinstance(value, pa.Array):
        return value.cast(field.type)
    if isinstance(value, np.ndarray):
        return pa.array(value).cast(field.type)
    if value is None and not field.nullable:
        value = _nothing(field.type)
    return pa.repeat(pa.scalar(value, field.type), rows) if not pa.types.is_nested(field.type) else (
        pa.array([value], field.type).take(pa.array(np.zeros(rows, np.int64)))
    )  # fmt: skip


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_fixed_size_list(kind):
        return [0] * kind.list_size
    return [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0


def _digits(numbers: NDArray[np.uint64], salt: int, length: int) -> pa.Array:
    """A text of `length` hexadecimal digits for each number [N]; equal numbers have equal texts."""
    words = np.stack([mixed(numbers, salt * 16 + word) for word in range(length // 16)], 1)
    text = words.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * length
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def _named(text: str, numbers: NDArray[np.uint64]) -> pa.Array:
    return pa.compute.binary_join_element_wise(text, pa.array(numbers).cast(pa.string()), "")


def mixed(numbers: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """64 well mixed bits a number [N] (the finalizer of MurmurHash3)."""
    with np.errstate(over="ignore"):
        value = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt) * np.uint64(0xD1B54A32D192ED03)
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
        return value ^ (value >> np.uint64(33))


def _pictures() -> tuple[bytes, bytes]:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    pixels = np.stack([x * 20, y * 20, 90 + 0 * x], -1).astype(np.uint8)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    return encode_image(pixels, "webp-lossless")[0], encode_image(mask, "png")[0]
