"""Screen: is a portrait good enough? Every portrait gets its numbers; a reject keeps all its reasons.

Nothing is thrown away here: `screened` has a row for every portrait, and a reviewer or a release may think
otherwise. How the numbers are measured: `stages.quality`, `stages.uncertainty`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.config import PipelineConfig, ScreenConfig
from phq_data.images.codecs import PhotoError, decode_struct, encode_image, perceptual_hash
from phq_data.models.protocols import AgeEstimator
from phq_data.records import EncodedImage, Fit, Measurements, Person, Portrait, Screened
from phq_data.rig import PortraitRig
from phq_data.stages.age import MINOR, UNSEEN, UNSURE, AgeVerdict, age_verdict, estimate_age, with_photo
from phq_data.stages.base import Inputs, ModelSet, Outcome, Stage, StageContext, StageResult, Tick, no_tick
from phq_data.stages.crop import TIGHTER, LabelledCrop
from phq_data.stages.mask import inside_photo
from phq_data.stages.quality import intrusion, laplacian_variance, pixel_scores, rig_evidence
from phq_data.stages.realign import CANVAS
from phq_data.stages.uncertainty import VOUCHED, WRONG, UncertaintyModel, evidence, load_model

_OVERLAY_SIDE = 320  # pixels; enough to see what is wrong
_SENTENCES = {
    "too_small": "the photo shows this person too small: {effective_resolution:.2f} photo pixels an image "
    "pixel",
    "blurry": "the person is blurry (sharpness {blur:.2f})",
    "blurry_laplacian": "the first crop is blurry (variance of the Laplacian {laplacian:.1f})",
    "too_dark": "{exposure_low:.0%} of the person is black",
    "too_bright": "{exposure_high:.0%} of the person is white",
    "low_contrast": "the person has hardly any contrast ({contrast:.2f})",
    "too_much_padding": "{padding:.0%} of the image lies outside the photo",
    "off_keypoints": "label and keypoints are {landmark_error:.1%} of the image apart",
    "off_shoulders": "label and shoulders are {shoulder_error:.1%} of the image apart",
    "head_cut": "{head_outside:.0%} of the head lies outside the photo",
    "mask_too_small": "the mask covers {mask_share:.1%} of the image",
    "crowded": "another person's head takes {overlap:.0%} of the image",
    MINOR: "the screen for minors estimates {age_years:.0f} years",
    UNSURE: "the screen for minors is not sure: it estimates {age_years:.0f} years",
    UNSEEN: "no face is seen, so nobody has said that this is an adult",
    "uncertain": f"its yaw is off by more than {WRONG:g}° with probability {{error_probability:.2f}}",
}
REASONS = tuple(name for name in _SENTENCES if name != "blurry_laplacian")
"""Why a portrait may be rejected."""


def screen(
    portraits: Sequence[Portrait],
    people: Sequence[Person],
    config: ScreenConfig,
    rig: PortraitRig,
    tick: Tick = no_tick,
    *,
    fits: Sequence[Fit] = (),
    uncertainty: UncertaintyModel | None = None,
    age: AgeEstimator | None = None,
) -> StageResult[Screened]:
    """A verdict on every portrait, and one outcome each.

    `people` are all people of the portraits' photos. With `fits`, the error probability knows how well
    keypoints were explained and what else would explain them; without, it rests on keypoints and label alone.
    `uncertainty` is the default fitter's unless given. With `age`, minors are screened for (`stages.age`).
    Raises `ModelError` when its network fails.
    """
    by_photo: dict[str, list[Person]] = {}
    for person in people:
        by_photo.setdefault(person.photo_id, []).append(person)
    fit_of = {fit.fit_id: fit for fit in fits}
    ages = _ages(portraits, config, rig, age) if age is not None else {}
    verdicts: list[Screened] = []
    outcomes: list[Outcome] = []
    for portrait in portraits:
        try:
            image, mask = _decoded(portrait.image), _decoded(portrait.mask)
        except PhotoError as error:
            outcomes.append(Outcome.failure(portrait.portrait_id, error))
            tick()
            continue
        crop, group = LabelledCrop.of(portrait), by_photo.get(portrait.photo_id, [])
        fit = fit_of.get(portrait.fit_id)
        scores = _scores(portrait, crop, image, mask, group, fit, rig, uncertainty or load_model())
        if config.min_laplacian > 0:
            scores = replace(scores, laplacian=laplacian_variance(image, round(CANVAS * TIGHTER)))
        shown = ages.get(portrait.portrait_id)
        if shown is not None and shown.estimate is not None:
            scores = replace(scores, age_years=shown.estimate.years, age_spread=shown.estimate.spread)
        reasons = judge(scores, config, vouched=portrait.corrected_from is not None)
        reasons = [shown.reason, *reasons] if shown is not None and shown.reason else reasons
        drawn = _overlay(portrait.portrait_id, crop, image, rig) if reasons else None
        verdicts.append(_verdict(portrait, scores, reasons, perceptual_hash(image), drawn, shown))
        outcomes.append(_outcome(portrait, scores, reasons, config))
        tick()
    return StageResult(verdicts, outcomes)


@dataclass(frozen=True, kw_only=True)
class Scores(Measurements):
    """All that is measured of a portrait: the numbers of `screened`, and some that only the ledger keeps."""

    expected_yaw_error: float
    coverage: float  # share of the label's body that lies on the person
    head_outside: float  # share of the head that lies outside the photo
    laplacian: float | None = None  # of crop A, where the reference's blur filter is asked for
    age_years: float | None = None  # where there is a screen for minors, of a face that is seen
    age_spread: float | None = None  # its standard deviation, if the age network says so

    def known(self) -> dict[str, float]:
        """All that were measured, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


LABEL_REASONS = ("off_shoulders", "off_keypoints", "uncertain")
"""Reasons that speak against the label alone: a corrected label takes them away."""


def judge(scores: Scores, config: ScreenConfig, *, vouched: bool = False) -> list[str]:
    """The reasons to reject a portrait with these scores, most telling first; empty when it is good.

    `vouched`: a person gave the label, and nothing is held against it.
    """
    laplacian = np.inf if scores.laplacian is None else scores.laplacian
    checks = [
        ("too_small", scores.effective_resolution < config.min_effective_resolution),
        ("off_shoulders", scores.shoulder_error > config.max_shoulder_error),
        ("off_keypoints", scores.landmark_error > config.max_landmark_error),
        ("crowded", scores.overlap > config.max_overlap),
        ("too_much_padding", scores.padding > config.max_padding),
        ("head_cut", scores.head_outside > config.max_head_outside),
        ("mask_too_small", scores.mask_share < config.min_mask_share),
        ("blurry", scores.blur < config.min_blur),
        ("blurry", laplacian < config.min_laplacian),
        ("too_dark", scores.exposure_low > config.max_exposure),
        ("too_bright", scores.exposure_high > config.max_exposure),
        ("low_contrast", scores.contrast < config.min_contrast),
        ("uncertain", scores.error_probability > config.max_error_probability),
    ]
    left_out = LABEL_REASONS if vouched else ()
    return list(dict.fromkeys(reason for reason, bad in checks if bad and reason not in left_out))


def _ages(
    portraits: Sequence[Portrait], config: ScreenConfig, rig: PortraitRig, estimator: AgeEstimator
) -> dict[str, AgeVerdict]:
    """The screen for minors by portrait, of those that can be decoded."""
    found: dict[str, AgeVerdict] = {}
    photos: list[str] = []
    for portrait in portraits:
        try:
            image = _decoded(portrait.image)
        except PhotoError:
            continue
        estimate = estimate_age(image, LabelledCrop.of(portrait), portrait.keypoints, rig, estimator)
        found[portrait.portrait_id] = age_verdict(estimate, config)
        photos.append(portrait.photo_id)
    return dict(zip(found, with_photo(photos, list(found.values())), strict=True))


def _scores(
    portrait: Portrait,
    crop: LabelledCrop,
    image: NDArray[np.uint8],  # [S, S, 3]
    mask: NDArray[np.uint8],  # [S, S]
    group: Sequence[Person],  # all people of the photo
    fit: Fit | None,
    rig: PortraitRig,
    uncertainty: UncertaintyModel,
) -> Scores:
    person = next((one for one in group if one.person_id == portrait.person_id), None)
    if person is not None:
        inside = inside_photo(crop.window, crop.size, (person.photo_width, person.photo_height))
    else:
        inside = np.ones((crop.size, crop.size), bool)
    target = portrait.keypoints.copy()
    target[:, :2] = crop.window.to_photo(target[:, :2], crop.size)
    others = [one.keypoints for one in group if one.person_id != portrait.person_id]
    pixels = pixel_scores(image, mask, inside, portrait.effective_resolution)
    on_rig = rig_evidence(rig, crop, mask, inside)
    if portrait.corrected_from is not None:
        expected = VOUCHED
    else:
        expected = uncertainty.assess(
            evidence(
                portrait.keypoints, portrait.landmark_error, on_rig.coverage, crop, fit, portrait.padding
            )
        )
    return Scores(
        **asdict(pixels),
        effective_resolution=portrait.effective_resolution,
        padding=portrait.padding,
        landmark_error=portrait.landmark_error,
        shoulder_error=portrait.shoulder_error,
        overlap=intrusion(crop.window, target, others),
        error_probability=expected.wrong,
        expected_yaw_error=expected.expected_yaw_error,
        **asdict(on_rig),
    )


def _verdict(
    portrait: Portrait,
    scores: Scores,
    reasons: list[str],
    phash: int,
    overlay: EncodedImage | None,
    age: AgeVerdict | None,
) -> Screened:
    return Screened(
        portrait_id=portrait.portrait_id,
        photo_id=portrait.photo_id,
        kept=not reasons,
        reasons=tuple(reasons),
        **scores.numbers(),
        expected_yaw_error=scores.expected_yaw_error if np.isfinite(scores.expected_yaw_error) else None,
        phash=phash,
        overlay=overlay,
        age_screen=age.outcome if age is not None else None,
        age_years=scores.age_years,
        age_spread=scores.age_spread,
    )


def _outcome(portrait: Portrait, scores: Scores, reasons: list[str], config: ScreenConfig) -> Outcome:
    name, numbers = portrait.portrait_id, scores.known()
    found = {**numbers, "reasons": reasons}
    if not reasons:
        return Outcome(name, "kept", evidence=found, outputs=(name,))
    only_laplacian = scores.blur >= config.min_blur  # where it is blurry: by the reference's filter alone
    sentences = {**_SENTENCES, "blurry": _SENTENCES["blurry_laplacian" if only_laplacian else "blurry"]}
    message = "; ".join(sentences[reason].format(**numbers) for reason in reasons)
    return Outcome(name, "rejected", reasons[0], message, evidence=found, outputs=(name,))


def _decoded(image: EncodedImage) -> NDArray[np.uint8]:
    return decode_struct(asdict(image))


def _overlay(name: str, crop: LabelledCrop, image: NDArray[np.uint8], rig: PortraitRig) -> EncodedImage:
    """The image with the posed rig drawn on it, small."""
    from phq_data.rendering.renderer import overlay

    if len(image) > _OVERLAY_SIDE:
        small = Image.fromarray(image).resize((_OVERLAY_SIDE, _OVERLAY_SIDE), Image.Resampling.BOX)
        image = np.asarray(small)
    data, extension = encode_image(overlay(image, rig, crop.label, crop.pose), "jpeg-95")
    return EncodedImage(data, f"{name}-overlay.{extension}")


def _run(inputs: Inputs, context: StageContext) -> StageResult[Screened]:
    config, rig = context.config.screen, context.models.rig
    people, fits = inputs.of(Person), inputs.of(Fit)
    uncertainty = _uncertainty(context.config)
    portraits, age = inputs.of(Portrait), context.models.age
    return screen(portraits, people, config, rig, context.tick, fits=fits, uncertainty=uncertainty, age=age)


def _made_with(config: PipelineConfig, models: ModelSet) -> list[object]:
    # The age network counts by its content, wherever its file lies.
    settings = replace(config.screen, age_model="")
    age = [] if models.age is None else [models.age.fingerprint]
    return [settings, models.rig.digest, _uncertainty(config).digest, *age]


def _uncertainty(config: PipelineConfig) -> UncertaintyModel:
    return load_model(config.fit.model, config.fit.calibration)


STAGE = Stage(
    name="screen",
    title="screen portraits",
    version=2,
    makes=Screened,
    reads=(Portrait, Person, Fit),
    item="portrait_id",
    made_with=_made_with,
    run=_run,
)
