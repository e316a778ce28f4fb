"""A user's pose network from `phq models add` to the report: added, used, named."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pose_networks as made
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from phq_data import config
from phq_data.cli import doctor
from phq_data.cli import models as commands
from phq_data.errors import ModelError
from phq_data.models import importers
from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.pose.detector import PoseDetector
from phq_data.models.protocols import ModelTerms
from phq_data.models.user_network import beside
from phq_data.pipeline import whole
from phq_data.pipeline.local import run_inline
from phq_data.pipeline.model_set import Models, load_terms, models_for
from phq_data.records import Person, Photo, Portrait
from phq_data.report.page import write_report
from phq_data.sources.resolve import resolve
from phq_data.synthesis.photograph import take
from phq_data.synthesis.truth import true_people
from phq_data.text import file_name
from phq_data.weights import store
from phq_data.workspace import Workspace

POSE = config.default().replace_setting("detect.model=pose").replace_setting("detect.flip_tta=false")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    models_for.cache_clear()
    yield tmp_path / "models"
    models_for.cache_clear()


@pytest.fixture
def run():
    app = typer.Typer()
    commands.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_adding_a_network_says_what_is_assumed_and_writes_it_down(tmp_path, run, own_folder):
    path = made.write(tmp_path / "my net.onnx", "heatmap")
    done = run("add", "pose", path)
    assert done.exit_code == 0, done.output
    assert "assumed: its 17 keypoints are those of coco17, in that order; its heatmaps are of" in done.output
    assert "its license is unknown: add it again with --license" in done.output
    assert "phq build --set detect.model=pose uses it" in done.output
    written = json.loads(beside(path).read_text())
    assert written["layout"] == "coco17" and written["input_size"] == [96, 128] and written["udp"] is True
    assert json.loads(store.record("pose").description) == written
    first = Models(config.default().replace_setting("detect.model=pose")).detector.fingerprint

    beside(path).write_text(json.dumps({**written, "udp": False, "title": "Disks 1"}))
    assert run("add", "pose", path, "--license", "CC0-1.0").exit_code == 0
    corrected = json.loads(beside(path).read_text())
    assert corrected == {**written, "udp": False, "title": "Disks 1", "license": "CC0-1.0"}
    assert Models(config.default().replace_setting("detect.model=pose")).detector.fingerprint != first
    assert "CC0-1.0. PHQ passes on" in run("list").output
    assert "pose: right" in run("verify").output
    (check,) = (one for one in doctor.diagnose() if one.name == "pose")
    assert (check.status, check.license) == ("ok", "CC0-1.0")
    # The same network by its path has the same description, and so the same fingerprint.
    named, added = (
        Models(config.default().replace_setting(f"detect.model={name}")).detector.fingerprint
        for name in (f"pose:{path}", "pose")
    )
    assert named == added
    assert run("remove", "pose").exit_code == 0 and list(own_folder.iterdir()) == []


def test_bad_networks_are_not_kept(tmp_path, run, own_folder):
    path = made.write(tmp_path / "net.onnx")
    kept = importers.add("pose", path)
    bad = made.write(tmp_path / "bad.onnx", count=21)
    with pytest.raises(ModelError, match=r"bad\.onnx finds 21 keypoints"):
        importers.add("pose", bad)
    assert store.verify("pose") == kept and not beside(bad).exists()
    with pytest.raises(ModelError, match="the license of smpl is known"):
        importers.add("smpl", path, license="mine")


def test_what_is_not_there_is_told_before_photos_are_read(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    for name, message in (
        ("pose", "phq models add pose FILE"),
        ("pose:nothing.onnx", r"there is no pose network nothing\.onnx; give an \.onnx file"),
        (
            f"yolo:nothing.pt+pose:{made.write(tmp_path / 'net.onnx')}",
            r"there are no YOLO weights nothing\.pt",
        ),
    ):
        with pytest.raises(ModelError, match=message):
            whole.prepare(workspace, config.default().replace_setting(f"detect.model={name}"))


def test_settings_reach_the_network_and_who_finds_people(tmp_path):
    importers.add("pose", made.write(tmp_path / "net.onnx"))
    usual = Models(config.default().replace_setting("detect.model=pose")).detector
    assert isinstance(usual, PoseDetector) and isinstance(usual.people, MoveNetDetector)
    assert usual.config.flip_tta and not usual.people.config.flip_tta  # its mean is of the network's
    assert usual.people.config.second_pass_proposals > 0
    changed = Models(POSE.replace_setting("detect.second_pass=false")).detector
    assert isinstance(changed, PoseDetector) and isinstance(changed.people, MoveNetDetector)
    assert not changed.config.flip_tta and changed.people.config.second_pass_proposals == 0


@pytest.fixture
def keypoints(tmp_path):
    """True keypoints [17, 2] by photo: rendered people without colors, with a disk on every true keypoint."""
    truth = {}
    (tmp_path / "photos").mkdir()
    for index in (1, 13):
        taken = take(11, index)
        (person,) = true_people(taken, 11, index, "")
        gray = Image.open(io.BytesIO(taken.jpeg)).convert("L").convert("RGB")
        points = person.keypoints[:, :2]
        image = made.photo(points, radius=0.012 * max(gray.size), on=np.asarray(gray))
        Image.fromarray(image).save(tmp_path / "photos" / f"{index}.png")
        truth[f"{index}.png"] = points
    return truth


@pytest.mark.slow
def test_a_build_labels_people_by_the_network_and_names_it(tmp_path, keypoints):
    path = made.write(tmp_path / "net.onnx", size=(192, 256))
    importers.add("pose", path)
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    source = [resolve(str(tmp_path / "photos"))]
    report = run_inline(workspace, POSE, source)
    assert not report.errors and report.count("detect", "kept") == report.count("fit", "kept") == 2
    names = {photo.photo_id: file_name(photo.uri) for photo in workspace.records(Photo)}
    for person in workspace.records(Person):
        truth = keypoints[names[person.photo_id]]
        room = np.minimum(truth, (person.photo_width, person.photo_height) - truth).min(axis=1)
        upper = np.flatnonzero(room[:13] > 20)
        apart = np.linalg.norm(person.keypoints[upper, :2] - truth[upper], axis=1)
        assert len(upper) >= 11 and np.median(apart) < 2.5  # of more than 800
        assert (person.keypoints[upper, 2] > 0.9).all()
        assert person.detector.startswith("pose-")
    (detector,) = {json.loads(portrait.models)["detector"] for portrait in workspace.records(Portrait)}
    assert load_terms(workspace)[detector].license == "unknown"

    # What is for people changes no label, and is passed on all the same.
    importers.add("pose", path, license="CC-BY-NC-4.0")
    models_for.cache_clear()
    before = workspace.part_info("tables/people", 0).fingerprint
    run_inline(workspace, POSE, source)
    assert workspace.part_info("tables/people", 0).fingerprint == before
    assert load_terms(workspace)[detector] == ModelTerms("net", "CC-BY-NC-4.0", "")
    assert "CC-BY-NC-4.0" in Path(write_report(workspace)).read_text()

    # What keypoints depend on is another detector.
    beside(path).write_text(json.dumps({"padding": 1.4}))
    importers.add("pose", path)
    models_for.cache_clear()
    run_inline(workspace, POSE, source)
    assert workspace.part_info("tables/people", 0).fingerprint != before
    assert {person.detector for person in workspace.records(Person)} == {
        models_for(POSE).detector.fingerprint
    }
