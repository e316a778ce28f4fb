"""Settings of a build: typed, frozen, nested; presets are functions that return a whole config.

Every setting that changes a result is here and enters the fingerprint of the parts it changes. What people
write (a file, `--set`) is checked by pydantic, with the types and limits that stand here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from phq_data import compatibility, typed_json
from phq_data.typed_json import ConfigError

Whole = Annotated[int, Ge(0)]
Positive = Annotated[int, Gt(0)]
Number = Annotated[float, Ge(0)]


__all__ = ["PRESETS", "ConfigError", "PipelineConfig", "default", "digest", "paper"]


@dataclass(frozen=True)
class IngestConfig:
    """Which files count as photos, and where their bytes are kept."""

    store: Literal["copy", "reference"] = "copy"  # copy into the workspace, or leave the files where they are
    min_side: Whole = 128  # pixels; smaller photos are rejected
    max_pixels: Positive = 150_000_000  # larger photos are rejected before they are decoded
    max_bytes: Positive = 200_000_000
    # Photos that say of themselves (IPTC's digital source type, C2PA) that a model or a program made them
    generated: Literal["reject", "keep"] = "reject"


@dataclass(frozen=True)
class DetectConfig:
    """The person detector."""

    model: str = "movenet"
    flip_tta: Literal[True, False, "doubtful"] = True
    """Flip test-time augmentation of movenet and pose, the mean of a crop and its mirror image. movenet takes
    two such pairs of everybody; with `doubtful` the second one only where the first leaves doubt."""
    second_pass: bool = True  # movenet: detect again where a proposal had no person


@dataclass(frozen=True)
class FitConfig:
    """The body fitter, and when a person is not worth a fit."""

    model: str = "smplify2"
    """`smplify2`: for photos. `smplify`: as in PHQ 0.1, which workspaces of that time keep. `3dcrowdnet`."""
    min_head_score: Number = 0.2  # best score among nose, eyes and ears
    min_shoulder_score: Number = 0.2  # of the better shoulder
    max_residual: Number = 0.15  # shoulder breadths; larger fits are rejected
    # Of smplify and smplify2 alone (see `models.smplify.settings`):
    initializations: Whole = 4  # yaws around the circle that every person is fitted from
    shape_directions: Whole = 5  # of the body; 0 = everybody has the mean shape
    orientation_prior: Literal["image", "keypoints", "none"] = "image"
    """What the orientation prior sees. `image` costs two passes of Thunder a person."""
    calibration: str = ""
    """A file of `phq calibrate`: what was learned of your own people. Of smplify2 alone."""


@dataclass(frozen=True)
class AlignConfig:
    """Which joints enter the rotation between the template and the fitted body."""

    joints: Literal["torso", "reference"] = "torso"
    """`reference`: shoulders, neck, pelvis (the reference code). `torso`: the fitted chest itself, or what a
    portrait shows of a body with a bending spine (`stages.align`)."""


@dataclass(frozen=True)
class CropConfig:
    """How the portrait is cropped."""

    mode: Literal["fit", "reference"] = "fit"
    size: Positive = 512  # pixels a side
    codec: Literal["webp-lossless", "png", "jpeg-95"] = "webp-lossless"
    min_window: Number = 50.0  # photo pixels; smaller windows are rejected (data specification, section 6)
    head_boxes: str = ""  # mode reference: the reference's head-box JSON, beside detect.model=keypoints:FILE
    # mode reference: a folder of DensePose vertex maps to re-align heads by (data specification, section 10)
    vertex_maps: str = ""
    published_center_formula: bool = False
    """Re-align with the center formula as the authors published it, instead of the corrected one."""


@dataclass(frozen=True)
class MaskConfig:
    """The segmenter of person and background."""

    model: str = "selfie"
    include_bystanders: bool = False  # the mask keeps them too, as in the paper


@dataclass(frozen=True)
class ScreenConfig:
    """When a portrait is not good enough. Shares are of the portrait's side or area.

    Chosen on real photos, by looking at portraits on either side of each limit. `stages.quality` says how
    each number is made.
    """

    min_effective_resolution: Number = 0.25  # photo pixels per portrait pixel; below, there is no detail
    # Least sharpness (`blur` of `screened`: higher = sharper); a Gaussian blur of 2 pixels leaves about this
    # much of a sharp photo.
    min_blur: Number = 0.25
    max_padding: Number = 0.4
    max_head_outside: Number = 0.15  # share of the head that lies outside the photo
    max_landmark_error: Number = 0.08  # of the side; 0.08 is 3 cm on the body
    max_shoulder_error: Number = 0.15  # raised arms lift shoulders that the rig cannot lift
    max_exposure: Number = 0.6  # share of the person's pixels near black, or near white
    min_contrast: Number = 0.1  # from the 5th to the 95th percentile of the person's luminance, 0..1
    min_mask_share: Number = 0.15
    max_overlap: Number = 0.12  # of the portrait, by one other person's head; a whole one takes about 0.3
    max_error_probability: Number = 0.35
    """Probability that the yaw is off by 15 degrees or more (docs/accuracy.md: the trade-off)."""
    min_laplacian: Number = 0.0
    """The reference's blur filter: least variance of the Laplacian of the grey crop A (higher = sharper).
    0 = not used."""
    age_model: str = ""
    """The screen for minors: `age` (the network of `phq models add age`), `age:FILE.onnx`, or "" for none."""
    minor_below: Number = 16.0  # years: who looks younger is taken for a minor, and no reviewer is asked
    # Years: who looks as old is taken for an adult (docs/models.md says why 25); a person decides in between
    adult_from: Number = 25.0
    age_unseen: Literal["review", "keep"] = "review"
    """Portraits without a face to judge, rear views above all: a person decides, or they are kept unless
    somebody else in the photo may be a minor."""


@dataclass(frozen=True)
class DedupConfig:
    """When two portraits are near-duplicates."""

    max_distance: Whole = 6  # bits of 64


@dataclass(frozen=True)
class PipelineConfig:
    """All settings of `phq build`."""

    part_size: Positive = 64  # photos a part: the unit of work and of resume; more in a large plan
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run: a GPU where one can be used, or as said. Of the machine, not of the dataset: it
    enters no digest, and a workspace does not keep it."""
    ingest: IngestConfig = field(default_factory=IngestConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)

    def to_json(self) -> str:
        """Canonical JSON of every setting; without `device` where it is left to the machine."""
        values = dataclasses.asdict(self)
        if self.device == "auto":
            del values["device"]
        return json.dumps(values, sort_keys=True, indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """A config from nested dictionaries of JSON values; what they leave out keeps its default.

        Names of version 1 are read with a `compatibility.RenamedWarning`. Raises `ConfigError` that names the
        setting for an unknown name (with the nearest known one), a wrong type or a value out of range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError("settings are a JSON object, as config.json of a workspace has them")
        current, renamed = compatibility.upgrade_settings(values)
        compatibility.notice("settings", renamed)
        return typed_json.read(PipelineConfig, current)

    def replace_setting(self, assignment: str) -> PipelineConfig:
        """This config with one setting changed, written as `crop.size=256`. Raises as `from_dict` does."""
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(
                f"a setting is written NAME=VALUE, for example crop.size=256, not {assignment!r}"
            )
        written = (path.strip(), typed_json.value_of(text))
        name, value = compatibility.setting(*written)
        values = typed_json.plain(self)
        compatibility.notice("settings", compatibility.renaming(written, (name, value)))
        typed_json.assign(PipelineConfig, values, name, value)
        return typed_json.read(PipelineConfig, values)


def default() -> PipelineConfig:
    """The embedded default: free models, no download."""
    return PipelineConfig()


def paper() -> PipelineConfig:
    """The reference pipeline, from keypoints on, with its thresholds (data specification, sections 3 to 11).

    YOLO pose, 3DCrowdNet, SMPL, reference alignment and crop, DeepLabV3 for all people in the frame. The user
    brings the models (`phq models`), and may bring keypoints, head boxes and vertex maps. The reference's
    filters are the reprojection (150 pixels of crop A, 0.195 of the portrait's side), the Laplacian and equal
    hashes; `docs/models.md` says where ours differ.
    """
    return PipelineConfig(
        detect=DetectConfig(model="yolo"),
        # 3DCrowdNet's own thresholds decide who is tried.
        fit=FitConfig(model="3dcrowdnet", min_head_score=0.0, min_shoulder_score=0.0, max_residual=1.0),
        align=AlignConfig(joints="reference"),
        crop=CropConfig(mode="reference", size=1024, min_window=50.0 * 0.75),
        mask=MaskConfig(model="deeplab", include_bystanders=True),
        screen=ScreenConfig(
            min_effective_resolution=0.0,
            min_blur=0.0,
            max_padding=1.0,
            max_head_outside=1.0,
            max_landmark_error=150.0 / 1024.0 / 0.75,
            max_shoulder_error=1.0,
            max_exposure=1.0,
            min_contrast=0.0,
            min_mask_share=0.0,
            max_overlap=1.0,
            max_error_probability=1.0,
            min_laplacian=4.0,
        ),
        dedup=DedupConfig(max_distance=0),
    )


PRESETS = {"default": default, "paper": paper}


def digest(*parts: Any) -> str:
    """A short hex digest of configs, strings and JSON-able values; a renamed setting changes none."""
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()[:16]


def plain(*parts: Any) -> list[Any]:
    """`parts` as JSON has them, with the same digest: to be written down."""
    found: list[Any] = json.loads(_canonical(parts))
    return found


def _canonical(parts: Sequence[Any]) -> str:
    named = [compatibility.first_names(p) if dataclasses.is_dataclass(p) else p for p in parts]
    # A config inside of a list counts by its text: so version 1 had it, whose parts stay up to date.
    return json.dumps(named, sort_keys=True, default=compatibility.first_text)
