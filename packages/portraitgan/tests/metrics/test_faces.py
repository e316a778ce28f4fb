"""Faces cut out of portraits, and the embedded network."""

import json

import numpy as np
import pytest
import torch

from benchmarks.onnx_bytes import onnx_network
from phq_data import camera
from portraitgan.metrics import faces, identity
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.faces import (
    DEFAULT_POINTS,
    EMBEDDED,
    PLACES,
    SIDE,
    aligned,
    face_points,
    open_face_network,
    similarity,
)


def test_a_similarity_is_found_again():
    random = np.random.default_rng(0)
    points = random.standard_normal((5, 2))
    angle, scale, shift = 0.7, 2.3, np.array([3.0, -1.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix, moved = similarity(points, points @ turn.T + shift)
    np.testing.assert_allclose(matrix, turn, atol=1e-12)
    np.testing.assert_allclose(moved, shift, atol=1e-12)


@pytest.mark.parametrize("side", [128, 512])
def test_eyes_and_nose_come_to_their_places(side):
    """An image with a colored dot where each point is seen has the dots at `PLACES` afterwards."""
    points = np.array([DEFAULT_POINTS[name] for name in PLACES])
    labels = camera.to_label(camera.from_angles(np.radians([0, 20]), np.radians([0, 8]), np.radians([0, 12])))
    images = torch.zeros(2, 3, side, side)
    y, x = np.mgrid[0:side, 0:side] + 0.5
    seen, _ = camera.project(points, camera.from_label(labels)[0])
    for one in range(2):
        for color in range(3):
            apart = np.hypot(x - seen[one, color, 0] * side, y - seen[one, color, 1] * side)
            images[one, color] = torch.from_numpy(255 * np.exp(-((apart / (0.02 * side)) ** 2)))
    faces = aligned(images, labels, points)
    assert faces.shape == (2, 3, SIDE, SIDE)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    for one, limit in ((0, 4.0), (1, 5.0)):  # the head has not quite the template's proportions
        for color, place in enumerate(PLACES.values()):
            weight = faces[one, color].numpy()
            found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            assert np.hypot(*(found - place)) < limit


def test_the_persons_right_eye_is_on_the_left_of_the_image(make_bust):
    points = face_points(make_bust(24, 16))
    front = camera.from_angles(0.0, 0.0)
    seen, _ = camera.project(points, front)
    assert seen[0, 0] < seen[2, 0] < seen[1, 0]
    assert PLACES["right_eye"][0] < PLACES["left_eye"][0]


def test_the_embedded_network_is_the_one_its_notice_names():
    facts = json.loads((EMBEDDED.parent / "checksums.json").read_text())[EMBEDDED.name]
    network = open_face_network()
    assert network.sha256 == facts["sha256"]
    assert facts["bytes"] == EMBEDDED.stat().st_size < 3e6
    assert (EMBEDDED.parent / "NOTICE").is_file()


def face(portrait):
    """A face of scikit-image's images brought to the network's size."""
    left, top, side = portrait
    data = pytest.importorskip("skimage.data").astronaut()[top : top + side, left : left + side]
    image = torch.from_numpy(data.copy()).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)


def test_the_embedded_network_knows_a_face_again_and_tells_it_from_other_images():
    network = open_face_network()
    head = face((168, 66, 112))
    moved = face((171, 63, 112))
    other = face((330, 300, 112))  # something else of the image
    vectors = network.embed(torch.cat([head, head.flip(-1), moved, 0.7 * head, other]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    similarity_to_first = vectors @ vectors[0]
    assert (similarity_to_first[1:4] > 0.6).all(), similarity_to_first
    assert similarity_to_first[4] < 0.4, similarity_to_first


def test_a_file_that_is_no_face_network_is_refused(tmp_path):
    path = tmp_path / "arcface.onnx"
    with pytest.raises(MetricError, match="cannot read"):
        open_face_network(path)
    path.write_bytes(b"not a network")
    with pytest.raises(MetricError, match=r"arcface\.onnx is no ONNX"):
        open_face_network(path)


def test_identity_of_one_person_from_two_sides(model, data, alone):
    network = open_face_network()
    found = identity.measure(model, data, network, alone, count=6, yaw_limit=180, seed=2)
    assert found == identity.measure(model, data, network, alone, count=6, yaw_limit=180, seed=2)
    assert -1 <= found["similarity"] <= 1
    assert found["latents"] == 6 and found["truncation"] == 0.6
    assert found["network"] == "mobileface (embedded)"


def test_identity_uses_views_within_the_limit_only(model, data, alone, monkeypatch):
    seen = []
    render = type(model).render

    def spy(self, ws, cameras, *rest, **more):
        seen.append(cameras)
        return render(self, ws, cameras, *rest, **more)

    monkeypatch.setattr(type(model), "render", spy)
    identity.measure(model, data, open_face_network(), alone, count=8, yaw_limit=60)
    yaw, _, _ = camera.angles(camera.from_label(torch.cat(seen).numpy())[0])
    assert len(yaw) == 16
    assert np.abs(np.degrees(yaw)).max() <= 60
    with pytest.raises(MetricError, match="no portrait is seen"):
        identity.measure(model, data, open_face_network(), alone, count=2, yaw_limit=0)


def test_a_network_of_a_file_is_used_alone_without_the_files_that_it_names(tmp_path, monkeypatch, capfd):
    path = tmp_path / "arcface.onnx"
    path.write_bytes(onnx_network())
    vectors = open_face_network(path).embed(torch.full((2, 3, SIDE, SIDE), 255.0))
    np.testing.assert_allclose(vectors, np.full((2, 3), 3**-0.5), rtol=1e-6)
    np.ones(3, np.float32).tofile(tmp_path / "w.bin")
    monkeypatch.chdir(tmp_path)
    for external in ("w.bin", str(tmp_path / "w.bin"), "../w.bin"):
        path.write_bytes(onnx_network(external))
        with pytest.raises(MetricError, match=r"arcface\.onnx is no ONNX network"):
            open_face_network(path)
    path.write_bytes(onnx_network().replace(b"Mul", b"M\xe1l"))
    with pytest.raises(MetricError, match=r"arcface\.onnx is no ONNX network"):
        open_face_network(path)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_is_too_large_or_of_other_images_or_fails_is_told(tmp_path, monkeypatch):
    path = tmp_path / "arcface.onnx"
    path.write_bytes(onnx_network(shape=(0, 3, 64, 64)))
    with pytest.raises(MetricError, match="not one batch of RGB images of 112x112"):
        open_face_network(path)
    path.write_bytes(onnx_network(shape=(1, 3, SIDE, SIDE)))
    with pytest.raises(MetricError, match=r"arcface\.onnx recognises no faces"):
        open_face_network(path).embed(torch.zeros(2, 3, SIDE, SIDE))
    with path.open("wb") as file:
        file.truncate(faces.MOST_BYTES + 1)
    with pytest.raises(MetricError, match="1,024 MiB: no face network is so large"):
        open_face_network(path)
