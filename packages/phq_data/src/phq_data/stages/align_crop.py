"""Portray: align, crop and mask in one pass over a photo's pixels.

Every photo is decoded once, and all its people are cut from it. Segmenters that take several pictures at a
time get those of several photos together. One row of `portraits` a fit, or the reason why not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data import camera
from phq_data.config import PipelineConfig
from phq_data.errors import ModelError
from phq_data.images.codecs import PhotoError, encode_image, image_struct
from phq_data.models.protocols import FloatArray, Segmenter
from phq_data.models.reference_inputs import Given, read_vertex_map
from phq_data.rig import PortraitRig
from phq_data.schema import make_id
from phq_data.stages.align import AlignError, Alignment, Template, align
from phq_data.stages.base import OpenPhoto, Outcome, Row, StageResult, Tick, no_tick
from phq_data.stages.crop import (
    TIGHTER,
    CropError,
    Window,
    choose_window,
    first_window,
    head_box,
    label_residuals,
)
from phq_data.stages.mask import MaskRequest, person_masks, pictures_a_pass
from phq_data.stages.realign import Realignment, decode_vertex_map, nearest, realign
from phq_data.stages.resample import cut
from phq_data.text import file_name

_NOTHING = Given()
LOSSY = ("jpeg-95",)
"""Codecs that change what a reviewer sees, and therefore the portrait's id."""


def align_crop(
    fits: Sequence[Row],
    people: Sequence[Row],
    photos: Sequence[Row],
    open_photo: OpenPhoto,
    segmenter: Segmenter,
    rig: PortraitRig,
    template: Template,
    config: PipelineConfig,
    tick: Tick = no_tick,
    *,
    given: Given = _NOTHING,
) -> StageResult:
    """Rows of `portraits` and one outcome a fit, in the order of `fits`.

    `people` and `photos` hold at least the persons and photos of the fits; the other people of a photo are
    its bystanders. `given`: head boxes and vertex maps that the user brought for the reference's crop.
    Rejected: no_camera, no_window, window_too_small, same_portrait. Failed: photos and vertex maps that
    cannot be read, head boxes that are of other people.
    """
    makers = _Makers(segmenter, rig, template, config, given)
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
    unmasked: dict[int, _Unmasked] = {}

    def mask_them() -> None:
        """Complete the rows that wait for their masks."""
        masks = person_masks([one.request for one in unmasked.values()], segmenter)
        for (index, one), mask in zip(unmasked.items(), masks, strict=True):
            name = one.row["portrait_id"]
            rows[index] = {**one.row, "mask": _stored(mask, "png", f"{name}-mask")}
            outcomes[index] = Outcome(
                fits[index]["fit_id"], "kept", evidence=one.evidence, outputs=(name,), uri=one.uri
            )
            tick()
        unmasked.clear()

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
            result = _portrait(fit, person, others, photo, pixels, makers)
            if isinstance(result, _Unmasked) and result.row["portrait_id"] in made:
                message = "another fit of this photo gives the same picture with the same label"
                evidence = {"portrait_id": result.row["portrait_id"]}
                result = _rejected(fit, "same_portrait", message, evidence)
            if isinstance(result, Outcome):
                outcomes[index] = result
                tick()
                continue
            made.add(result.row["portrait_id"])
            unmasked[index] = result
            if len(unmasked) >= pictures_a_pass(segmenter):
                mask_them()
    if unmasked:
        mask_them()
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


@dataclass(frozen=True, eq=False)
class _Makers:
    """What every portrait of a build is made with."""

    segmenter: Segmenter
    rig: PortraitRig
    template: Template
    config: PipelineConfig
    given: Given


@dataclass(frozen=True, eq=False)
class _Unmasked:
    """A portrait that lacks only its mask."""

    row: Row
    request: MaskRequest
    evidence: Mapping[str, object]
    uri: str


def _portrait(
    fit: Row,
    person: Row,
    others: Sequence[Row],
    photo: Row,
    pixels: NDArray[np.uint8],
    makers: _Makers,
) -> _Unmasked | Outcome:
    config, rig, template = makers.config, makers.rig, makers.template
    keypoints = np.asarray(person["keypoints"], np.float64).reshape(17, 3)
    size = config.crop.size
    try:
        aligned = align(fit, config.align, template)
        label = camera.to_label(aligned.camera)
        camera.check_label(label)
    except (AlignError, camera.CameraError) as error:
        return _rejected(fit, "no_camera", str(error), {"residual": fit["residual"]})
    try:
        if config.crop.mode == "reference":
            window, moved = _reference_window(aligned, fit, person, 1 + len(others), photo, makers)
        else:
            window, moved = choose_window(config.crop.mode, aligned, rig, template, keypoints, fit), None
        # As in the reference, the person must be large enough before the window is re-aligned.
        side = window.side if moved is None else window.side * moved.scale
        if side < config.crop.min_window:
            message = f"the person's window is {side:.0f} photo pixels wide"
            evidence = {"side": side, "min_window": config.crop.min_window}
            return _rejected(fit, "window_too_small", message, evidence)
        picture = cut(pixels, window, size)
    except CropError as error:
        return _rejected(fit, "no_window", str(error), {"residual": fit["residual"]})
    except ModelError as error:
        return Outcome.failure(fit["fit_id"], error, uri=photo.get("uri") or "")
    here = window.keypoints(keypoints, size)
    bystanders = [
        window.keypoints(np.asarray(row["keypoints"], np.float64).reshape(17, 3), size) for row in others
    ]
    residual, shoulder_error = label_residuals(aligned, rig, keypoints, fit, window)
    yaw, pitch, roll = camera.angles(aligned.camera)
    name = portrait_id(fit["photo_id"], window, label, aligned.pose, size, config.crop.codec)
    models = {
        "detector": person["detector"],
        "fitter": fit["fitter"],
        "segmenter": makers.segmenter.fingerprint,
        "rig": rig.digest[:16],
        **makers.given.fingerprints,
    }
    row = {
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
        "effective_resolution": picture.effective_resolution,
        "padding": picture.padding,
        "crop_mode": config.crop.mode,
        "keypoints": here.reshape(-1).tolist(),
        "landmark_error": residual,
        "shoulder_error": shoulder_error,
        "codec": config.crop.codec,
        "models": json.dumps(models, sort_keys=True),
        "image": _stored(picture.pixels, config.crop.codec, name),
    }
    photo_size = (pixels.shape[1], pixels.shape[0])
    request = MaskRequest(picture.pixels, window, photo_size, here, bystanders)
    told: dict[str, object] = {} if moved is None else {"head_scale": moved.scale, "head_shift": moved.shift}
    return _Unmasked(row, request, told, photo.get("uri") or "")


def _reference_window(
    aligned: Alignment, fit: Row, person: Row, people: int, photo: Row, makers: _Makers
) -> tuple[Window, Realignment | None]:
    """The reference's final window with what the user gave it to go by, and how the head moved, if it did.

    Raises `CropError`, and `ModelError` for a map or a head box that cannot be used.
    """
    given, crop = makers.given, makers.config.crop
    keypoints = np.asarray(person["keypoints"], np.float64).reshape(17, 3)
    file, order = file_name(photo.get("uri") or ""), int(person["order"])
    head: FloatArray | None
    if given.head_boxes is None:
        head = head_box(keypoints)
    else:
        size = (int(photo["width"]), int(photo["height"]))
        head = given.head_boxes.box(file, order, people, size, int(photo["orientation"]))
    first = first_window(aligned, makers.template, keypoints, fit, head)
    if given.vertex_maps is not None:
        maps = [read_vertex_map(path) for path in given.vertex_maps.maps(file, order)]
        best = nearest(
            [realign(decode_vertex_map(one), makers.rig, aligned.camera, aligned.pose) for one in maps]
        )
        if best is not None:
            return best.window(first, published_center_formula=crop.published_center_formula), best
    return first.scaled(TIGHTER), None


def _stored(pixels: NDArray[np.uint8], codec: str, name: str) -> dict[str, object]:
    data, extension = encode_image(pixels, codec)
    return image_struct(data, f"{name}.{extension}")


def _rejected(fit: Row, reason: str, message: str, evidence: Mapping[str, object]) -> Outcome:
    return Outcome(fit["fit_id"], "rejected", reason, message, evidence=evidence)
