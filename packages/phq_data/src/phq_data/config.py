"""Settings of a build: typed, frozen, nested; presets are functions that return a whole config.

Every setting that changes a result is here and enters the fingerprint of the parts it changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints


class ConfigError(ValueError):
    """A setting that does not exist or cannot have that value."""


@dataclass(frozen=True)
class IngestConfig:
    """Which files count as photos, and where their bytes are kept."""

    store: Literal["copy", "reference"] = "copy"  # copy into the workspace, or leave the files where they are
    min_side: int = 128  # pixels; smaller photos are rejected
    max_pixels: int = 150_000_000  # larger photos are rejected before they are decoded
    max_bytes: int = 200_000_000


@dataclass(frozen=True)
class DetectConfig:
    """Who finds people."""

    model: str = "movenet"
    flip_tta: bool = True  # movenet: look at everybody in the mirror, too, and take the mean
    second_pass: bool = True  # movenet: look once more where somebody was proposed and nobody found


@dataclass(frozen=True)
class FitConfig:
    """Who fits the body, and when a person is not worth a fit."""

    model: str = "smplify"
    min_head_score: float = 0.2  # best score among nose, eyes and ears
    min_shoulder_score: float = 0.2  # of the better shoulder
    max_residual: float = 0.15  # shoulder breadths; larger fits are rejected
    # Of smplify alone (see `models.smplify.settings`):
    initializations: int = 4  # yaws around the circle that everybody is fitted from
    shape_directions: int = 5  # of the body; 0 = everybody has the mean shape
    orientation_prior: Literal["image", "keypoints", "none"] = "image"
    """What the guess of the view looks at, that steadies the fit. A picture costs two passes of Thunder."""


@dataclass(frozen=True)
class AlignConfig:
    """Which joints enter the rotation between the template and the fitted body."""

    joints: Literal["torso", "reference"] = "torso"
    """`reference`: shoulders, neck, pelvis (the reference code). `torso`: the fitted chest itself, or what a
    portrait shows of a body with a bending spine (`stages.align`)."""


@dataclass(frozen=True)
class CropConfig:
    """How the picture is cut."""

    mode: Literal["fit", "reference"] = "fit"
    size: int = 512  # pixels a side
    codec: Literal["webp-lossless", "png", "jpeg-95"] = "webp-lossless"
    min_window: float = 50.0  # photo pixels; smaller windows are rejected (phq-data section 6)
    head_boxes: str = ""  # mode reference: the reference's head-box JSON, beside detect.model=keypoints:FILE
    vertex_maps: str = (
        ""  # mode reference: a folder of DensePose vertex maps to re-align heads by (section 10)
    )
    published_center_formula: bool = False  # re-align with the authors' centre formula instead of the corrected one


@dataclass(frozen=True)
class MaskConfig:
    """Who separates the person from the background."""

    model: str = "selfie"
    include_bystanders: bool = False  # keep the bystanders too, as the paper did


@dataclass(frozen=True)
class ScreenConfig:
    """When a portrait is not good enough. Shares are of the picture's side or area.

    Chosen on real photos, by looking at pictures on either side of each limit. `stages.scores` says how each
    number is made.
    """

    min_effective_resolution: float = 0.25  # photo pixels per picture pixel; below, there is nothing to learn from
    min_blur: float = 0.25  # sharpness; a Gaussian blur of 2 pixels leaves about this much of a sharp photo
    max_padding: float = 0.4
    max_head_outside: float = 0.15  # share of the head that lies outside the photo
    max_landmark_error: float = 0.08  # of the side; 0.08 is 3 cm on the body
    max_shoulder_error: float = 0.15  # raised arms lift shoulders that the rig cannot lift
    max_exposure: float = 0.6  # share of the person's pixels near black, or near white
    min_contrast: float = 0.1  # from the 5th to the 95th percentile of the person's luminance, 0..1
    min_mask_share: float = 0.15
    max_overlap: float = 0.12  # of the picture, by one other person's head; a whole one takes about 0.3
    max_error_probability: float = 0.35  # probability that the yaw is off by 15 degrees (docs/accuracy.md: the trade-off)
    min_laplacian: float = 0.0
    """The reference's blur filter: variance of the Laplacian of the grey crop A. 0 = not looked at."""


@dataclass(frozen=True)
class DedupConfig:
    """When two portraits are the same picture."""

    max_distance: int = 6  # bits of 64


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that `phq build` may be told."""

    part_size: int = 64  # photos a part: the unit of work and of resume
    ingest: IngestConfig = field(default_factory=IngestConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)

    def to_json(self) -> str:
        """Canonical JSON of every setting."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """A config from nested dictionaries; unknown names and wrong types raise `ConfigError`."""
        if not isinstance(values, Mapping):
            raise ConfigError("settings are a JSON object, as config.json of a workspace has them")
        return _from_dict(cls, values, "")

    def replace_setting(self, assignment: str) -> PipelineConfig:
        """This config with one setting changed, written as `crop.size=256`."""
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(
                f"a setting is written NAME=VALUE, for example crop.size=256, not {assignment!r}"
            )
        values = dataclasses.asdict(self)
        *parents, name = path.strip().split(".")
        target = values
        for parent in parents:
            inner = target.get(parent)
            if not isinstance(inner, dict):
                raise ConfigError(f"there is no setting '{path}'")
            target = inner
        if name not in target or isinstance(target[name], dict):
            raise ConfigError(f"there is no setting '{path}'")
        try:
            target[name] = json.loads(text)
        except json.JSONDecodeError:
            target[name] = text
        return PipelineConfig.from_dict(values)


def default() -> PipelineConfig:
    """The embedded default: free models, no download."""
    return PipelineConfig()


def paper() -> PipelineConfig:
    """The reference pipeline, from keypoints on, with its thresholds (data specification, sections 3 to 11).

    YOLO pose, 3DCrowdNet, SMPL, reference alignment and crop, DeepLabV3 for everybody in the frame. The user
    brings the models (`phq models`), and may bring keypoints, head boxes and vertex maps. The reference's
    filters are the reprojection (150 pixels of crop A, 0.195 of the picture's side), the Laplacian and equal
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
    """A short hex digest of dataclasses, strings and JSON-able values."""
    plain = [
        dataclasses.asdict(p) if dataclasses.is_dataclass(p) and not isinstance(p, type) else p for p in parts
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _from_dict(kind: Any, values: Mapping[str, Any], path: str) -> Any:
    hints = get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    unknown = set(values) - fields
    if unknown:
        raise ConfigError(f"there is no setting '{path}{sorted(unknown)[0]}'")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"setting '{path}{name}' is a group of settings, not {value!r}")
            arguments[name] = _from_dict(hint, value, f"{path}{name}.")
        else:
            arguments[name] = _checked(hint, value, f"{path}{name}")
    return kind(**arguments)


def _checked(hint: Any, value: Any, name: str) -> Any:
    choices = getattr(hint, "__args__", None) if getattr(hint, "__origin__", None) is Literal else None
    if choices is not None:
        if value not in choices:
            raise ConfigError(f"setting '{name}' is one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _in_range(float(value), name)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return _in_range(value, name)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    kind = _KINDS.get(hint, str(hint))
    raise ConfigError(f"setting '{name}' wants {kind}, not {value!r}")


_KINDS: Mapping[Any, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


_POSITIVE = frozenset({"part_size", "crop.size", "ingest.max_pixels", "ingest.max_bytes"})


def _in_range(value: float, name: str) -> float:
    """`value` if it is a finite number that is not negative, and not 0 where 0 makes no sense."""
    if not math.isfinite(value) or value < 0 or (value == 0 and name in _POSITIVE):
        wanted = "greater than 0" if name in _POSITIVE else "0 or greater"
        raise ConfigError(f"setting '{name}' must be a finite number, {wanted}, not {value}")
    return value
