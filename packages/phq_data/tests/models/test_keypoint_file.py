"""Keypoints from the reference's JSON: by file name, turned upright, and refused when not whole."""

from __future__ import annotations

import json

import bodyworks as works
import numpy as np
import pytest
from PIL import Image, ImageOps

from phq_data.config import DetectConfig
from phq_data.errors import ModelError
from phq_data.models.keypoint_file import KeypointFileDetector, upright
from phq_data.models.protocols import NamedPhotoDetector, PersonDetector
from phq_data.models.registry import person_detector
from phq_data.stages.detect import detect


@pytest.fixture
def write(tmp_path):
    def make(content):
        path = tmp_path / "2d_pose_result_hrnet.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


def person(offset):
    rows = np.random.default_rng(int(offset)).uniform(0, 30, (17, 5))
    rows[:, 0] += offset
    rows[:, 2] = 0.9
    return rows.tolist()


def test_people_come_by_file_name_in_the_files_order(write):
    path = write({"a photo.jpg": [person(60), person(10)], "empty.jpg": []})
    detector = person_detector(f"keypoints:{path}")
    assert isinstance(detector, PersonDetector) and isinstance(detector, NamedPhotoDetector)
    photos = [
        works.photo_record(str(i), uri=uri, width=100, height=50)
        for i, uri in enumerate(["file:///x/a%20photo.jpg", "file:///x/empty.jpg", "/x/other.jpg"])
    ]

    def closed(photo):
        raise AssertionError("no image is used")

    result = detect(photos, closed, detector, DetectConfig())
    assert [o.reason for o in result.outcomes] == ["", "no_person", "no_person"]
    assert [one.keypoints[0, 0] for one in result.records] == [person(60)[0][0], person(10)[0][0]]
    assert result.records[0].detector == detector.fingerprint
    with pytest.raises(ModelError, match="has no name"):
        detector.detect(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_of_the_stored_picture_land_where_the_upright_one_shows_them(orientation):
    stored = np.zeros((20, 30), np.uint8)
    stored[4, 7] = 255
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    turned = np.asarray(ImageOps.exif_transpose(image))
    row, column = np.argwhere(turned == 255)[0]
    point = upright(np.array([[7.5, 4.5]]), (turned.shape[1], turned.shape[0]), orientation)
    np.testing.assert_allclose(point, [[column + 0.5, row + 0.5]])


def test_files_that_are_not_whole_are_named(write, tmp_path):
    for content, message in (
        ("{", "cannot be read"),
        ([1], "no table of photos"),
        ({"a.jpg": [person(1)[:16]]}, "people of a.jpg are not 17 rows"),
        ({"a.jpg": 3}, "people of a.jpg are not 17 rows"),
    ):
        with pytest.raises(ModelError, match=message):
            KeypointFileDetector(write(content))
    with pytest.raises(ModelError, match="there is no keypoint file"):
        KeypointFileDetector(tmp_path / "nothing.json")
