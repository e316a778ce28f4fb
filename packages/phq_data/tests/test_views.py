"""Calibrated views: the camera model against OpenCV, and files that are refused in one sentence."""

import json

import numpy as np
import pytest

from phq_data.synthesis.multiview import studio, views_of
from phq_data.views import CalibratedCamera, ViewsError, distorted, read_views, undistorted, write_views

PANOPTIC = (-0.286076, 0.179787, -0.00024877, 0.000216189, -0.0458576)
RATIONAL = (-0.2, 0.1, 1e-3, -5e-4, 0.01, 0.05, -0.02, 0.003)


@pytest.mark.parametrize("distortion", [(), PANOPTIC[:4], PANOPTIC, RATIONAL])
def test_points_are_projected_as_opencv_does(distortion):
    cv2 = pytest.importorskip("cv2")
    camera = studio(3, 4)[1]
    camera = CalibratedCamera(**{**vars(camera), "distortion": distortion})
    points = np.random.default_rng(0).normal(0, 0.5, (30, 3))
    turn = cv2.Rodrigues(np.array(camera.R))[0]
    lens = np.array(distortion) if distortion else None
    expected, _ = cv2.projectPoints(points, turn, np.array(camera.t), np.array(camera.K), lens)
    # OpenCV's first pixel has its middle at 0, ours its corner.
    assert np.allclose(camera.project(points), expected[:, 0] + 0.5, atol=1e-6)


@pytest.mark.parametrize("distortion", [(), PANOPTIC, RATIONAL])
def test_distortion_is_undone(distortion):
    points = np.random.default_rng(1).uniform(-0.7, 0.7, (200, 2))
    assert np.abs(undistorted(distorted(points, distortion), distortion) - points).max() < 1e-9


def test_what_no_lens_shows_has_no_bearing():
    """With barrel distortion alone nothing is seen beyond a radius of 0.54."""
    assert np.isnan(
        undistorted(np.array([[0.8, 0.0], [0.1, 0.0]]), (-0.5, 0.0, 0.0, 0.0))[:, 0]
    ).tolist() == [
        True,
        False,
    ]


def test_a_file_is_read_as_it_was_written(tmp_path):
    views = views_of(5, 2, 3)
    write_views(tmp_path / "views.json", views)
    assert read_views(tmp_path / "views.json") == views


def changed(**changes):
    """A sound file with other values in its first camera or photo (`photo=`), or at its top (`top=`)."""
    views = json.loads(json.dumps({"format": "phq-views/1", **plain(views_of(5, 2, 3))}))
    views |= changes.pop("top", {})
    if views["photos"]:
        views["photos"][0] |= changes.pop("photo", {})
    views["cameras"][0] |= changes
    return json.dumps(views)


def plain(views):
    import dataclasses

    return dataclasses.asdict(views)


BAD = {
    "no JSON": ("{", "not JSON"),
    "a list": ("[]", "JSON object"),
    "another format": (changed(top={"format": "phq-views/9"}), "phq-views/1"),
    "nothing": (json.dumps({"cameras": [], "photos": []}), "no instant has photos of two cameras"),
    "one view only": (
        changed(top={"photos": [{"file": "a", "camera": "view0", "instant": "0"}]}),
        "one view",
    ),
    "an unknown camera": (changed(photo={"camera": "view9"}), "camera 'view9', which is not among"),
    "a number as instant": (changed(photo={"instant": 5}), "photos.0.instant"),
    "a photo twice": (changed(photo={"file": "000001.jpg"}), "photo '000001.jpg' is there 2 times"),
    "two photos of a camera": (changed(photo={"camera": "view1"}), "'view1' at instant '000000' is there 2"),
    "a camera twice": (changed(name="view1"), "camera 'view1' is there 2 times"),
    "NaN": (changed().replace('"t": [', '"t": [NaN, ', 1), "NaN"),
    "a singular K": (changed(K=[[0, 0, 5], [0, 0, 5], [0, 0, 1]]), "camera 'view0': K is no camera matrix"),
    "K without its last row": (changed(K=[[1, 0, 5], [0, 1, 5]]), "cameras.0.K"),
    "no t": (changed().replace('"t":', '"T":', 1), "cameras.0.t"),
    "R as a Rodrigues vector": (changed(R=[0.1, 0.2, 0.3]), "cameras.0.R"),
    "a mirroring R": (changed(R=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]), "camera 'view0': R is no rotation"),
    "a scaled R": (changed(R=[[2, 0, 0], [0, 2, 0], [0, 0, 2]]), "camera 'view0': R is no rotation"),
    "numbers beyond squares": (changed(R=[[1e300, 0, 0], [0, 1e300, 0], [-1e300, 0, 1]]), "R is no rotation"),
    "a place beyond numbers": (changed(t=[1e308, 1e308, -1e308]), "t is in metres"),
    "millimetres": (changed(t=[0.0, 0.0, 2500.0]), "t is in metres"),
    "a fisheye": (changed(distortion=[0.1, 0.2, 0.3]), "not 3; fisheye"),
    "no size": (changed(width=0), "no size"),
    "an unknown key": (changed(focal=5), "no setting 'cameras.0.focal'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, case):
    text, message = BAD[case]
    (tmp_path / "views.json").write_text(text)
    with pytest.raises(ViewsError) as refused:
        read_views(tmp_path / "views.json")
    said = str(refused.value)
    assert message in said and str(tmp_path / "views.json") in said and "\n" not in said


def test_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(ViewsError, match="there is no file"):
        read_views(tmp_path / "views.json")
    (tmp_path / "views.json").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ViewsError, match=r"views\.json"):
        read_views(tmp_path / "views.json")
