"""Table 1 of the paper, and what the official code makes of it between the lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portraitgan.training import config
from portraitgan.training.schedule import at, resolution_at, stage_index, stage_start

PAPER = config.paper_512()


@pytest.mark.parametrize(
    ("images", "swap", "blur", "noise", "regulariser"),
    [
        (0, 1.0, 10.0, 1.0, 1.0),
        (100_000, 0.97, 5.0, 0.5, 1.0),  # as in the official step's golden file
        (300_000, 0.91, 0.0, 0.0, 0.5),
        (1_000_000, 0.7, 0.0, 0.0, 0.0),
        (9_000_000, 0.7, 0.0, 0.0, 0.0),
    ],
)
def test_what_fades(images: int, swap: float, blur: float, noise: float, regulariser: float) -> None:
    found = at(PAPER, images).schedule
    assert found.condition_swap == pytest.approx(swap)
    assert found.blur_sigma == pytest.approx(blur)
    assert found.density_noise == pytest.approx(noise)
    assert found.pose_regulariser == pytest.approx(regulariser)


@pytest.mark.parametrize(
    ("images", "name", "trains_poses", "side"),
    [
        (0, "1", True, 64),
        (5_999_968, "1", True, 64),
        (6_000_000, "2", False, 64),
        (10_000_000, "3", False, 64),
        (10_500_000, "3", False, 96),
        (11_000_000, "3", False, 128),
        (12_999_968, "3", False, 128),
        (14_000_000, "3", False, 128),
    ],
)
def test_stages(images: int, name: str, trains_poses: bool, side: int) -> None:
    state = at(PAPER, images)
    assert state.stage.name == name
    assert state.stage.train_pose_predictor is trains_poses
    assert state.schedule.resolution == side


def test_every_number_of_rays_occurs() -> None:
    last = PAPER.stages[2]
    assert {resolution_at(last, images) for images in range(0, 1_000_001, 1000)} == set(range(64, 129))


def test_stage_starts_where_the_one_before_ends() -> None:
    for index in range(3):
        start = stage_start(PAPER, index)
        assert stage_index(PAPER, start) == index
        assert start == 0 or stage_index(PAPER, start - 1) == index - 1


def test_moving_average_has_the_official_half_life() -> None:
    """0.5 ** (32 / min(10 000, 0.05 N)): after a half-life of images, half is left."""
    assert at(PAPER, 1_000_000).ema_decay == pytest.approx(0.5 ** (32 / 10_000))
    assert at(PAPER, 100_000).ema_decay == pytest.approx(0.5 ** (32 / 5_000))
    assert at(PAPER, 0).ema_decay == 0.0


def test_spans_of_zero_are_over_at_once() -> None:
    none = config.ScheduleConfig(0.7, 0, 10, 0, 1, 0)
    found = at(replace(PAPER, schedule=none), 0).schedule
    assert (found.condition_swap, found.blur_sigma, found.density_noise) == pytest.approx((0.7, 0, 0))
