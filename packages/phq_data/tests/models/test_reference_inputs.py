"""Head boxes and vertex maps that users bring: found by file name and person, refused when not whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phq_data.config import ConfigError, paper
from phq_data.errors import ModelError
from phq_data.images.codecs import encode_image
from phq_data.models import reference_inputs

SIZE = (100, 50)


@pytest.fixture
def write(tmp_path):
    def make(content):
        path = tmp_path / "head_bbox_yolov5_crowdhuman.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


def test_boxes_come_by_photo_and_person_and_an_empty_one_is_nobodys(write):
    boxes = reference_inputs.HeadBoxFile(
        write({"a.jpg": [{"bbox": [1, 2, 30, 40], "score": 1.0}, {"bbox": []}]})
    )
    np.testing.assert_array_equal(boxes.box("a.jpg", 0, 2, SIZE, 1), [1, 2, 30, 40])
    assert boxes.box("a.jpg", 1, 2, SIZE, 1) is None
    with pytest.raises(ModelError, match=r"does not name b\.jpg"):
        boxes.box("b.jpg", 0, 1, SIZE, 1)
    with pytest.raises(ModelError, match=r"has 2 people in a\.jpg, the keypoints 3"):
        boxes.box("a.jpg", 0, 3, SIZE, 1)


@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [(3, [69, 8, 30, 40]), (6, [58, 1, 40, 30]), (8, [2, 19, 40, 30]), (2, [69, 2, 30, 40])],
)
def test_boxes_of_the_stored_picture_are_turned_with_it(write, orientation, wanted):
    boxes = reference_inputs.HeadBoxFile(write({"a.jpg": [{"bbox": [1, 2, 30, 40]}]}))
    size = (100, 50)  # upright; a stored picture of orientation 6 or 8 is 50 wide
    np.testing.assert_array_equal(boxes.box("a.jpg", 0, 1, size, orientation), wanted)


def test_files_that_are_not_whole_are_named(write, tmp_path):
    for content, message in (
        ("{", "cannot be read"),
        ([1], "no table of photos"),
        ({"a.jpg": [{"bbox": [1, 2, 3]}]}, r"people of a\.jpg do not have a 'bbox' of 4 numbers"),
        ({"a.jpg": [{"score": 1}]}, r"people of a\.jpg do not have"),
        ({"a.jpg": {"bbox": []}}, r"people of a\.jpg do not have"),
        ('{"a.jpg": [{"bbox": [1, 2, 3, NaN]}]}', r"people of a\.jpg do not have"),
    ):
        with pytest.raises(ModelError, match=message):
            reference_inputs.HeadBoxFile(write(content))
    with pytest.raises(ModelError, match="there is no head-box file"):
        reference_inputs.HeadBoxFile(tmp_path / "nothing.json")


def test_maps_belong_to_one_person_of_one_photo(tmp_path):
    for name in ("raw_1_seg0.png", "raw_1_seg1.png", "raw_10_seg0.png", "raw_1.png", "other_1_seg0.png"):
        (tmp_path / name).write_bytes(encode_image(np.zeros((8, 8, 3), np.uint8), "png")[0])
    maps = reference_inputs.VertexMapFolder(tmp_path)
    assert [path.name for path in maps.maps("raw.x.jpg", 1)] == ["raw_1_seg0.png", "raw_1_seg1.png"]
    assert maps.maps("raw.jpg", 2) == [] and maps.maps("nobody.jpg", 1) == []
    before = maps.fingerprint
    (tmp_path / "raw_2_seg0.png").write_bytes(b"")
    assert reference_inputs.VertexMapFolder(tmp_path).fingerprint != before
    with pytest.raises(ModelError, match="is 8 x 8 x 3, not 1024"):
        reference_inputs.read_vertex_map(tmp_path / "raw_1_seg0.png")
    with pytest.raises(ModelError, match=r"raw_2_seg0\.png cannot be read"):
        reference_inputs.read_vertex_map(tmp_path / "raw_2_seg0.png")


def test_folders_without_maps_are_refused(tmp_path):
    with pytest.raises(ModelError, match="holds no vertex map"):
        reference_inputs.VertexMapFolder(tmp_path)
    with pytest.raises(ModelError, match="there is no folder"):
        reference_inputs.VertexMapFolder(tmp_path / "nothing")


def test_what_cannot_be_used_with_the_other_settings_is_refused(write, tmp_path):
    path = write({})
    boxes = f"crop.head_boxes={path}"
    with pytest.raises(ConfigError, match=r"detect\.model=keypoints:FILE"):
        reference_inputs.load(paper().replace_setting(boxes))
    chosen = paper().replace_setting("detect.model=keypoints:k.json").replace_setting(boxes)
    loaded = reference_inputs.load(chosen)
    assert loaded.vertex_maps is None and set(loaded.fingerprints) == {"head_boxes"}
    with pytest.raises(ConfigError, match=r"crop\.mode=reference"):
        reference_inputs.load(chosen.replace_setting("crop.mode=fit"))
    with pytest.raises(ConfigError, match=r"fit\.model=3dcrowdnet"):
        reference_inputs.load(
            paper().replace_setting("fit.model=smplify").replace_setting(f"crop.vertex_maps={tmp_path}")
        )
