"""Videos: what moves, what loops, what lands in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from phq_data import camera as cameras
from phq_data.arrays import ImageArray
from portraitgan.commands.main import main
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.latents import from_seeds
from portraitgan.inference.model import Model
from portraitgan.inference.video import VideoPlan, camera_path, closed_curve, frames_of, write_video

av = pytest.importorskip("av")


def read(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_turn_goes_once_around_towards_the_subjects_left() -> None:
    matrices, _ = cameras.from_label(camera_path(VideoPlan(36, "turn", pitch=5)).numpy())
    yaw, pitch, roll = (np.degrees(a) for a in cameras.angles(matrices))
    assert np.allclose((yaw + 360) % 360, np.arange(36) * 10, atol=1e-3)
    assert np.allclose(pitch, 5, atol=1e-3) and np.allclose(roll, 0, atol=1e-3)


def test_sway_is_frontal_and_periodic() -> None:
    matrices, _ = cameras.from_label(camera_path(VideoPlan(120, "sway")).numpy())
    yaw, pitch, _ = (np.degrees(a) for a in cameras.angles(matrices))
    assert yaw.max() == pytest.approx(20.05, abs=0.01) and yaw.min() == pytest.approx(-20.05, abs=0.01)
    assert pitch.max() == pytest.approx(10.9, abs=0.01) and pitch.min() == pytest.approx(-7.3, abs=0.01)
    steps = np.abs(np.diff(np.append(yaw, yaw[0])))
    assert steps.max() < 1.1  # no jump where the video starts again


def test_curve_meets_its_keys_and_closes() -> None:
    keys = np.array([[0.0, 1], [3, 2], [-1, 5]])
    curve = closed_curve(keys)
    assert np.allclose(curve(np.array([0, 1 / 3, 2 / 3, 1])), [*keys, keys[0]])
    assert np.allclose(closed_curve(keys[:1])(np.array([0.1, 0.7])), keys[[0, 0]])


def test_frames_are_the_samples_of_their_moment(model: Model) -> None:
    people = from_seeds(model, [0, 1])
    video = VideoPlan(8, "still", poses=((0, 0, 0, 0, 0, 0), (0, 30, 0, 0, 30, 0)), parts=("image", "mask"))
    frames = list(frames_of(model, people, video, batch=3))
    assert len(frames) == 8 and frames[0].shape == (32, 64, 3)
    still = next(iter(frames_of(model, people[:1], VideoPlan(1, "still"), batch=1)))
    assert np.abs(frames[0][:, :32].astype(int) - still).max() <= 1  # both walks start at their first key
    turned = next(iter(frames_of(model, people[1:], VideoPlan(1, "still", poses=((0, 30, 0, 0, 30, 0),)))))
    assert np.abs(frames[4][:, :32].astype(int) - turned).max() <= 1
    assert np.abs(frames[2][:, :32].astype(int) - frames[6][:, :32]).max() <= 1  # there and back
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 10


def test_file_holds_the_frames_and_they_are_made_one_by_one(tmp_path: Path) -> None:
    alive = 0

    def frames() -> Iterator[ImageArray]:
        nonlocal alive
        for index in range(12):
            alive = index
            yield np.full((33, 48, 3), 20 * index, np.uint8)

    path = tmp_path / "video.mp4"
    assert write_video(path, frames(), fps=24) == 12
    found = read(path)
    assert len(found) == 12 and found[0].shape == (32, 48, 3) and alive == 11
    for index, frame in enumerate(found):
        assert abs(float(frame.mean()) - 20 * index) < 3
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24


def test_a_film_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def frames() -> Iterator[ImageArray]:
        yield np.zeros((32, 32, 3), np.uint8)
        raise InferenceError("no more")

    with pytest.raises(InferenceError):
        write_video(tmp_path / "video.mp4", frames())
    assert not list(tmp_path.iterdir())
    with pytest.raises(InferenceError, match=r"\.mp4"):
        write_video(tmp_path / "video.gif", frames())


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "video.mp4"
    arguments = ["video", str(run), str(path), "--motion", "turn", "--fps", "10", "--seconds"]
    assert main([*arguments, "0.5", "--show", "image,depth", "--size", "64", "--predicted-pose"]) == 0
    found = read(path)
    assert len(found) == 5 and found[0].shape == (64, 128, 3)
    assert main([*arguments, "0"]) == 1
    assert "no video" in capsys.readouterr().err
