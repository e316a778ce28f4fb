"""Labels against calibrated views, on a workspace made from the truth of rendered instants."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from workspace_fixtures import filled, struct

from phq_data import camera as cameras
from phq_data import schema
from phq_data.bodies.anny import default_rig
from phq_data.cli.main import make_app
from phq_data.errors import PhqError
from phq_data.evaluation import multiview, multiview_report
from phq_data.evaluation.matching import wrapped
from phq_data.evaluation.triangulation import turn_between
from phq_data.evaluation.true_poses import chest_rotation
from phq_data.records import TruePerson, from_table
from phq_data.sources.synthetic import synthesize
from phq_data.stages.align import camera_on_sphere
from phq_data.synthesis.truth import read_truth
from phq_data.views import ViewsError, read_views, write_views
from phq_data.workspace import Workspace, WorkspaceError

VIEWS, SHOULDERS = 4, [5, 6]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Two instants that four cameras see."""
    folder = tmp_path_factory.mktemp("series")
    synthesize(folder, 2, 7, views=VIEWS)
    return folder


def workspace_of(path, series, turn=None, noise=0.0, swap="", kept=True) -> Workspace:
    """A workspace whose keypoints are true but for `noise` (metres) and exchanged shoulders in camera `swap`,
    and whose labels are true but for `turn` (degrees of yaw by camera)."""
    workspace = Workspace.open(path, create=True)
    rng = np.random.default_rng(0)
    people = from_table(TruePerson, read_truth(series / "truth.parquet"))
    photos: dict[str, dict] = {}
    rows: dict[str, list[dict]] = {"photos": [], "people": [], "portraits": [], "screened": []}
    for number, person in enumerate(people):
        view = f"view{person.index % VIEWS}"
        size = {"width": person.photo_width, "height": person.photo_height}
        key = f"photos/{person.photo_id[:2]}/{person.photo_id}.jpg"
        uri = f"file:///some%20where/photos/{person.uri}"
        photos[person.photo_id] = filled("photos", photo_id=person.photo_id, uri=uri, key=key, **size)
        workspace.write_bytes(key, (series / "photos" / person.uri).read_bytes())
        points = person.keypoints * (1, 1, 0) + (0, 0, 0.9)
        points[:, :2] += rng.normal(0, noise, (17, 2)) * person.head_pixels / 0.25
        if view == swap:
            points[SHOULDERS] = points[SHOULDERS[::-1]]
        one = {"person_id": f"p{number}", "photo_id": person.photo_id}
        rows["people"].append(filled("people", keypoints=points.ravel().tolist(), **one))
        yaw = person.yaw + np.radians((turn or {}).get(view, 0.0))
        label = cameras.to_label(cameras.from_angles(yaw, person.pitch, person.roll)).tolist()
        image = struct(np.full((64, 64, 3), 128, np.uint8), "x.png")
        rows["portraits"].append(
            filled(
                "portraits", portrait_id=f"q{number}", camera=label, pose=person.pose.tolist(), size=64,
                window=person.window.tolist(), image=image, mask=image, keypoints=[0.0] * 51, **one,
            )
        )  # fmt: skip
        rows["screened"].append(
            filled(
                "screened", portrait_id=f"q{number}", photo_id=person.photo_id, kept=kept, reasons=[],
                error_probability=0.1, expected_yaw_error=0.1,
            )
        )  # fmt: skip
    rows["photos"] = list(photos.values())
    for name, table in rows.items():
        workspace.write_part(f"tables/{name}", 0, schema.to_table(name, table), "x")
    workspace.write_bytes("rig.safetensors", default_rig().to_bytes())
    return workspace


def test_true_labels_are_off_by_no_more_than_joints_and_chest_differ(tmp_path, series):
    """A label means the rig's chest, the triangulated truth the line of the shoulders."""
    result = multiview.measure(workspace_of(tmp_path, series), read_views(series / "views.json"))
    found = multiview_report.summary(result)
    assert found["people"] == found["trusted_people"] == 3 and found["detections_without_truth"] == 0
    assert found["truth_std_deg"]["median"] < 0.01  # exact points agree in whatever views
    assert found["kept"]["count"] == found["count"] == 3 * VIEWS
    assert found["kept"]["yaw_deg"]["median"] < 4 and found["kept"]["pitch_deg"]["median"] < 8
    exact = from_table(TruePerson, read_truth(series / "truth.parquet"))
    both = multiview_report.agreement(result, exact)
    # The labels are the exact truth, so the errors are how the two truths agree.
    assert both["count"] == found["count"]
    assert both["yaw_deg"]["median"] == pytest.approx(found["kept"]["yaw_deg"]["median"], abs=0.01)
    assert both["pitch_bias_deg"] == pytest.approx(-found["kept"]["pitch_bias_deg"], abs=0.01)
    assert found["relative_yaw_deg"]["count"] == 3 * VIEWS * (VIEWS - 1) / 2
    # The neck between the shoulders is not quite the joint from which the labels are seen.
    assert found["relative_yaw_deg"]["p95"] < 1


def test_a_detector_with_noise_and_exchanged_shoulders_gives_nearly_the_same_truth(tmp_path, series):
    views = read_views(series / "views.json")
    exact = multiview.measure(workspace_of(tmp_path / "exact", series), views)
    noisy = multiview.measure(workspace_of(tmp_path / "noisy", series, noise=0.01, swap="view1"), views)
    assert [person.members for person in noisy.people] == [person.members for person in exact.people]
    assert all(person.swapped == ("view1",) for person in noisy.people)
    assert all(not person.swapped for person in exact.people)
    for one, other in zip(exact.people, noisy.people, strict=True):
        turn = np.degrees(abs(turn_between(one.chest.rotation, other.chest.rotation)))
        assert turn < 6 and turn < 4 * other.sigma
    assert multiview_report.summary(noisy)["shoulders_exchanged_share"] == 0.25


def test_a_label_that_one_camera_turns_shows_in_its_errors_and_in_relative_yaw(tmp_path, series):
    views = read_views(series / "views.json")
    true = multiview.measure(workspace_of(tmp_path / "true", series), views)
    turned = multiview.measure(workspace_of(tmp_path / "turned", series, {"view2": 20.0}), views)
    for one, other in zip(true.errors, turned.errors, strict=True):
        added = 20.0 if one.camera == "view2" else 0.0
        assert wrapped(other.yaw_signed - one.yaw_signed, 360) == pytest.approx(added, abs=0.01)
        assert other.pitch_signed == pytest.approx(one.pitch_signed, abs=0.01)
    apart = {e.cameras: e.yaw_deg for e in turned.relative if e.order == 0}
    for names, value in apart.items():
        assert abs(value - (20 if "view2" in names else 0)) < 3
    everywhere = multiview.measure(
        workspace_of(tmp_path / "all", series, dict.fromkeys(("view0", "view1", "view2", "view3"), 20.0)),
        views,
    )
    # An error that all labels share cannot show between views: that is what the truth is for.
    assert multiview_report.summary(everywhere)["relative_yaw_deg"]["p95"] < 3
    assert multiview_report.summary(everywhere)["kept"]["yaw_bias_deg"] > 15


def test_two_views_give_a_truth_that_is_not_trusted(tmp_path, series):
    views = read_views(series / "views.json")
    two = dataclasses.replace(views, photos=tuple(p for p in views.photos if p.camera in ("view0", "view1")))
    result = multiview.measure(workspace_of(tmp_path, series), two)
    assert {person.sigma for person in result.people} == {12.0}
    found = multiview_report.summary(result)
    assert found["count"] == found["trusted_people"] == 0 and found["kept"]["yaw_deg"]["median"] is None
    assert found["relative_yaw_deg"]["count"] == len(result.people)
    assert "0 of them trusted" in multiview_report.table(result)


@pytest.mark.parametrize("seed", range(5))
def test_the_chest_that_a_label_states_is_found_again(seed):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    neck = np.array([*rng.normal(0, 0.8, 2), 3.0])
    label = camera_on_sphere(turn, neck)
    found = chest_rotation(label, neck)
    # A label that looks at the chest from right above or below has nothing to tell its up by.
    assert np.allclose(camera_on_sphere(found, neck), label, atol=1e-8)
    assert np.allclose(found, turn, atol=1e-6)


def run(*arguments):
    return CliRunner().invoke(make_app(), ["accuracy", *map(str, arguments)])


def test_the_json_has_the_keys_of_the_truth_and_those_of_views(tmp_path, series):
    workspace = workspace_of(tmp_path / "w", series)
    views = series / "views.json"
    alone = run("-w", tmp_path / "w", "--views", views, "--json")
    assert alone.exit_code == 0, alone.output
    found = json.loads(alone.stdout)
    assert list(found) == ["views"]
    assert list(found["views"]) == [
        "people", "trusted_people", "detections_without_truth", "photos_missing", "truth_std_deg", "count",
        "detected_share", "labelled_share", "kept_share", "shoulders_exchanged_share", "kept",
        "before_screening", "relative_yaw_deg", "relative_yaw_deg_before_screening",
    ]  # fmt: skip
    assert list(found["views"]["kept"]) == [
        "count", "yaw_deg", "pitch_deg", "roll_deg", "yaw_bias_deg", "pitch_bias_deg", "toward_front_deg",
        "pitch_slope", "front_back_confusion_share",
    ]  # fmt: skip
    both = run("-w", tmp_path / "w", "--views", views, "--truth", series / "truth.parquet", "--json")
    assert both.exit_code == 0, both.output
    numbers = json.loads(both.stdout)
    assert numbers["views"].pop("agreement")["count"] == found["views"]["count"]
    assert numbers.pop("views") == found["views"] and "mask_iou" in numbers
    for name in ("views.png", "views-worst.jpg", "views-scenes.jpg", "views-reliability.png"):
        with Image.open(tmp_path / "w" / "accuracy" / name) as opened:
            assert opened.width > 300
    text = run("-w", tmp_path / "w", "--views", views)
    assert "Relative yaw" in text.stdout and "view3" in text.stdout
    assert workspace.read_bytes("accuracy/views.txt").decode() in text.stdout


def test_photos_that_the_workspace_lacks_do_not_count_and_are_named(tmp_path, series):
    workspace_of(tmp_path / "w", series)
    views = read_views(series / "views.json")
    more = [dataclasses.replace(p, file=f"other/{p.file}", instant="later") for p in views.photos[:2]]
    write_views(tmp_path / "more.json", dataclasses.replace(views, photos=(*views.photos, *more)))
    result = run("-w", tmp_path / "w", "--views", tmp_path / "more.json", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["views"]["photos_missing"] == 2
    assert "2 of the 10 photos" in result.stderr and "the first is other/000000.jpg" in result.stderr


def test_views_that_do_not_belong_to_the_workspace_are_refused(tmp_path, series):
    workspace = workspace_of(tmp_path, series)
    views = read_views(series / "views.json")

    def refused(message, kind: type[PhqError] = ViewsError, **changes):
        with pytest.raises(kind, match=message):
            multiview.measure(workspace, dataclasses.replace(views, **changes))

    refused("holds 0 of the 8 photos and no two", photos=tuple(
        dataclasses.replace(p, file=f"no{p.file}") for p in views.photos))  # fmt: skip
    smaller = tuple(dataclasses.replace(c, width=c.width // 2) for c in views.cameras)
    refused(r"photo '000000\.jpg' has \d+x\d+ pixels, its camera 'view0'", cameras=smaller)
    moved = tuple(
        dataclasses.replace(c, t=(c.t[0] + 9 * i, c.t[1], c.t[2])) for i, c in enumerate(views.cameras)
    )
    refused("seen by two calibrated cameras at one instant", cameras=moved)
    row = filled("ledger", item="photo", retryable=False)
    workspace.write_part("ledger/ingest", 0, schema.to_table("ledger", [row]), "made")
    refused("not built to its end", WorkspaceError)


def test_files_of_one_name_want_their_folders(tmp_path, series):
    workspace = workspace_of(tmp_path, series)
    views = read_views(series / "views.json")
    table = workspace.read_part("tables/photos", 0)
    uris = [f"file:///x/{i}/frame.jpg" for i in range(table.num_rows)]
    column = table.schema.get_field_index("uri")
    workspace.write_part("tables/photos", 0, table.set_column(column, table.schema.field("uri"), [uris]), "y")
    order = {name: i for i, name in enumerate(table["photo_id"].to_pylist())}
    known = {p.uri: p.photo_id for p in from_table(TruePerson, read_truth(series / "truth.parquet"))}
    named = [dataclasses.replace(p, file=f"{order[known[p.file]]}/frame.jpg") for p in views.photos]
    result = multiview.measure(workspace, dataclasses.replace(views, photos=tuple(named)))
    assert len(result.people) == 3 and not result.lacking
    alike = (dataclasses.replace(views.photos[0], file="frame.jpg"), *named[1:])
    with pytest.raises(ViewsError, match=r"8 photos of the workspace are called 'frame\.jpg'"):
        multiview.measure(workspace, dataclasses.replace(views, photos=alike))
