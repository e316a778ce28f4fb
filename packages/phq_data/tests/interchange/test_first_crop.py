"""Crop B from vertex maps: picture and label agree afterwards, on SMPL's own vertices."""

from __future__ import annotations

import json

import numpy as np
import pytest
import smpl_files as files

from phq_data import camera
from phq_data.bodies.smpl import default_rig, portrait_rig
from phq_data.errors import ModelError
from phq_data.images.codecs import encode_image
from phq_data.interchange import first_crop
from phq_data.interchange.portrait import ExchangeError
from phq_data.stages.crop import CANVAS_FOCAL, TIGHTER, Window
from phq_data.stages.realign import CANVAS, HEAD_HEIGHT, NOBODY, decode_vertex_map, nearest, realign

FIRST = Window(100.0, 50.0, 400.0)
POSE = np.array([0.1, 0.3, 0.0, -0.1, 0.2, 0.05])
WORLD = camera.from_angles(0.4, 0.1, 0.05)


@pytest.fixture(scope="module")
def rig():
    return portrait_rig(files.smpl_arrays(3))


def projected(rig, focal=CANVAS_FOCAL):
    K = np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    return camera.project(rig.posed(POSE), WORLD, K)[0] * CANVAS


def drawn_map(rig, scale, shift):
    """(map, exact positions): where the vertices lie when u -> scale u + shift brings them to the rig's."""
    at = (projected(rig) - shift) / scale
    vertex_map = np.full((CANVAS, CANVAS), NOBODY)
    pixel = np.rint(at).astype(int)
    inside = ((pixel >= 0) & (pixel < CANVAS)).all(axis=1)
    vertex_map[pixel[inside, 1], pixel[inside, 0]] = np.flatnonzero(inside)
    return vertex_map, at


@pytest.mark.parametrize(("scale", "shift"), [(1.0, (30, -20)), (1.5, (-200, -300)), (0.9, (60, 40))])
def test_the_realigned_window_puts_the_head_where_the_label_has_it(rig, scale, shift):
    vertex_map, at = drawn_map(rig, scale, np.array(shift, float))
    found = realign(vertex_map, rig, WORLD, POSE)
    assert found.scale == pytest.approx(scale, rel=0.02)
    window = found.window(FIRST)
    assert window.side == pytest.approx(TIGHTER * FIRST.side / scale, rel=0.02)
    head = np.flatnonzero((rig.vertices[:, 1] > HEAD_HEIGHT) & ((at >= 0) & (at < CANVAS)).all(axis=1))
    raw = FIRST.to_photo(at[head], CANVAS)
    seen, wanted = window.to_image(raw, CANVAS), projected(rig, camera.FOCAL)[head]
    assert np.abs((seen - wanted).mean(axis=0)).max() < 3  # of 1024 pixels
    published = found.window(FIRST, published_center_formula=True)
    off = (found.scale * 512 + found.shift - 512) * FIRST.side / CANVAS
    error = np.array([published.x - window.x, published.y - window.y])
    np.testing.assert_allclose(error, -off * (1 - 1 / found.scale), atol=1e-9)


def test_the_scale_is_limited_and_a_map_without_head_says_nothing(rig):
    assert realign(drawn_map(rig, 4.0, np.array([-1500.0, -1500.0]))[0], rig, WORLD, POSE).scale == 2.0
    assert realign(drawn_map(rig, 0.5, np.array([256.0, 256.0]))[0], rig, WORLD, POSE).scale == 0.85
    assert realign(np.full((CANVAS, CANVAS), NOBODY), rig, WORLD, POSE) is None


def test_the_nearest_person_is_the_target_and_far_ones_are_nobody(rig):
    near = realign(drawn_map(rig, 1.0, np.array([20.0, 0.0]))[0], rig, WORLD, POSE)
    far = realign(drawn_map(rig, 1.0, np.array([-300.0, 0.0]))[0], rig, WORLD, POSE)
    assert nearest([far, None, near]) is near
    assert nearest([None]) is None
    assert nearest([far], limit=far.distance / 2) is None


def coded(vertex_map):
    pixels = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
    there = vertex_map >= 0
    pixels[there] = np.stack(
        [np.zeros(there.sum()), vertex_map[there] % 255, vertex_map[there] // 255], axis=1
    )
    return pixels


class Everything:
    fingerprint = "everything"

    def segment(self, image, target, others):
        return np.full(image.shape[:2], 255, np.uint8)


def test_a_folder_of_the_first_crop_is_finished(rig, tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "no-models"))
    default_rig.cache_clear()
    vertex_map, _ = drawn_map(rig, 1.5, np.array([-200.0, -300.0]))
    np.testing.assert_array_equal(decode_vertex_map(coded(vertex_map)), vertex_map)
    for name in ("images", "seg"):
        (tmp_path / name).mkdir()
    photo = np.random.default_rng(0).integers(0, 255, (700, 800, 3), np.uint8)
    (tmp_path / "images" / "raw.png").write_bytes(encode_image(photo, "png")[0])
    (tmp_path / "seg" / "raw_1_seg0.png").write_bytes(encode_image(coded(vertex_map), "png")[0])
    other, _ = drawn_map(rig, 1.0, np.zeros(2))
    (tmp_path / "seg" / "raw_10_seg0.png").write_bytes(encode_image(coded(other), "png")[0])
    pose = np.zeros(72)
    pose[36:39], pose[45:48] = POSE[:3], POSE[3:]
    entry = {
        "bbox": [FIRST.x, FIRST.y, FIRST.side, FIRST.side], "intrisics": [], "camera_pose": WORLD.tolist(),
        "smpl_pose": [pose.tolist()], "coco_joint": [[0.5] * 3] * 19, "raw_image_name": "raw.png",
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps({"raw_1.png": entry, "raw_2.png": entry}))
    assert first_crop.is_first_crop(tmp_path)
    one, two = first_crop.finish(tmp_path, rig, Everything(), size=64)
    wanted = realign(vertex_map, rig, WORLD, POSE).window(FIRST)
    np.testing.assert_allclose(one.window, (wanted.x, wanted.y, wanted.side), atol=1e-3)
    plain = FIRST.scaled(TIGHTER)
    assert two.window == (plain.x, plain.y, plain.side)  # nobody's map
    with pytest.raises(ModelError, match="phq models add smpl FILE"):  # the rig is the user's to bring
        first_crop.read_any(tmp_path)
    (tmp_path / "images" / "raw.png").unlink()
    with pytest.raises(ExchangeError, match=r"raw_1\.png cannot be cut from"):
        list(first_crop.finish(tmp_path, rig, Everything()))
