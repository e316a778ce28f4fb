"""Portraits of known truth whose labels are turned away from it: what `benchmarks.correct` has corrected."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from benchmarks.review_fixtures import make_workspace
from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.evaluation import accuracy
from phq_data.evaluation.matching import angle_between, wrapped
from phq_data.pipeline.model_set import load_rig
from phq_data.records import TruePerson, from_table
from phq_data.review.records import StoredLabel
from phq_data.stages.relabel import PlacedLabel
from phq_data.synthesis.truth import read_truth
from phq_data.workspace import Workspace

LEAST, MOST = 10.0, 40.0
"""Degrees by which a label is turned about a random axis."""
_PHOTOS_A_PORTRAIT = 1.9  # one person in two or so is kept by the screening
_MARK = "turned.txt"


@dataclass(frozen=True, eq=False)
class Known:
    """A portrait and what is true of it. Cameras are [4, 4] camera-to-world, normalised."""

    portrait_id: str
    truth: FloatArray
    fitted: FloatArray  # the label that the build made
    turned: StoredLabel  # what the review begins with


def people(folder: Path, count: int, seed: int) -> tuple[Workspace, list[Known]]:
    """`count` kept portraits of `phq synthesize`: clothed people of many builds, labelled by the fit."""
    photos = str(int(np.ceil(count * _PHOTOS_A_PORTRAIT)))
    phq = [sys.executable, "-m", "phq_data.cli.main"]
    if not (folder / _MARK).exists():
        for command in (
            ["synthesize", str(folder), "--count", photos, "--seed", str(seed)],
            ["build", "--workspace", str(folder / "workspace"), "--runner", "inline", str(folder / "photos")],
        ):
            subprocess.run([*phq, *command], check=True, stdout=sys.stderr)
    workspace = Workspace.open(folder / "workspace")
    rig = load_rig(workspace)
    assert rig is not None
    table = read_truth(folder / "truth.parquet")
    true = {(one.photo_id, one.order): one.camera for one in from_table(TruePerson, table)}
    found = [one for one in accuracy.measure(workspace, table, rig) if one.kept]
    cameras = {one.portrait_id: camera.from_label(true[one.photo_id, one.order])[0] for one in found}
    return workspace, _turn_labels(folder, workspace, dict(sorted(cameras.items())[:count]), seed)


def figures(folder: Path, count: int, seed: int) -> tuple[Workspace, list[Known]]:
    """`count` portraits of the rig itself in random colors: what the page can show exactly."""
    if not (folder / _MARK).exists():
        made = make_workspace(folder / "workspace", count, images=count, alike=1, seed=seed)
        for part in made.parts("tables/portraits"):  # every third label is off, for the review to reject
            table = made.read_part("tables/portraits", part)
            rows = table.to_pylist()
            for row in rows:
                row["camera"] = camera.to_label(_as_drawn(row)).tolist()
                np.save(folder / f"drawn-{row['portrait_id']}.npy", _as_drawn(row))
            _write(made, "portraits", part, rows, table.schema)
    workspace = Workspace.open(folder / "workspace")
    ids = workspace.table("portraits", ["portrait_id"])["portrait_id"].to_pylist()
    true = {one: np.load(folder / f"drawn-{one}.npy") for one in ids}
    return workspace, _turn_labels(folder, workspace, true, seed)


def _as_drawn(row: dict[str, Any]) -> FloatArray:
    return camera.from_angles(row["yaw"], row["pitch"], row["roll"])


def _turn_labels(folder: Path, workspace: Workspace, true: dict[str, FloatArray], seed: int) -> list[Known]:
    """Turn the labels of these portraits, and leave only them to be reviewed. Done once."""
    mark = folder / _MARK
    first = not mark.exists()
    known: list[Known] = []
    for part in workspace.parts("tables/portraits"):
        portraits = workspace.read_part("tables/portraits", part)
        rows = portraits.to_pylist()
        for row in rows:
            if row["portrait_id"] in true:
                known.append(_known(folder, row, true[row["portrait_id"]], seed, turn=first))
        if first:
            _write(workspace, "portraits", part, rows, portraits.schema)
            screened = workspace.read_part("tables/screened", part)
            others = [{**row, "kept": row["portrait_id"] in true} for row in screened.to_pylist()]
            _write(workspace, "screened", part, others, screened.schema)
    mark.touch()
    return known


def errors_of(label: StoredLabel, truth: FloatArray) -> tuple[float, float]:
    """Degrees between a label's view of the chest and the true one: of the rotation, and of yaw alone."""
    found = PlacedLabel.of(label.camera, label.pose, label.window).on_sphere
    return camera_errors(found, truth)


def camera_errors(found: FloatArray, truth: FloatArray) -> tuple[float, float]:
    """The same of normalised cameras [4, 4]."""
    yaw = wrapped(float(camera.angles(found)[0] - camera.angles(truth)[0]))
    return float(np.degrees(angle_between(found[:3, :3], truth[:3, :3]))), abs(float(np.degrees(yaw)))


def _known(folder: Path, row: dict[str, Any], truth: FloatArray, seed: int, *, turn: bool) -> Known:
    kept = folder / f"fitted-{row['portrait_id']}.npy"
    if turn:
        np.save(kept, camera.from_label(row["camera"])[0])
        _turn(row, seed)
    label = StoredLabel(tuple(row["camera"]), tuple(row["pose"]), tuple(row["window"]))
    return Known(row["portrait_id"], truth, np.load(kept), label)


def _turn(row: dict[str, Any], seed: int) -> None:
    random = np.random.default_rng([seed, int(row["portrait_id"][:8], 16)])
    axis = random.normal(size=3)
    angle = np.radians(random.uniform(LEAST, MOST))
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    label = PlacedLabel.of(row["camera"], row["pose"], row["window"])
    cam2world = np.eye(4)
    cam2world[:3, :3] = turn @ label.camera[:3, :3]
    cam2world[:3, 3] = turn @ label.camera[:3, 3]
    turned = PlacedLabel(cam2world, label.intrinsics, label.pose, label.window).on_sphere
    yaw, pitch, roll = (float(angle) for angle in camera.angles(turned))
    row |= {"camera": camera.to_label(turned).tolist(), "yaw": yaw, "pitch": pitch, "roll": roll}


def _write(workspace: Workspace, name: str, part: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    folder = f"tables/{name}"
    info = workspace.part_info(folder, part)
    assert info is not None
    workspace.write_part(folder, part, pa.Table.from_pylist(rows, schema), info.fingerprint, info.extra)
