"""From a correction over HTTP to what a trainer reads: service, build, release, reader."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from annotator_app.service import ServiceSettings, create_app
from phq_data import camera, config
from phq_data.evaluation.corrected_people import corrected_people
from phq_data.evaluation.known_people import known_people
from phq_data.models.orientation.image_prior import load_image_prior
from phq_data.models.smplify import Smplify2Config
from phq_data.pipeline import corrections, engine, whole
from phq_data.pipeline.correct import apply_corrections
from phq_data.pipeline.local import run_inline
from phq_data.records import Correction, Portrait, Screened
from phq_data.release import reader
from phq_data.release.build import ReleaseOptions, build
from phq_data.review import corrections as review
from phq_data.review.store import Store
from phq_data.sources.resolve import resolve
from phq_data.stages.relabel import PlacedLabel
from phq_data.workspace import Workspace, WorkspaceError
from portraitgan.data.labels import read_labels

from .conftest import HEADERS
from .test_correct import correction, label_of, send

SETTINGS = ("crop.size=64", "part_size=1", "screen.min_effective_resolution=0", "mask.model=selfie")


def configured():
    found = config.default()
    for one in SETTINGS:
        found = found.replace_setting(one)
    return found


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A workspace of three real parts of one photo each."""
    folder = tmp_path_factory.mktemp("built") / "workspace"
    opened = Workspace.open(folder, create=True)
    assert run_inline(opened, configured(), [resolve("synthetic:3@3")]).errors == []
    return folder


@pytest.fixture
def place(built, tmp_path):
    shutil.copytree(built, tmp_path / "workspace")
    return Workspace.open(tmp_path / "workspace")


def service(place, **settings):
    app = create_app(ServiceSettings(place.url, reviewer="ann", **settings))
    return TestClient(app, base_url="http://127.0.0.1:8765", headers=HEADERS)


def portraits(place):
    return {one.portrait_id: one for one in place.records(Portrait)}


def turned(label, degrees, **more):
    """The label as the page sends it after turning the rig and moving it a little."""
    found = PlacedLabel.of(label["camera"], label["pose"], label["window"])
    turn = np.eye(4)
    turn[:3, :3] = camera.from_angles(np.radians(degrees), 0)[:3, :3] @ camera.from_angles(0, 0)[:3, :3].T
    moved = turn @ found.camera
    moved[:3, 3] += 0.02 * moved[:3, 0]
    columns = PlacedLabel(moved, found.intrinsics, found.pose, found.window).columns()
    return dict(zip(("camera", "pose", "window"), columns, strict=True)) | more


def part_of(place, portrait):
    """The part that a portrait lies in."""
    return next(
        part for part, _ in place.search("tables/portraits", "portrait_id", portrait, ["portrait_id"])
    )


def rebuilt(place):
    """Build again; which stages of which parts ran."""
    report = run_inline(place, configured(), [])
    assert report.errors == [] and whole.behind(place) == []
    return [(one.stage, one.part) for one in report.reports if not one.skipped]


def test_a_corrected_label_reaches_the_trainer(place, tmp_path, monkeypatch):
    before = portraits(place)
    first = sorted(before)[0]
    assert rebuilt(place) == []
    with service(place) as client:
        found = label_of(client, first)
        assert found["correctable"] and 1 <= len(found["hypotheses"]) <= 6
        label = turned(found["label"], 25.0)
        one = correction(first, label)
        assert send(client, one)["saved"] == [one["correction_id"]]
        wanted = PlacedLabel.of(label["camera"], label["pose"], label["window"])
        assert label_of(client, first)["waits"]
    part = part_of(place, first)

    # The build is killed between align_crop and screen, and goes on.
    real = engine.run_part

    def killed(url, settings, stage, *rest, **options):
        if stage == "screen":
            raise KeyboardInterrupt
        return real(url, settings, stage, *rest, **options)

    monkeypatch.setattr("phq_data.pipeline.local.run_part", killed)
    report = run_inline(place, configured(), [])
    assert report.errors and whole.behind(place)[0].stage == "screen"
    monkeypatch.undo()
    assert rebuilt(place) == [("screen", part)]

    after = portraits(place)
    (new,) = set(after) - set(before)
    made = after[new]
    assert set(before) - set(after) == {first}
    assert all(after[key] == before[key] for key in set(after) - {new})
    assert (made.corrected_from, made.corrected_by, made.correction) == (first, "ann", one["correction_id"])
    assert np.allclose(made.camera[:16], wanted.on_sphere.ravel(), atol=1e-5)
    verdict = next(one for one in place.records(Screened) if one.portrait_id == new)
    assert verdict.error_probability == 0 and verdict.expected_yaw_error is None
    assert not {"uncertain", "off_shoulders", "off_keypoints"} & set(verdict.reasons)

    with service(place) as client:  # the page: the old one is replaced, the new one is asked about
        old = label_of(client, first)
        assert (old["label"], old["correctable"]) == (None, False) and "replaced" in old["why"]
        assert send(client, correction(first, label))["refused"][0]["why"] == old["why"]
        fresh = label_of(client, new)
        assert fresh["correctable"] and not fresh["waits"] and fresh["state"] == "holds"
        item = client.get(f"/api/items/{new}").json()
        assert item["corrected_from"] == first and item["earlier"]["portrait_id"] == first
        options = ReleaseOptions(unreviewed=True, name="corrected", created="2026-01-01", workers=1)
        result = build(place, tmp_path / "releases", "1.0.0", options)
        assert result.manifest.about["counts"]["corrected"] == int(verdict.kept)
        text = (Path(result.folder) / "README.md").read_text()
        assert ("1 portrait has a label corrected by people" in text) == verdict.kept
        assert verdict.kept, verdict.reasons
        labels = read_labels(reader.open(result.folder), "all", 64)  # as the trainer does
        row = labels.portrait_ids.index(new)
        assert np.array_equal(labels.cameras[row], made.camera.astype(np.float32))
        assert np.allclose(labels.cameras[row][:16], wanted.on_sphere.ravel(), atol=1e-5)

        undo = correction(new, None, "undo")  # taken back: the fit's label is there again, with its id
        assert send(client, undo)["saved"] == [undo["correction_id"]]
    assert rebuilt(place) == [("align_crop", part), ("screen", part)]
    assert portraits(place) == before
    assert [one.kind for one in place.records(Correction)] == ["correct", "undo"]
    assert corrections.applied(place).ids() == {}


def test_a_build_from_nothing_gives_what_corrections_gave_step_by_step(place, tmp_path):
    first = sorted(portraits(place))[0]
    with service(place) as client:
        send(client, correction(first, turned(label_of(client, first)["label"], 25.0)))
    assert [one.skipped for one in apply_corrections(place)] == [False, False]
    other = Workspace.open(tmp_path / "other", create=True)
    log = place.read_part("tables/corrections", 0)
    other.write_part("tables/corrections", 0, log, "copied")
    assert run_inline(other, configured(), [resolve("synthetic:3@3")]).errors == []
    assert portraits(other) == portraits(place)
    assert [one.corrected_from for one in portraits(other).values()].count(first) == 1


def test_killed_while_it_applies_the_next_try_goes_on(place, tmp_path):
    first = sorted(portraits(place))[0]
    with service(place, apply_seconds=0) as client:
        send(client, correction(first, turned(label_of(client, first)["label"], 25.0)))
    shutil.copytree(place.url, tmp_path / "undisturbed")
    undisturbed = Workspace.open(tmp_path / "undisturbed")
    apply_corrections(undisturbed)
    written = Path(place.url) / f"tables/portraits/part-{part_of(place, first):05d}.parquet"
    before = written.stat().st_mtime_ns
    child = subprocess.Popen([sys.executable, "-m", "annotator_app.apply", place.url])
    while written.stat().st_mtime_ns == before and child.poll() is None:
        time.sleep(0.001)
    child.kill()
    child.wait()
    subprocess.run([sys.executable, "-m", "annotator_app.apply", place.url], check=True)
    assert whole.behind(place) == [] and portraits(place) == portraits(undisturbed)
    assert place.records(Screened) == undisturbed.records(Screened)


def test_a_settled_dispute_is_applied(place):
    first = sorted(portraits(place))[0]
    with service(place, apply_seconds=0) as client:
        label = label_of(client, first)["label"]
        for name, degrees in (("Bo", 30.0), ("Cy", -30.0)):
            client.post("/api/login", json={"name": name, "password": ""})
            send(client, correction(first, turned(label, degrees)))
        client.cookies.clear()  # ann, a lead
        assert label_of(client, first)["state"] == "disputed"
        ruling = correction(first, turned(label, 20.0), client="adjudication/page")
        assert send(client, ruling)["saved"] == [ruling["correction_id"]]
    apply_corrections(place)
    (made,) = (one for one in portraits(place).values() if one.correction)
    assert (made.correction, made.corrected_by) == (ruling["correction_id"], "ann")


@pytest.mark.parametrize("taken_back", [False, True])
def test_killed_after_it_took_the_corrections_they_still_wait(place, taken_back):
    first, other = sorted(portraits(place))[:2]
    with service(place, apply_seconds=0) as client:
        send(client, correction(first, turned(label_of(client, first)["label"], 25.0)))
        if taken_back:
            client.app.state.phq.publish()
            apply_corrections(place)
            first = next(key for key, one in portraits(place).items() if one.correction)
            client.app.state.phq._applied()
            send(client, correction(first, None, "undo"))
    assert review.any_wait(place)
    corrections.take(place)  # and killed: no part is made yet
    before = portraits(place)
    store = Store.open(place)
    assert review.any_wait(place) and review.overview(place, store).waiting == 1
    store.close()
    with service(place, apply_seconds=0.2) as client:
        assert label_of(client, first)["waits"] and not label_of(client, other)["waits"]
        deadline = time.monotonic() + 120
        while whole.behind(place):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert portraits(place) != before and not review.any_wait(place)


def test_a_stopped_build_with_other_settings_is_not_taken_for_corrections(place):
    first, other = sorted(portraits(place))[:2]
    with service(place, apply_seconds=0) as client:
        send(client, correction(first, turned(label_of(client, first)["label"], 25.0)))
    apply_corrections(place)
    assert not review.any_wait(place)
    part = part_of(place, other)
    other_settings = configured().replace_setting("screen.min_effective_resolution=0.1")
    engine.run_part(place.url, other_settings, "screen", part)
    assert {one.part for one in whole.behind(place)} == {part} and not review.any_wait(place)


def test_a_snap_fits_again_from_a_start(place):
    before = portraits(place)
    with service(place) as client:
        for portrait in sorted(before):
            label = label_of(client, portrait)["label"]
            start = turned(label, 20.0)
            answer = client.post(f"/api/portraits/{portrait}/snap", json={"label": start})
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert found["label"]["window"] == start["window"] and 0 <= found["residual"] <= 1
            assert np.degrees(found["yaw_moved"]) < 60
            snapped, first = (
                PlacedLabel.of(one["camera"], one["pose"], one["window"]) for one in (found["label"], label)
            )
            turn = snapped.on_sphere[:3, :3].T @ first.on_sphere[:3, :3]
            assert np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))) < 19  # nearer than the start


def test_a_portrait_that_was_taken_out_cannot_be_corrected(place):
    from phq_data.pipeline.removal import remove

    before = portraits(place)
    first = sorted(before)[0]
    with service(place) as client:
        label = label_of(client, first)["label"]
        one = correction(first, label)
        send(client, one)
    assert rebuilt(place)[-1][0] == "screen"
    with place.lock():
        remove(place, [before[first].photo_id[:12]])
    assert whole.behind(place) == []
    with service(place) as client:
        found = label_of(client, first)
        assert not found["correctable"] and "taken out" in found["why"]
        assert "taken out" in send(client, correction(first, label))["refused"][0]["why"]
    assert rebuilt(place) == []


def test_the_review_applies_a_correction_by_itself(place):
    before = portraits(place)
    first = sorted(before)[0]
    with service(place, apply_seconds=0.2) as client:
        label = turned(label_of(client, first)["label"], 30.0)
        send(client, correction(first, label))
        deadline = time.monotonic() + 120
        while (found := label_of(client, first))["label"] is not None or whole.behind(place):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "replaced" in found["why"]
    (new,) = set(portraits(place)) - set(before)
    assert portraits(place)[new].corrected_from == first
    assert whole.behind(place) == [] and rebuilt(place) == []  # nothing is left for the build


def test_nothing_is_applied_in_an_unfinished_workspace(place):
    place.remove("ledger/fit/part-00001.parquet")
    with pytest.raises(WorkspaceError, match="fit of part 1: missing"):
        apply_corrections(place)


def test_corrected_labels_are_a_truth_to_calibrate_by(place):
    before = portraits(place)
    first = sorted(before)[0]
    with pytest.raises(WorkspaceError, match="no corrected label"):
        corrected_people(place)
    with service(place) as client:
        label = turned(label_of(client, first)["label"], 20.0)
        send(client, correction(first, label))
    prior = load_image_prior(Smplify2Config.PRIOR)

    def known():
        (error,) = corrected_people(place)
        (one,) = known_people(place, [error], prior)
        return error, one

    error, one = known()
    wanted = PlacedLabel.of(label["camera"], label["pose"], label["window"]).on_sphere[:3, 3]
    assert np.allclose(one.truth, wanted / np.linalg.norm(wanted), atol=1e-6)
    assert 0 < error.error_probability < 1 and error.person_id == before[first].person_id
    apply_corrections(place)  # the fit is still the fit: applied or not, the same is learned from
    again, two = known()
    assert again.true_yaw == error.true_yaw and np.array_equal(one.prior, two.prior)
