"""Neck and head poses of real portraits by the discriminator's predictor, as a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from phq_data import camera as cameras
from phq_data import parquet
from phq_data.files import writing
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.model import Model
from portraitgan.inference.portraits import RealPortrait
from portraitgan.inference.sample import predicted_poses

COMPONENTS = ("neck_x", "neck_y", "neck_z", "head_x", "head_y", "head_z")
_POSE = pa.list_(pa.float32(), 6)
SCHEMA = pa.schema(
    [
        ("portrait_id", pa.string()),
        ("split", pa.string()),  # null for a workspace
        ("yaw", pa.float32()),  # of the camera, radians
        ("pitch", pa.float32()),
        ("pose", _POSE),  # predicted: axis-angles of neck and head, radians
        ("label_pose", _POSE),  # the dataset's
        ("truth_pose", _POSE),  # where it is known
    ]
)


def predict(
    model: Model,
    portraits: Iterable[RealPortrait],
    batch: int = 8,
    done: Callable[[int], None] = lambda count: None,
) -> pa.Table:
    """Predicted poses: a row of `SCHEMA` for every portrait, in order. `done` hears of every batch."""
    rows: list[dict[str, Any]] = []
    for part in _batches(portraits, batch):
        poses = predicted_poses(model, part).cpu().numpy()
        for one, pose in zip(part, poses, strict=True):
            matrix, _ = cameras.from_label(one.camera[0].numpy())
            yaw, pitch, _ = cameras.angles(matrix)
            rows.append(
                {
                    "portrait_id": one.portrait_id,
                    "split": one.split,
                    "yaw": float(yaw),
                    "pitch": float(pitch),
                    "pose": pose.tolist(),
                    "label_pose": one.pose[0].tolist(),
                    "truth_pose": None if one.truth_pose is None else one.truth_pose[0].tolist(),
                }
            )
        done(len(part))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def differences(table: pa.Table, other: str) -> NDArray[np.float64] | None:
    """Predicted minus `other` ("label_pose", "truth_pose") in degrees, [N, 6]; none where it is unknown."""
    known = table.filter(pc.is_valid(table[other]))
    if known.num_rows == 0:
        return None
    predicted, wanted = (np.array(known[name].to_pylist(), np.float64) for name in ("pose", other))
    return np.degrees(predicted - wanted)


def save_poses(path: str | Path, table: pa.Table) -> None:
    """Write Parquet (radians) or CSV (a column a component, degrees), by the suffix."""
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        with writing(path) as temporary:
            parquet.write(table, temporary)
    elif path.suffix.lower() == ".csv":
        with writing(path) as temporary:
            pa_csv.write_csv(_flat(table), temporary)
    else:
        raise InferenceError(f"{path}: poses are written as .parquet or .csv")


def _flat(table: pa.Table) -> pa.Table:
    """The table with a column a number, all angles in degrees."""
    columns: dict[str, Any] = {name: table[name] for name in ("portrait_id", "split")}
    for name in ("yaw", "pitch"):
        columns[f"{name}_deg"] = np.degrees(table[name].to_numpy())
    for name, prefix in (("pose", ""), ("label_pose", "label_"), ("truth_pose", "truth_")):
        values = table[name].to_pylist()
        for index, component in enumerate(COMPONENTS):
            columns[f"{prefix}{component}_deg"] = pa.array(
                [None if one is None else float(np.degrees(one[index])) for one in values], pa.float32()
            )
    return pa.table(columns)


def _batches(portraits: Iterable[RealPortrait], size: int) -> Iterator[list[RealPortrait]]:
    iterator = iter(portraits)
    while part := list(itertools.islice(iterator, size)):
        yield part
