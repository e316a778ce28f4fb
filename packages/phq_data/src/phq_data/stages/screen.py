"""Screen: is a portrait good enough? Every portrait gets its numbers; a reject keeps all its reasons.

Nothing is thrown away here: `screened` has a row for every portrait, and a reviewer or a release may think
otherwise. `scores` says how the numbers are made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.config import ScreenConfig
from phq_data.images.codecs import PhotoError, decode_struct, encode_image, image_struct, perceptual_hash
from phq_data.rig import PortraitRig
from phq_data.schema import SCREENED
from phq_data.stages.base import Outcome, Row, StageResult, Tick, no_tick
from phq_data.stages.crop import TIGHTER, Window
from phq_data.stages.mask import inside_photo
from phq_data.stages.quality import intrusion, laplacian_variance, pixel_scores, rig_evidence
from phq_data.stages.realign import CANVAS
from phq_data.stages.uncertainty import WRONG, evidence, load_model

_OVERLAY_SIDE = 320  # pixels; enough to see what is wrong
_SENTENCES = {
    "too_small": "the photo shows this person too small: {effective_resolution:.2f} photo pixels a picture "
    "pixel",
    "blurry": "the person is blurry (sharpness {blur:.2f})",
    "too_dark": "{exposure_low:.0%} of the person is black",
    "too_bright": "{exposure_high:.0%} of the person is white",
    "low_contrast": "the person has hardly any contrast ({contrast:.2f})",
    "too_much_padding": "{padding:.0%} of the picture lies outside the photo",
    "off_keypoints": "label and keypoints are {landmark_error:.1%} of the picture apart",
    "off_shoulders": "label and shoulders are {shoulder_error:.1%} of the picture apart",
    "head_cut": "{head_outside:.0%} of the head lies outside the photo",
    "mask_too_small": "the mask covers {mask_share:.1%} of the picture",
    "crowded": "another person's head takes {overlap:.0%} of the picture",
    "doubtful": f"its yaw is off by more than {WRONG:g}° with probability {{error_probability:.2f}}",
}


def screen(
    portraits: Sequence[Row],
    people: Sequence[Row],
    config: ScreenConfig,
    rig: PortraitRig,
    tick: Tick = no_tick,
    *,
    fits: Sequence[Row] = (),
) -> StageResult:
    """Rows of `screened` for all portraits and one outcome each.

    `people` are all people of the portraits' photos. With the rows of `fits`, doubt knows how well keypoints
    were explained and what else would explain them; without, it rests on keypoints and label alone.
    """
    by_photo: dict[str, list[Row]] = {}
    for person in people:
        by_photo.setdefault(person["photo_id"], []).append(person)
    fit_of = {row["fit_id"]: row for row in fits}
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for portrait in portraits:
        name = portrait["portrait_id"]
        try:
            picture, mask = decode_struct(portrait["image"]), decode_struct(portrait["mask"])
        except PhotoError as error:
            outcomes.append(Outcome.failure(name, error))
            tick()
            continue
        group = by_photo.get(portrait["photo_id"], [])
        numbers = _numbers(portrait, picture, mask, group, fit_of.get(portrait["fit_id"]), rig)
        if config.min_laplacian > 0:
            numbers["laplacian"] = laplacian_variance(picture, round(CANVAS * TIGHTER))
        reasons = judge(numbers, config)
        row: Row = {
            "portrait_id": name,
            "photo_id": portrait["photo_id"],
            "kept": not reasons,
            "reasons": reasons,
            **{column: numbers[column] for column in SCREENED.names if column in numbers},
            "phash": perceptual_hash(picture),
            "overlay": _overlay(portrait, picture, rig) if reasons else None,
        }
        rows.append(row)
        evidence = {**numbers, "reasons": reasons}
        if reasons:
            message = "; ".join(_SENTENCES[reason].format(**numbers) for reason in reasons)
            outcomes.append(
                Outcome(name, "rejected", reasons[0], message, evidence=evidence, outputs=(name,))
            )
        else:
            outcomes.append(Outcome(name, "kept", evidence=evidence, outputs=(name,)))
        tick()
    return StageResult(rows, outcomes)


def judge(numbers: dict[str, float], config: ScreenConfig) -> list[str]:
    """The reasons to reject a portrait with these numbers, most telling first; empty when it is good."""
    checks = [
        ("too_small", numbers["effective_resolution"] < config.min_effective_resolution),
        ("off_shoulders", numbers["shoulder_error"] > config.max_shoulder_error),
        ("off_keypoints", numbers["landmark_error"] > config.max_landmark_error),
        ("crowded", numbers["overlap"] > config.max_overlap),
        ("too_much_padding", numbers["padding"] > config.max_padding),
        ("head_cut", numbers["head_outside"] > config.max_head_outside),
        ("mask_too_small", numbers["mask_share"] < config.min_mask_share),
        ("blurry", numbers["blur"] < config.min_blur),
        ("blurry", numbers.get("laplacian", np.inf) < config.min_laplacian),
        ("too_dark", numbers["exposure_low"] > config.max_exposure),
        ("too_bright", numbers["exposure_high"] > config.max_exposure),
        ("low_contrast", numbers["contrast"] < config.min_contrast),
        ("doubtful", numbers["error_probability"] > config.max_error_probability),
    ]
    return list(dict.fromkeys(reason for reason, bad in checks if bad))


def _numbers(
    portrait: Row,
    picture: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    group: Sequence[Row],
    fit: Row | None,
    rig: PortraitRig,
) -> dict[str, float]:
    """The score columns of `screened`, and what else goes into the evidence."""
    window = Window(*portrait["window"])
    person = next((row for row in group if row["person_id"] == portrait["person_id"]), None)
    size = int(portrait["size"])
    if person is not None:
        inside = inside_photo(window, size, (int(person["photo_width"]), int(person["photo_height"])))
    else:
        inside = np.ones((size, size), bool)
    here = np.asarray(portrait["keypoints"], np.float64).reshape(17, 3)
    target = here.copy()
    target[:, :2] = window.to_photo(here[:, :2], size)
    others = [row["keypoints"] for row in group if row["person_id"] != portrait["person_id"]]
    pixels = pixel_scores(picture, mask, inside, float(portrait["effective_resolution"]))
    on_rig = rig_evidence(rig, portrait["camera"], portrait["pose"], mask, inside)
    residual = float(portrait["landmark_error"])
    seen = evidence(here, residual, on_rig.coverage, portrait["camera"], portrait["pose"], fit)
    doubt = load_model().assess(seen)
    return {
        "blur": pixels.blur,
        "exposure_low": pixels.exposure_low,
        "exposure_high": pixels.exposure_high,
        "contrast": pixels.contrast,
        "effective_resolution": float(portrait["effective_resolution"]),
        "padding": float(portrait["padding"]),
        "landmark_error": residual,
        "shoulder_error": float(portrait["shoulder_error"]),
        "mask_share": pixels.mask_share,
        "overlap": intrusion(window, target, others),
        "error_probability": doubt.wrong,
        "expected_yaw_error": doubt.expected_yaw_error,
        "coverage": on_rig.coverage,
        "head_outside": on_rig.head_outside,
    }


def _overlay(portrait: Row, picture: NDArray[np.uint8], rig: PortraitRig) -> Row:
    from phq_data.rendering.renderer import overlay

    if len(picture) > _OVERLAY_SIDE:
        small = Image.fromarray(picture).resize((_OVERLAY_SIDE, _OVERLAY_SIDE), Image.Resampling.BOX)
        picture = np.asarray(small)
    drawn = overlay(picture, rig, portrait["camera"], portrait["pose"])
    data, extension = encode_image(drawn, "jpeg-95")
    return image_struct(data, f"{portrait['portrait_id']}-overlay.{extension}")
