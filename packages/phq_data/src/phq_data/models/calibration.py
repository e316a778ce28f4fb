"""A user's own calibration of the labels: what `phq calibrate` learned from people whose truth is known.

The shipped constants hold for people at large. A calibration file moves where keypoints lie on the body and
how necks are carried, corrects the orientation prior's last layer where there was enough to learn from, and
rescales the error probability. A build uses it with `--set fit.calibration=FILE`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from phq_data.errors import PhqError
from phq_data.files import write_text
from phq_data.models.orientation.image_prior import ImageOrientationPrior
from phq_data.models.smplify.settings import Smplify2Config
from phq_data.typed_json import ConfigError, read_text

Offset = tuple[float, float, float]
LIMIT = 0.15
"""Metres that a keypoint may be moved: farther is no calibration."""


class CalibrationError(PhqError, ValueError):
    """A calibration file that cannot be used; the message names it."""


@dataclass(frozen=True)
class Held:
    """Errors on people who were held out, degrees, and the Brier score of the error probability."""

    yaw: float
    yaw_p95: float
    pitch: float
    brier: float


@dataclass(frozen=True)
class Calibration:
    """What a calibration file holds. Metres in the body's frame, left side; degrees; see `Smplify2Config`."""

    labels: int
    groups: int  # photos, or instants of calibrated cameras
    before: Held
    after: Held
    format: Literal["phq-calibration/1"] = "phq-calibration/1"
    shoulder_offset: Offset = Smplify2Config.shoulder_offset
    hip_offset: Offset = Smplify2Config.hip_offset
    neck_forward: float = Smplify2Config.neck_forward
    odds_scale: float = 1.0
    """Of the log odds of the error probability, and what is added to them; then of the expected error."""
    odds_offset: float = 0.0
    error_scale: float = 1.0
    prior: tuple[Offset, ...] = ()
    """[H] what is added to the prior's last layer for the chest's direction; empty: nothing."""
    prior_digest: str = ""
    """Of the prior that this corrects."""

    def settings(self, usual: Smplify2Config) -> Smplify2Config:
        """The fit's settings with these offsets."""
        return replace(
            usual,
            shoulder_offset=self.shoulder_offset,
            hip_offset=self.hip_offset,
            neck_forward=self.neck_forward,
        )

    def corrected(self, prior: ImageOrientationPrior) -> ImageOrientationPrior:
        """The prior with its last layer corrected. Raises `CalibrationError` where it is for another one."""
        if not self.prior:
            return prior
        if self.prior_digest != prior.digest:
            raise CalibrationError(
                "the calibration corrects the orientation prior of another version of PHQ: run "
                "`phq calibrate` again"
            )
        last = prior.last.copy()
        last[..., :3] += np.asarray(self.prior, np.float32)
        return replace(prior, last=last)


def write(path: Path, calibration: Calibration) -> None:
    """Write a calibration file, whole or not at all. Raises `OutputError`."""
    write_text(path, json.dumps(asdict(calibration), indent=1) + "\n")


@lru_cache(maxsize=4)
def load(path: str) -> Calibration:
    """The calibration in a file, read once a process. Raises `CalibrationError`."""
    try:
        found = read_text(Calibration, Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"fit.calibration={path} cannot be read: {error}") from error
    except ConfigError as error:
        raise CalibrationError(f"{path} is no calibration of `phq calibrate`: {error}") from error
    numbers = np.array([*found.shoulder_offset, *found.hip_offset])
    sound = np.isfinite(np.concatenate([numbers, np.ravel(found.prior)])).all()
    if not sound or np.abs(numbers).max() > LIMIT or not 0 < found.odds_scale <= 10:
        raise CalibrationError(f"{path} holds numbers that no calibration has: run `phq calibrate` again")
    return found
