"""The protocols between stages and networks (person detector, body fitter, segmenter), and their records.

Three of them have extensions that a network may also follow: `BatchDetector`, `NamedPhotoDetector`,
`PreparingFitter`, `BatchSegmenter`.

A stage never names a network. It asks `models.registry` for "a person detector", gets an object of one of
these protocols, and writes the object's `fingerprint` into every row that it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray

COCO_KEYPOINTS: tuple[str, ...] = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""COCO-17 order. Left and right are the person's own."""


@dataclass(frozen=True)
class DetectedPerson:
    """A person in a photo."""

    box: FloatArray  # [4] x0, y0, x1, y1 in pixels of the upright photo
    keypoints: FloatArray  # [17, 3] COCO-17: x, y in pixels of the upright photo, score in 0..1
    score: float  # how sure the detector is that this is a person, 0..1


@dataclass(frozen=True)
class FitRequest:
    """What a body fitter is given for one person. Image-based fitters also use `image`."""

    keypoints: FloatArray  # [17, 3] COCO-17: x, y in pixels of the upright photo, score
    box: FloatArray  # [4] x0, y0, x1, y1
    photo_size: tuple[int, int]  # width, height in pixels
    image: NDArray[np.uint8] | None = None  # [H, W, 3] RGB; only for fitters whose `needs_image` is true


@dataclass(frozen=True)
class BodyFit:
    """A body placed in front of the photo's camera (OpenCV frame: x right, y down, z forward; metres).

    `joints` are regressed from the posed and shaped body; see `bodies.JOINT_NAMES` for their order.
    A point P of that frame is seen at pixel (focal * X / Z + cx, focal * Y / Z + cy).
    """

    focal: float  # pixels of the upright photo
    principal: FloatArray  # [2] cx, cy in pixels
    root_orient: FloatArray  # [3] axis-angle, body (y up, faces +z) to camera
    translation: FloatArray  # [3] metres: the neck joint in the camera frame
    neck_head_pose: FloatArray  # [6] axis-angle of neck and head relative to their parents, radians
    shape: FloatArray  # [S] coefficients of the fitter's shape basis
    joints: FloatArray  # [J, 3] metres, camera frame, order `bodies.JOINT_NAMES`
    residuals: FloatArray  # [17] reprojection error per keypoint, shoulder breadths; nan = unused
    residual: float  # score-weighted mean of `residuals`, each at most 1
    hypotheses: FloatArray  # [K, 2] (yaw in radians, cost) of every start tried, best first
    converged: bool
    yaw_std: float = float("nan")  # standard deviation of the yaw that the fit leaves open, radians
    orientation_prior: FloatArray | None = None
    """[8] where the camera seemed to be before the fit: directions to it in the frames of chest and head, and
    the standard deviations of both, per coordinate; None = no prior."""


@dataclass(frozen=True)
class ModelTerms:
    """What a model that is not shipped is called, its license, and where it came from."""

    title: str
    license: str
    source: str


@runtime_checkable
class LicensedModel(Protocol):
    """A model with terms of its own, which go with what is made with it."""

    fingerprint: str
    terms: ModelTerms


@dataclass(frozen=True)
class AgeEstimate:
    """How old somebody looks to an age network."""

    years: float
    spread: float | None = None  # standard deviation, years; None: the network does not say


class AgeEstimator(Protocol):
    """Says how old people look, for the screen for minors."""

    @property
    def fingerprint(self) -> str:
        """Of the network and what its answers depend on."""
        ...

    @property
    def terms(self) -> ModelTerms:
        """Its license."""
        ...

    @property
    def side(self) -> int:
        """Of the square that it sees, pixels."""
        ...

    @property
    def padding(self) -> float:
        """Side of that square over that of the head."""
        ...

    def estimate(self, heads: NDArray[np.uint8]) -> list[AgeEstimate]:
        """The age of every head [N, side, side, 3] RGB. Raises `ModelError`."""
        ...


@runtime_checkable
class PersonDetector(Protocol):
    """Finds people and their COCO-17 keypoints."""

    fingerprint: str

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """People of one upright sRGB photo `image` [H, W, 3], ordered left to right."""
        ...


@runtime_checkable
class BatchDetector(PersonDetector, Protocol):
    """A detector that takes several photos at a time. A photo's people do not depend on the others."""

    @property
    def batch(self) -> int:
        """Photos a pass: so many are held decoded at once."""
        ...

    def detect_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[list[DetectedPerson]]:
        """People of every photo [H, W, 3], in order."""
        ...


@runtime_checkable
class NamedPhotoDetector(PersonDetector, Protocol):
    """A detector that knows the people of a photo by the photo's file name and uses no image."""

    def detect_named(self, name: str, size: tuple[int, int], orientation: int) -> list[DetectedPerson]:
        """People of the photo; `size` (width, height) is of the upright photo, `orientation` EXIF's."""
        ...


@runtime_checkable
class BodyFitter(Protocol):
    """Fits a body model to people."""

    fingerprint: str
    needs_image: bool
    body: str  # "anny" or "smpl": whose template the fit's joints are to be compared with

    def fit(self, people: Sequence[FitRequest]) -> list[BodyFit]:
        """One fit a request, in order. Never raises for a hopeless person: the residual tells."""
        ...


@runtime_checkable
class PreparingFitter(BodyFitter, Protocol):
    """An image-based fitter that can cut people out first and fit those of many photos at once."""

    def prepare(self, people: Sequence[FitRequest]) -> list[Any]:
        """All that the fit needs of each of one photo's people; the photo may be let go afterwards."""
        ...

    def fit_prepared(self, people: Sequence[Any]) -> list[BodyFit]:
        """One fit for each prepared person, in order."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Separates people from the background in a portrait crop."""

    fingerprint: str

    def segment(
        self,
        image: NDArray[np.uint8],  # [S, S, 3] RGB portrait crop
        target: FloatArray,  # [17, 3] keypoints of the target person in crop pixels
        others: Sequence[FloatArray],  # keypoints [17, 3] of the bystanders in crop pixels
    ) -> NDArray[np.uint8]:
        """Alpha [S, S] 0..255 of the target person, or of everybody when so configured."""
        ...


@runtime_checkable
class BatchSegmenter(Segmenter, Protocol):
    """A segmenter that takes several images at a time. An image's mask does not depend on the others."""

    @property
    def batch(self) -> int:
        """Images a pass: so many are held decoded at once."""
        ...

    def segment_batch(
        self,
        images: Sequence[NDArray[np.uint8]],  # [S, S, 3] RGB each
        targets: Sequence[FloatArray],  # [17, 3] each
        others: Sequence[Sequence[FloatArray]],
    ) -> list[NDArray[np.uint8]]:
        """Alphas [S, S] of every image, in order."""
        ...
