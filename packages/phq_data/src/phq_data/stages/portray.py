"""Portray: align, crop and mask in one pass over a photo's pixels.

Every photo is decoded once, and all its people are cut from it. One row of `portraits` a fit, or the reason
why not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data import camera
from phq_data.config import PipelineConfig
from phq_data.images import PhotoError, encode_image, image_struct
from phq_data.models.protocols import Segmenter
from phq_data.rig import PortraitRig
from phq_data.schema import make_id
from phq_data.stages.align import AlignError, Template, align
from phq_data.stages.base import OpenPhoto, Outcome, Row, StageResult, Tick, no_tick
from phq_data.stages.crop import CropError, Window, choose_window, label_residuals
from phq_data.stages.cut import cut
from phq_data.stages.mask import person_mask

LOSSY = ("jpeg-95",)
"""Codecs that change what a reviewer sees, and therefore the portrait's id."""


def portray(
    fits: Sequence[Row],
    people: Sequence[Row],
    photos: Sequence[Row],
    open_photo: OpenPhoto,
    segmenter: Segmenter,
    rig: PortraitRig,
    template: Template,
    config: PipelineConfig,
    tick: Tick = no_tick,
) -> StageResult:
    """Rows of `portraits` and one outcome a fit, in the order of `fits`.

    `people` and `photos` hold at least the persons and photos of the fits; the other people of a photo are
    its bystanders. Rejected: no_camera, no_window, window_too_small, same_portrait. Failed: photos that
    cannot be read.
    """
    photo_of = {row["photo_id"]: row for row in photos}
    person_of = {row["person_id"]: row for row in people}
    by_photo: dict[str, list[Row]] = {}
    for person in people:
        by_photo.setdefault(person["photo_id"], []).append(person)
    wanted: dict[str, list[int]] = {}
    for index, fit in enumerate(fits):
        wanted.setdefault(fit["photo_id"], []).append(index)

    rows: dict[int, Row] = {}
    outcomes: dict[int, Outcome] = {}
    made: set[str] = set()
    for photo_id, indices in wanted.items():
        photo = photo_of[photo_id]
        uri = photo.get("uri") or ""
        try:
            pixels = open_photo(photo)
        except (PhotoError, OSError) as error:
            retryable = isinstance(error, OSError)
            for index in indices:
                outcomes[index] = Outcome.failure(fits[index]["fit_id"], error, retryable=retryable, uri=uri)
                tick()
            continue
        for index in indices:
            fit = fits[index]
            person = person_of[fit["person_id"]]
            others = [row for row in by_photo[photo_id] if row["person_id"] != person["person_id"]]
            result = _portrait(fit, person, others, pixels, segmenter, rig, template, config)
            if isinstance(result, Outcome):
                outcomes[index] = result
            elif result["portrait_id"] in made:
                message = "another fit of this photo gives the same picture with the same label"
                evidence = {"portrait_id": result["portrait_id"]}
                outcomes[index] = _rejected(fit, "same_portrait", message, evidence)
            else:
                made.add(result["portrait_id"])
                rows[index] = result
                outcomes[index] = Outcome(fit["fit_id"], "kept", outputs=(result["portrait_id"],), uri=uri)
            tick()
    return StageResult(
        [rows[index] for index in sorted(rows)], [outcomes[index] for index in range(len(fits))]
    )


def portrait_id(
    photo_id: str,
    window: Window,
    label: NDArray[np.float32],  # [25]
    pose: NDArray[np.float64],  # [6]
    size: int,
    codec: str,
) -> str:
    """The id of a portrait: what a reviewer sees and a trainer gets.

    Windows are rounded to 0.01 photo pixels, cameras and poses to 1e-4: less cannot be seen, and a fit that
    is repeated on another machine keeps its ids.
    """
    place = [round(float(value) * 100) for value in (window.x, window.y, window.side)]
    camera_key = [round(float(value) * 10_000) for value in label]
    pose_key = [round(float(value) * 10_000) for value in pose]
    return make_id(photo_id, place, camera_key, pose_key, size, codec if codec in LOSSY else "lossless")


def _portrait(
    fit: Row,
    person: Row,
    others: Sequence[Row],
    pixels: NDArray[np.uint8],
    segmenter: Segmenter,
    rig: PortraitRig,
    template: Template,
    config: PipelineConfig,
) -> Row | Outcome:
    keypoints = np.asarray(person["keypoints"], np.float64).reshape(17, 3)
    size = config.crop.size
    try:
        aligned = align(fit, config.align, template)
        label = camera.to_label(aligned.camera)
        camera.check_label(label)
    except (AlignError, camera.CameraError) as error:
        return _rejected(fit, "no_camera", str(error), {"residual": fit["residual"]})
    try:
        window = choose_window(config.crop.mode, aligned, rig, template, keypoints, fit)
        if window.side < config.crop.min_window:
            message = f"the person's window is {window.side:.0f} photo pixels wide"
            evidence = {"side": window.side, "min_window": config.crop.min_window}
            return _rejected(fit, "window_too_small", message, evidence)
        picture = cut(pixels, window, size)
    except CropError as error:
        return _rejected(fit, "no_window", str(error), {"residual": fit["residual"]})
    here = window.keypoints(keypoints, size)
    bystanders = [
        window.keypoints(np.asarray(row["keypoints"], np.float64).reshape(17, 3), size) for row in others
    ]
    photo_size = (pixels.shape[1], pixels.shape[0])
    mask = person_mask(picture.pixels, window, photo_size, here, bystanders, segmenter)
    residual, shoulder_residual = label_residuals(aligned, rig, keypoints, fit, window)
    yaw, pitch, roll = camera.angles(aligned.camera)
    name = portrait_id(fit["photo_id"], window, label, aligned.pose, size, config.crop.codec)
    image_bytes, image_ext = encode_image(picture.pixels, config.crop.codec)
    mask_bytes, mask_ext = encode_image(mask, "png")
    models = {
        "detector": person["detector"],
        "fitter": fit["fitter"],
        "segmenter": segmenter.fingerprint,
        "rig": rig.digest[:16],
    }
    return {
        "portrait_id": name,
        "person_id": fit["person_id"],
        "fit_id": fit["fit_id"],
        "photo_id": fit["photo_id"],
        "camera": label.tolist(),
        "pose": aligned.pose.tolist(),
        "yaw": float(yaw),
        "pitch": float(pitch),
        "roll": float(roll),
        "window": [window.x, window.y, window.side],
        "size": size,
        "source_pixels": picture.source_pixels,
        "padding": picture.padding,
        "crop_mode": config.crop.mode,
        "keypoints": here.reshape(-1).tolist(),
        "residual": residual,
        "shoulder_residual": shoulder_residual,
        "codec": config.crop.codec,
        "models": json.dumps(models, sort_keys=True),
        "image": image_struct(image_bytes, f"{name}.{image_ext}"),
        "mask": image_struct(mask_bytes, f"{name}-mask.{mask_ext}"),
    }


def _rejected(fit: Row, reason: str, message: str, evidence: Mapping[str, object]) -> Outcome:
    return Outcome(fit["fit_id"], "rejected", reason, message, evidence=evidence)
