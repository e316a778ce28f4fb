"""Seeds, views and images: the camera shows the side that it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from phq_data import camera as cameras
from portraitgan.commands.main import main
from portraitgan.images.drawing import PARTS, draw, normals, sheet
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.latents import from_seeds, parse_seeds
from portraitgan.inference.model import Model
from portraitgan.inference.sample import shoot


def test_seed_lists() -> None:
    assert parse_seeds("0-3,20, 5") == [0, 1, 2, 3, 20, 5]
    for text in ("", "a", "3-1", "1--2", "-4", "1.5", str(2**32)):
        with pytest.raises(InferenceError):
            parse_seeds(text)


def test_angles_become_the_labels_of_the_dataset() -> None:
    label = views.camera(90, 10, 5)[0].numpy()
    assert np.allclose(label, cameras.to_label(cameras.from_angles(*np.radians([90, 10, 5]))), atol=1e-7)
    assert label[3] > 2.6  # from the subject's left, +x
    assert views.camera(0)[0, 11] == pytest.approx(2.7)
    zoomed = views.camera(0, zoom=2)[0]
    assert zoomed[16] == pytest.approx(2 * cameras.FOCAL) and zoomed[18] == 0.5


def test_camera_labels_are_read_and_checked(tmp_path: Path) -> None:
    label = views.camera(-40, 5)
    path = tmp_path / "view.json"
    path.write_text(str(label[0].tolist()))
    assert torch.allclose(views.camera_from_text(str(path)), label)
    assert torch.allclose(views.camera_from_text(" ".join(map(str, label[0].tolist()))), label)
    with pytest.raises(InferenceError, match="25 numbers"):
        views.camera_from_text("1,2,3")
    with pytest.raises(cameras.CameraError):
        views.camera_from_text(" ".join(["1"] * 25))


@pytest.mark.parametrize("yaw", [0, 90, -90, 180, 30])
def test_a_ball_appears_where_its_label_says(
    analytic: Callable, make_ellipsoid: Callable, yaw: float
) -> None:
    centre = (0.06, 0.11, 0.05)
    model = analytic(make_ellipsoid(centre, (0.03, 0.03, 0.03)))
    label = views.camera(yaw, 8, 4)
    ws = model.styles(model.latents([0]))
    made = model.render(ws, label, resolution=64, sample_factor=12)
    mask = made.mask[0, 0].clamp(0, 1).numpy()
    rows, columns = np.mgrid[:64, :64]
    seen = np.array([(mask * (columns + 0.5)).sum(), (mask * (rows + 0.5)).sum()]) / mask.sum() / 64
    matrix, intrinsics = cameras.from_label(label[0].numpy())
    expected, distance = cameras.project(np.array([centre]), matrix, intrinsics)
    assert np.allclose(seen, expected[0], atol=0.006)
    # The depth of the middle is the distance to the ball's near side.
    column, row = (int(v * 64) for v in expected[0])
    assert made.depth[0, 0, row, column] == pytest.approx(float(distance[0]) - 0.03, abs=0.008)


def test_each_side_shows_its_color(analytic: Callable, make_ellipsoid: Callable) -> None:
    """Red is the subject's left (+x), blue the front (+z): yaw 90 shows the side that is at +x."""
    model = analytic(make_ellipsoid((0, 0.06, 0), (0.1, 0.1, 0.1)))
    ws = model.styles(model.latents([0]))

    def middle(yaw: float) -> list[bool]:
        made = model.render(ws, views.camera(yaw), resolution=32, sample_factor=12)
        half = made.image_raw[0, :, 8:24]
        left, right = half[:, :, 8:15].mean(dim=(1, 2)) > 0, half[:, :, 17:24].mean(dim=(1, 2)) > 0
        return [bool(left[0]), bool(left[2]), bool(right[0]), bool(right[2])]  # red, blue of both halves

    assert middle(0) == [False, True, True, True]  # all front; her left is on the image's right
    assert middle(180) == [True, False, False, False]
    assert middle(90) == [True, True, True, False]  # all left; the front is on the image's left
    assert middle(-90) == [False, False, False, True]


def test_normals_of_a_ball(analytic: Callable, make_ellipsoid: Callable) -> None:
    model = analytic(make_ellipsoid((0, 0.0649, 0), (0.1, 0.1, 0.1)))
    ws = model.styles(model.latents([0]))
    for yaw in (0, 120):
        label = views.camera(yaw)
        made = model.render(ws, label, resolution=64, sample_factor=12)
        found = normals(made.depth, label)[0]
        assert found[2, 32, 32] > 0.97  # towards the viewer
        assert found[0, 32, 44] > 0.5 and found[0, 32, 20] < -0.5  # right side faces right
        assert found[1, 20, 32] > 0.5 and found[1, 44, 32] < -0.5  # upper side faces up


def test_shots_are_those_of_each_person_and_view(model: Model) -> None:
    people = from_seeds(model, [3, 5], 0.7)
    labels = torch.cat([views.camera(0), views.camera(70)])
    shots = list(shoot(model, people, labels, parts=PARTS, side=32, batch=3))
    assert [(s.subject, s.view) for s in shots] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    one = next(iter(shoot(model, people[1:], labels[1:], parts=PARTS, side=32)))
    for part in PARTS:
        difference = np.abs(one.images[part].astype(int) - shots[3].images[part])
        assert difference.max() <= 1, part
    assert not np.array_equal(shots[0].images["image"], shots[2].images["image"])


def test_predicted_pose_is_the_generators(model: Model) -> None:
    people = from_seeds(model, [3])
    label = views.camera(40)
    shown = next(iter(shoot(model, people, label, predicted=True)))
    pose = model.generator.predict_pose(model.latents([3]), label)
    made = model.render(people[0].ws, label, pose, sample_factor=2.0)
    expected = draw(made, label, "image", 32)
    assert (
        np.abs(shown.images["image"].astype(float) / 255 - expected[0].permute(1, 2, 0).numpy()).max() < 0.01
    )


def test_sheet_places_images() -> None:
    tiles = [[np.full((4, 4, 3), 10 * (2 * r + c), np.uint8) for c in range(2)] for r in range(2)]
    made = sheet(tiles, gap=2)
    assert made.shape == (10, 10, 3)
    assert made[0, 0, 0] == 0 and made[0, 6, 0] == 10 and made[6, 0, 0] == 20 and made[4, 0, 0] == 255


def test_command_writes_the_same_bytes_twice(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ["sample", str(run), str(tmp_path / f"{name}.png"), "--seeds", "0,1", "--yaw", "-90", "0"]
        assert main([*arguments, "--head", "0", "-20", "0", "--device", "cpu", "--batch", "3"]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").size == (66, 66)
    folder = tmp_path / "many"
    assert (
        main(["sample", str(run), str(folder), "--seeds", "4,7", "--device", "cpu", "--show", "raw,mask"])
        == 0
    )
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"seed000{s}-{part}.png" for s in (4, 7) for part in ("mask", "raw")] + ["sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--show", "hair"], "'hair' cannot be shown"),
        (["--seeds", "x"], "no list of seeds"),
        (["--match-portrait", "abc"], "--data"),
        (["--yaw", "3", "--camera", "4"], "exclude each other"),
        (["--pitch", "90"], "pitch"),
        (["--device", "cuda:7"], "CUDA"),
        (["--samples", "0"], "--samples"),
        (["--latent", "nothing.safetensors"], "no latent file"),
    ],
)
def test_errors_speak(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["sample", str(run), str(tmp_path / "x.png"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_pose_without_rig_is_an_error(
    tmp_path: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bare = make_run(tmp_path / "run", None)
    assert main(["sample", str(bare), str(tmp_path / "x.png"), "--neck", "0", "9", "0"]) == 1
    assert "--rig" in capsys.readouterr().err
