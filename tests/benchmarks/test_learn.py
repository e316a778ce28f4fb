"""The proof of learning, at a size that proves nothing but that it measures what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import learn, learn_arms, learn_study, synthetic
from benchmarks.learn import learn_config, learn_gpu_config, main
from phq_data.camera import from_label, mirror_pose
from phq_data.release import reader
from phq_data.rendering.renderer import render_mesh
from portraitgan.checkpoints.checkpoint import checkpoints
from portraitgan.data.dataset import PortraitData
from portraitgan.metrics import poses
from portraitgan.training.config import TrainConfig
from portraitgan.training.schedule import at


def test_drawn_portraits_are_where_their_labels_say() -> None:
    """The drawn person covers the posed neutral body, seen with the true camera, from all sides."""
    from phq_data.bodies.anny import default_rig

    rig = default_rig()
    for index in range(6):
        drawn = synthetic.draw(3, index, 48)
        cam2world, intrinsics = from_label(drawn.camera)
        body = render_mesh(rig.posed(drawn.pose), rig.faces, cam2world, intrinsics, 48, backend="software")
        mask = drawn.mask >= 128
        assert (mask & body.silhouette).sum() > 0.85 * body.silhouette.sum()
        assert drawn.image.shape == (48, 48, 3) and 0.2 < mask.mean() < 0.9


def test_a_series_begins_with_the_shorter_one() -> None:
    assert np.array_equal(synthetic.draw(0, 5, 16).image, synthetic.draw(0, 5, 16).image)
    assert not np.array_equal(synthetic.draw(0, 5, 16).image, synthetic.draw(1, 5, 16).image)


@pytest.mark.slow
def test_labels_are_off_by_what_is_said(tmp_path: Path) -> None:
    """Per component: a spread of 10 degrees around a bias of 5; cameras exactly true."""
    made = synthetic.make_release(tmp_path, 200, 8, workers=2)
    rows = reader.open(made).all().metadata(["pose", "truth_pose", "camera", "truth_camera", "body"])
    off = np.degrees(np.array(rows["pose"].to_pylist()) - np.array(rows["truth_pose"].to_pylist()))
    assert off.shape == (200, 6)
    assert np.abs(off.mean(axis=0) - 5).max() < 4 * 10 / np.sqrt(200)
    assert np.abs(off.std(axis=0) - 10).max() < 4 * 10 / np.sqrt(400)
    assert rows["camera"].to_pylist() == rows["truth_camera"].to_pylist()
    assert set(rows["body"].to_pylist()) == {"anny"}


@pytest.mark.slow
def test_learn_measures_start_and_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSON", "1")
    sizes = ["--kimg", "0.032", "--portraits", "24", "--processes", "1", "--samples", "16"]
    assert main(["--folder", str(tmp_path), *sizes]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("fid_start", "fid_end", "generated_pose_error_start_deg", "generated_pose_error_end_deg"):
        assert figures[name] > 0, name
    assert figures["fid_start"] != figures["fid_end"]
    assert 0 < figures["mask_overlap_start"] <= 1
    for name in ("labels", "blind", "supervised", "coarse", "self_learned", "judge"):
        assert 0 < figures[f"pose_error_{name}_deg"] < 180, name
    assert figures["off_neutral_coarse_deg"] > 0 and figures["off_neutral_self_learned_deg"] > 0
    assert figures["portraits"] + figures["held_out"] == 24 and figures["held_out"] > 0
    assert figures["pose_error_learned_deg"] == figures["pose_error_learned_end_deg"]
    assert checkpoints(tmp_path / "run")[-1].name == "kimg-000000.032"
    assert main(["--folder", str(tmp_path), *sizes]) == 0  # nothing left to train: judged again
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["fid_end"] == figures["fid_end"]


def test_shrunk_labels_are_the_best_linear_guess() -> None:
    """Two components with the same noise: the one that varies more is believed more; the bias stays."""
    random = np.random.default_rng(0)
    truth = random.normal(0, [3.0, 1.0], (20_000, 2))
    labels = truth + random.normal(0.5, 1.0, truth.shape)
    guess = learn_arms.blind(labels, truth, np.array([[0.5, 0.5], [10.5, 0.5], [0.5, 10.5]]))
    np.testing.assert_allclose(guess, [[0.5, 0.5], [0.5 + 9, 0.5], [0.5, 0.5 + 5]], atol=0.15)
    found = learn_arms.blind(labels, truth, labels) - truth
    assert found.std() < (labels - truth).std()


def test_whoever_sees_no_image_knows_the_mirrored_twins_labels() -> None:
    """Biases to one side cancel in them, as for all that is trained; the guess is the better for it."""
    random = np.random.default_rng(0)
    parts = []
    for count in (500, 100):
        truth = np.radians(random.normal(0, 10, (count, 6))).astype(np.float32)
        labels = truth + np.radians(random.normal(8, 6, truth.shape)).astype(np.float32)
        parts.append(Portraits(torch.from_numpy(labels), torch.from_numpy(truth)))
    data, held_out = parts
    with_twins = learn.blind_error(cast(PortraitData, data), cast(PortraitData, held_out))
    guess = learn_arms.blind(data.everyone(data.poses), data.everyone(data.true), held_out.poses.numpy())
    known = held_out.true.numpy()
    assert with_twins == pytest.approx(poses.summary(guess, known)["mean_deg"])
    alone = learn_arms.blind(data.poses.numpy(), data.true.numpy(), held_out.poses.numpy())
    assert with_twins < poses.summary(alone, known)["mean_deg"] - 1


class Portraits:
    """Labels and truth as `PortraitData` gives them: mirrored twins come after all portraits."""

    def __init__(self, poses: Tensor, true: Tensor) -> None:
        self.poses, self.true, self.portraits = poses, true, len(poses)

    def __len__(self) -> int:
        return 2 * self.portraits

    def everyone(self, poses: Tensor) -> NDArray[np.float32]:
        return np.concatenate([poses.numpy(), mirror_pose(poses.numpy())])

    def labels(self, indices: range) -> tuple[None, Tensor]:
        return None, torch.from_numpy(self.everyone(self.poses)[indices])

    def truth(self, indices: range) -> tuple[None, Tensor]:
        return None, torch.from_numpy(self.everyone(self.true)[indices])


def test_structured_errors_stay_when_portraits_are_averaged() -> None:
    """A head seen from 60 degrees is drawn to the camera and turned by the bias; a third is exchanged."""
    from phq_data.camera import from_angles

    still = synthetic.Coarse(noise=0, bias=0, yaw_bias=10, toward_camera=0.3, exchanged=0.3)
    random = np.random.default_rng(0)
    pose, before = np.radians([0, 5, 0, 0, 15, 0]), np.full(6, 7.0)
    made = np.array([still.label(pose, np.radians(60), before, random) for _ in range(1000)])
    swapped = (made == before).all(axis=1)
    assert swapped.mean() == pytest.approx(0.3, abs=0.05)
    turn = 10 * np.sin(np.radians(60))
    wanted = [0, 5 + turn, 0, 0, 15 + turn + 0.3 * (60 - 20), 0]
    np.testing.assert_allclose(np.degrees(made[~swapped]), [wanted] * int((~swapped).sum()), atol=1e-9)
    assert from_angles(np.radians(60), 0.0)[0, 3] > 0  # the side that a positive turn looks to
    behind = still.label(pose, np.radians(180), None, random)
    np.testing.assert_allclose(np.degrees(behind), [0, 5, 0, 0, 15, 0], atol=1e-9)


def test_a_study_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    plans = learn_study.plans(tmp_path, 0.032, 24, "cpu")
    assert [(one.errors, one.seed) for one in plans[2:4]] == [("gaussian", 2), ("structured", 0)]
    assert plans[4].config.seed == 1
    whole = ["judge", "supervised", "self-learned", "coarse", "paper", "floor", "mean-pose"]
    assert sorted(learn_study.unfinished(plans[0])) == sorted(whole)
    (plans[0].folder / "judge").mkdir(parents=True)
    (plans[0].folder / "judge" / "config.json").write_text("{}")
    assert "judge" not in list(learn_study.unfinished(plans[0]))


def test_a_studys_table_has_intervals_over_seeds() -> None:
    figures = [
        {"errors": "gaussian", "pose_error_labels_deg": 17.0 + seed, "off_neutral_mean_pose_deg": 3.0,
         "pose_error_mean_pose_deg": 12.0} for seed in range(3)
    ]  # fmt: skip
    text, numbers = learn_study.table(figures)
    assert "| gaussian | labels | 18.0 ± 2.5° |  |" in text
    assert "| gaussian | mean-pose | 12.0 ± 0.0° | 3.0 ± 0.0° |" in text
    assert numbers["gaussian labels"]["pose_error_margin_deg"] == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert numbers["structured labels"]["pose_error_deg"] is None


@pytest.mark.parametrize(("name", "fields"), [
    ("paper", {"pose_regulariser_floor": 0.0}), ("floor", {"pose_regulariser_floor": 0.05}),
    ("mean-pose", {"mean_pose": 1.0}),
])  # fmt: skip
def test_the_papers_schedule_is_short_and_arms_differ_in_what_they_say(
    name: str, fields: dict[str, float]
) -> None:
    config = learn_arms.GANS[name](learn_config(13.0))
    loss = config.model.loss
    assert loss.pose_regulariser_images == 200
    assert {key: getattr(loss, key) for key in fields} == fields
    full = learn_config(13.0)
    assert replace(config, model=replace(config.model, loss=full.model.loss)) == full


@pytest.mark.parametrize(("make", "trains_poses"), [(learn_config, [1, 0]), (learn_gpu_config, [1, 0, 0])])
def test_the_pull_to_the_labels_lasts_until_poses_are_frozen(
    make: Callable[[float], TrainConfig], trains_poses: list[int]
) -> None:
    """Where poses are trained without it, nothing holds the canonical body."""
    config = make(24.0)
    assert [stage.train_pose_predictor for stage in config.stages] == trains_poses
    assert config.stages[-1].until_kimg == 24.0
    frozen = round(config.stages[0].until_kimg * 1000)
    assert at(config, frozen - 1).schedule.pose_regulariser == 1.0
    assert at(config, frozen + 1000).schedule.pose_regulariser < 1.0


def test_no_gpu_is_said_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here"):
        main(["--device", "cuda", "--folder", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
