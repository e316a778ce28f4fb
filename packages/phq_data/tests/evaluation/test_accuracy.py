"""The accuracy report, on a workspace made from the truth itself."""

import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner
from workspace_fixtures import filled

from phq_data import camera, schema
from phq_data.bodies.anny import default_rig
from phq_data.cli.main import make_app
from phq_data.evaluation import accuracy, tables
from phq_data.evaluation.accuracy import PersonError
from phq_data.sources.synthetic import synthesize
from phq_data.synthesis.truth import read_truth
from phq_data.workspace import Workspace, WorkspaceError


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    synthesize(folder, 5, 21)
    return folder / "truth.parquet"


def png(array) -> dict:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def workspace_of(path, truth, turn: float = 0.0, lose: int = 0) -> Workspace:
    """A workspace whose labels are the truth's, with the camera turned by `turn` radians around the person
    and the first `lose` people not detected."""
    workspace = Workspace.open(path, create=True)
    rows = read_truth(truth).to_pylist()
    photos = {row["photo_id"]: filled("photos", photo_id=row["photo_id"]) for row in rows}
    people, portraits, screened = [], [], []
    for number, row in enumerate(rows):
        if number < lose:
            continue
        points = np.array(row["keypoints"]).reshape(17, 3) * (1, 1, 0) + (0, 0, 0.9)
        people.append(
            filled(
                "people", person_id=f"p{number}", photo_id=row["photo_id"], keypoints=points.ravel().tolist()
            )
        )
        pose = camera.from_angles(row["yaw"] + turn, row["pitch"], row["roll"])
        size = 64
        x, y, side = row["window"]
        whole = Image.open(io.BytesIO(row["mask"]["bytes"]))
        region = whole.crop((int(x) - 2, int(y) - 2, int(x + side) + 4, int(y + side) + 4))
        box = (x - int(x) + 2, y - int(y) + 2, x - int(x) + 2 + side, y - int(y) + 2 + side)
        mask = np.asarray(region.resize((size, size), Image.Resampling.BILINEAR, box=box))
        portraits.append(
            filled(
                "portraits", portrait_id=f"q{number}", person_id=f"p{number}", photo_id=row["photo_id"],
                camera=camera.to_label(pose).tolist(), pose=row["pose"], window=row["window"], size=size,
                image=png(np.full((size, size, 3), 128, np.uint8)), mask=png(mask), keypoints=[0.0] * 51,
            )
        )  # fmt: skip
        screened.append(
            filled("screened", portrait_id=f"q{number}", photo_id=row["photo_id"], kept=True, reasons=[])
        )
    for name, table in (
        ("photos", list(photos.values())),
        ("people", people),
        ("portraits", portraits),
        ("screened", screened),
    ):
        workspace.write_part(f"tables/{name}", 0, schema.to_table(name, table), "x")
    workspace.write_bytes("rig.safetensors", default_rig().to_bytes())
    return workspace


def test_the_truth_itself_has_no_error(tmp_path, truth):
    errors = accuracy.measure(workspace_of(tmp_path, truth), read_truth(truth), default_rig())
    assert len(errors) >= 3
    found = accuracy.summary(errors)
    assert found["count"] == len(errors)
    assert found["detected_share_min_octant"] == found["kept_share"] == 1.0
    for name in ("yaw_deg", "pitch_deg", "roll_deg", "neck_deg", "head_deg"):
        assert found[name]["p95"] < 0.1
    assert found["front_back_confusion_share"] == 0
    assert found["mask_iou"]["median"] > 0.98
    # The rig is not the person: their shoulders differ a little even with a perfect label.
    assert 0 < found["shoulder_share"]["median"] < 0.06


def test_a_turned_camera_is_off_by_just_that(tmp_path, truth):
    errors = accuracy.measure(workspace_of(tmp_path, truth, np.radians(20)), read_truth(truth), default_rig())
    found = accuracy.summary(errors)
    assert abs(found["yaw_deg"]["median"] - 20) < 0.1
    assert found["pitch_deg"]["p95"] < 0.1
    assert found["shoulder_share"]["median"] > 0.03


def test_a_person_seen_from_behind_is_confused_when_labelled_in_front(tmp_path, truth):
    errors = accuracy.measure(workspace_of(tmp_path, truth, np.pi), read_truth(truth), default_rig())
    assert accuracy.summary(errors)["front_back_confusion_share"] > 0.5


def test_people_who_were_not_detected_count(tmp_path, truth):
    known = read_truth(truth)
    scored = known["scored"].to_pylist()
    lose = scored.index(True) + 1
    errors = accuracy.measure(workspace_of(tmp_path, truth, lose=lose), known, default_rig())
    assert len(errors) == sum(scored)
    missing = [e for e in errors if not e.person_id]
    assert len(missing) == 1
    assert accuracy.summary(errors)["detected_share_min_octant"] < 1
    assert "not detected" in tables.accuracy_table(errors)


def test_a_truth_in_which_nobody_counts_or_whose_masks_are_damaged_is_refused(tmp_path, truth):
    workspace, known = workspace_of(tmp_path, truth), read_truth(truth)
    nobody = known.set_column(known.schema.get_field_index("scored"), "scored", [[False] * known.num_rows])
    with pytest.raises(WorkspaceError, match="well enough to count"):
        accuracy.measure(workspace, nobody, default_rig())
    masks = known["mask"].to_pylist()
    for row in masks:
        row["bytes"] = row["bytes"][: len(row["bytes"]) // 2]
    position = known.schema.get_field_index("mask")
    damaged = known.set_column(position, "mask", pa.array(masks, known.schema.field("mask").type))
    with pytest.raises(schema.SchemaError, match=r"mask of photo \d cannot be read"):
        accuracy.measure(workspace, damaged, default_rig())


def test_the_truth_of_other_photos_is_refused(tmp_path, truth):
    workspace = Workspace.open(tmp_path, create=True)
    with pytest.raises(WorkspaceError, match="none of the photos"):
        accuracy.measure(workspace, read_truth(truth), default_rig())


def test_the_json_has_exactly_the_promised_keys(tmp_path, truth):
    workspace_of(tmp_path, truth)
    result = CliRunner().invoke(
        make_app(), ["accuracy", "--workspace", str(tmp_path), "--truth", str(truth), "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found) == [
        "count", "detected_share_min_octant", "yaw_deg", "pitch_deg", "roll_deg", "neck_deg", "head_deg",
        "shoulder_share", "head_share", "front_back_confusion_share", "mask_iou", "kept_share",
    ]  # fmt: skip
    assert set(found["yaw_deg"]) == set(found["shoulder_share"]) == {"median", "p95"}
    assert set(found["mask_iou"]) == {"median", "p05"}
    for name in ("octants.png", "curves.png", "worst.jpg"):
        with Image.open(tmp_path / "accuracy" / name) as opened:
            assert opened.width > 300


def test_octants_are_centred_on_the_front_and_wrap_behind():
    base = PersonError("a", 0, 0, 0.0, 0.0, 100.0)
    yaws = {
        0.0: 0,
        22.0: 0,
        23.0: 45,
        -23.0: -45,
        90.0: 90,
        179.0: -180,
        -179.0: -180,
        158.0: -180,
        157.0: 135,
    }
    for yaw, octant in yaws.items():
        assert dataclasses.replace(base, true_yaw=yaw).octant == octant


def test_mask_overlap_ignores_what_lies_outside_the_photo():
    whole = Image.fromarray(np.full((100, 100), 255, np.uint8))
    alpha = np.full((50, 50), 255, np.uint8)
    assert accuracy.mask_overlap(alpha, whole, np.array([50.0, 0.0, 100.0])) == 1.0
    half = alpha.copy()
    half[:, :25] = 0
    assert accuracy.mask_overlap(half, whole, np.array([0.0, 0.0, 100.0])) == pytest.approx(0.5)
    assert accuracy.mask_overlap(half, whole, np.array([50.0, 0.0, 100.0])) == 0.0


def test_a_workspace_that_is_not_built_to_its_end_is_not_measured(truth, tmp_path):
    workspace = workspace_of(tmp_path, truth)
    row = filled("ledger", item="photo", retryable=False)
    workspace.write_part("ledger/ingest", 0, schema.to_table("ledger", [row]), "made")
    with pytest.raises(WorkspaceError, match="not built to its end"):
        accuracy.measure(workspace, read_truth(truth), default_rig())


def test_a_workspace_of_two_settings_is_not_measured(truth, tmp_path):
    """Tables of another build would be compared as one, with the truth of all."""
    workspace = workspace_of(tmp_path, truth)
    plan = schema.to_table("plan", [])
    workspace.write_part("plan", 0, plan, "made")
    command = ["accuracy", "--workspace", str(tmp_path), "--truth", str(truth)]
    result = CliRunner().invoke(make_app(), command)
    assert isinstance(result.exception, WorkspaceError) and "is not finished: ingest" in str(result.exception)
    assert not (tmp_path / "accuracy").exists()
