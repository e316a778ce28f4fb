"""YOLO pose through ultralytics' own API, with a randomly initialised network: quiet, batched, orderly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Not imported here: the detector's own way of importing it is what is tested.
if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("YOLO needs the extra 'yolo'", allow_module_level=True)
from phq_data.errors import ModelError
from phq_data.models import importers, yolo
from phq_data.models.protocols import PersonDetector
from phq_data.models.registry import person_detector
from phq_data.weights import store

CONFIG = yolo.YoloConfig(min_score=1e-4, size=160, max_people=6, batch=2)


@pytest.fixture(scope="module")
def model():
    import torch

    torch.manual_seed(0)
    return yolo.open_weights("yolo11n-pose.yaml")


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, size, np.uint8) for size in ((120, 160, 3), (100, 60, 3), (120, 160, 3))]


def test_people_have_boxes_keypoints_and_scores_left_to_right(model, photos):
    detector = yolo.YoloDetector(model, "0", CONFIG)
    assert isinstance(detector, PersonDetector)
    found = detector.detect(photos[0])
    assert 0 < len(found) <= 6
    middles = []
    for person in found:
        assert person.keypoints.shape == (17, 3) and person.box.shape == (4,)
        assert 0 < person.score <= 1 and (person.keypoints[:, 2] <= 1).all()
        assert (person.box[:2] <= person.box[2:]).all()
        assert person.box.min() >= 0 and person.box[2] <= 160 and person.box[3] <= 120
        middles.append(person.box[0] + person.box[2])
    assert middles == sorted(middles)


def test_the_librarys_own_answer_is_what_comes_out(model, photos):
    raw = model.predict(
        photos[0][..., ::-1].copy(), conf=1e-4, imgsz=160, max_det=6, rect=False, verbose=False
    )
    boxes = raw[0].boxes.xyxy.numpy()
    order = np.argsort(boxes[:, 0] + boxes[:, 2], kind="stable")
    found = yolo.YoloDetector(model, "0", CONFIG).detect(photos[0])
    np.testing.assert_allclose([p.box for p in found], boxes[order], atol=1e-3)
    points = raw[0].keypoints.data.numpy()[order]
    np.testing.assert_allclose([p.keypoints for p in found], points, atol=1e-3)


def test_a_photos_people_do_not_depend_on_the_batch(model, photos):
    detector = yolo.YoloDetector(model, "0", CONFIG)
    for photo, together in zip(photos, detector.detect_batch(photos), strict=True):
        alone = detector.detect(photo)
        assert len(alone) == len(together)
        np.testing.assert_allclose([p.box for p in alone], [p.box for p in together], atol=0.05)


def test_nobody_is_found_where_the_limit_is_high(model, photos):
    assert yolo.YoloDetector(model, "0", yolo.YoloConfig(min_score=0.99, size=160)).detect(photos[0]) == []


def test_saved_weights_open_by_path_without_running_anything(model, tmp_path, photos, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    path = tmp_path / "mine.pt"
    model.save(str(path))
    detector = person_detector(f"yolo:{path}", config=CONFIG)
    first = yolo.YoloDetector(model, "0", CONFIG).detect(photos[0])
    # The library saves weights in half precision.
    assert len(detector.detect(photos[0])) > 0 and len(first) > 0
    assert detector.fingerprint.startswith("yolo-")
    with pytest.raises(ModelError, match="there are no YOLO weights"):
        person_detector("yolo:nothing.pt")
    with pytest.raises(ModelError, match="phq models add yolo11m-pose"):
        person_detector("yolo")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.pt holds no YOLO pose network"):
        person_detector(f"yolo:{tmp_path / 'text.pt'}")


def test_only_pose_weights_are_registered(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    model.save(str(tmp_path / "mine.pt"))
    kept = importers.add("yolo-own", tmp_path / "mine.pt")
    assert person_detector("yolo", config=CONFIG).fingerprint.startswith("yolo-")
    half = tmp_path / "half.pt"
    half.write_bytes((tmp_path / "mine.pt").read_bytes()[:-4000])
    (tmp_path / "text.pt").write_text("no weights")
    yolo.quiet_library().YOLO("yolo11n.yaml").save(str(tmp_path / "boxes.pt"))
    for name, message in (
        ("half.pt", r"half\.pt is damaged or holds no weights"),
        ("text.pt", r"text\.pt is damaged or holds no weights"),
        ("boxes.pt", r"boxes\.pt is no pose network"),
    ):
        with pytest.raises(ModelError, match=message):
            importers.add("yolo-own", tmp_path / name)
        assert store.verify("yolo-own") == kept  # what was there stays
    broken = next(model.model.parameters())
    before = broken.data.clone()
    broken.data[0] = float("nan")
    model.save(str(tmp_path / "nan.pt"))
    broken.data.copy_(before)
    with pytest.raises(ModelError, match=r"nan\.pt is damaged: it holds numbers that are not finite"):
        importers.add("yolo11n-pose", tmp_path / "nan.pt")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["yolo-own"]


class _Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE"],)


def test_hostile_weights_are_refused(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("HOSTILE", str(tmp_path / "made"))
    torch.save({"model": _Hostile()}, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match=r"bad\.pt holds no YOLO pose network"):
        yolo.open_weights(tmp_path / "bad.pt")
    assert not (tmp_path / "made").exists()


def test_a_network_for_boxes_alone_is_refused(tmp_path):
    yolo.quiet_library().YOLO("yolo11n.yaml").save(str(tmp_path / "boxes.pt"))
    with pytest.raises(ModelError, match=r"boxes\.pt is no pose network"):
        yolo.open_weights(tmp_path / "boxes.pt")


@pytest.mark.slow
def test_no_settings_files_no_network_and_the_license_is_said(tmp_path):
    """In a fresh process with an empty home: nothing is written there, no connection is tried."""
    code = """
import socket
def refuse(*a, **k): raise SystemExit("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from phq_data.models import yolo
model = yolo.open_weights("yolo11n-pose.yaml")
detector = yolo.YoloDetector(model, "0", yolo.YoloConfig(min_score=1e-4, size=64))
print(len(detector.detect(np.zeros((64, 64, 3), np.uint8))) >= 0)
"""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    keep = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    names = {name: os.environ[name] for name in keep if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False,
        env={**names, "HOME": str(home), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
    assert done.stderr.count("AGPL-3.0") == 1
    left = [str(p.relative_to(tmp_path)) for p in Path(tmp_path).rglob("*") if p.is_file()]
    assert [p for p in left if "yolo" in p.lower() or "ultralytics" in p.lower()] == []


def test_the_library_leaves_others_as_they_were():
    """Also in a process that has not imported it yet."""
    code = """
import io
import cv2, numpy, PIL.Image, torch
def state():
    options = numpy.get_printoptions()
    return (PIL.Image.open, torch.save, cv2.imread, cv2.getNumThreads(), repr(torch.tensor(1 / 3)),
            options["linewidth"], options["formatter"])
before = state()
from phq_data.models import importers, yolo
yolo.quiet_library()
assert state() == before, (before, state())
try:
    PIL.Image.open(io.BytesIO(b"no picture"))
except PIL.UnidentifiedImageError:
    print("as before")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "as before", done.stderr
