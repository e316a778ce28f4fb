"""Align and crop: camera, window, image and mask in one pass over a photo's pixels.

Every photo is decoded once, and all its people are resampled from it. Segmenters that take several images
at a time get those of several photos together. One portrait a fit, or the reason why not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phq_data.camera import CameraError
from phq_data.config import PipelineConfig
from phq_data.errors import ModelError
from phq_data.images.codecs import PhotoError, encode_image
from phq_data.models.protocols import Segmenter
from phq_data.models.reference_inputs import ReferenceInputs, read_vertex_map
from phq_data.records import EncodedImage, Fit, Person, Photo, Portrait
from phq_data.rig import PortraitRig
from phq_data.stages.align import AlignError, Alignment, Template, align
from phq_data.stages.base import (
    Corrections,
    Inputs,
    ModelSet,
    OpenPhoto,
    Outcome,
    Stage,
    StageContext,
    StageResult,
    Tick,
    no_tick,
)
from phq_data.stages.crop import (
    TIGHTER,
    CropError,
    LabelledCrop,
    Window,
    choose_window,
    first_window,
    head_box,
    landmark_errors,
)
from phq_data.stages.ingest import may_pass
from phq_data.stages.mask import MaskRequest, images_a_pass, person_masks
from phq_data.stages.realign import Realignment, decode_vertex_map, nearest, realign
from phq_data.stages.relabel import RelabelError, aligned_label, corrected_fit
from phq_data.stages.resample import resample
from phq_data.text import file_name

_NOTHING = ReferenceInputs()
_LATER = EncodedImage(b"")
"""The mask of a portrait that waits for it."""


def align_crop(
    fits: Sequence[Fit],
    people: Sequence[Person],
    photos: Sequence[Photo],
    open_photo: OpenPhoto,
    segmenter: Segmenter,
    rig: PortraitRig,
    template: Template,
    config: PipelineConfig,
    tick: Tick = no_tick,
    *,
    reference_inputs: ReferenceInputs = _NOTHING,
    corrections: Corrections | None = None,
) -> StageResult[Portrait]:
    """Portraits, and one outcome a fit, in the order of `fits`.

    `people` and `photos` hold at least the persons and photos of the fits; the other people of a photo are
    its bystanders. `reference_inputs`: head boxes and vertex maps that the user brought for the reference's
    crop. `corrections`: labels that people gave; they go before the fits'. Rejected: no_camera, no_window,
    window_too_small, same_portrait. Failed: photos and vertex maps that cannot be read, head boxes of
    other people.
    """
    makers = _Makers(segmenter, rig, template, config, reference_inputs, corrections or {})
    portraits: dict[int, Portrait] = {}
    outcomes: dict[int, Outcome] = {}
    unmasked: dict[int, _Unmasked] = {}

    def mask_them() -> None:
        """Complete the portraits that wait for their masks."""
        masks = person_masks([one.request for one in unmasked.values()], segmenter)
        for (index, one), mask in zip(unmasked.items(), masks, strict=True):
            name = one.portrait.portrait_id
            portraits[index] = replace(one.portrait, mask=_encoded(mask, "png", f"{name}-mask"))
            outcomes[index] = Outcome(
                fits[index].fit_id, "kept", evidence=one.evidence, outputs=(name,), uri=one.uri
            )
            tick()
        unmasked.clear()

    made: set[str] = set()
    for index, found in _unmasked(fits, people, photos, open_photo, makers):
        if isinstance(found, _Unmasked):
            name = found.portrait.portrait_id
            if name not in made:
                made.add(name)
                unmasked[index] = found
                if len(unmasked) >= images_a_pass(segmenter):
                    mask_them()
                continue
            message = "another fit of this photo gives the same image with the same label"
            found = _rejected(fits[index], "same_portrait", message, {"portrait_id": name})
        outcomes[index] = found
        tick()
    if unmasked:
        mask_them()
    return StageResult(
        [portraits[index] for index in sorted(portraits)], [outcomes[index] for index in range(len(fits))]
    )


@dataclass(frozen=True, eq=False)
class _Makers:
    """What every portrait of a build is made with."""

    segmenter: Segmenter
    rig: PortraitRig
    template: Template
    config: PipelineConfig
    reference_inputs: ReferenceInputs
    corrections: Corrections


@dataclass(frozen=True, eq=False)
class _Unmasked:
    """A portrait that lacks only its mask."""

    portrait: Portrait
    request: MaskRequest
    evidence: Mapping[str, object]
    uri: str


def _unmasked(
    fits: Sequence[Fit],
    people: Sequence[Person],
    photos: Sequence[Photo],
    open_photo: OpenPhoto,
    makers: _Makers,
) -> Iterator[tuple[int, _Unmasked | Outcome]]:
    """(index of a fit, its portrait or why there is none), photo by photo."""
    photo_of = {photo.photo_id: photo for photo in photos}
    person_of = {person.person_id: person for person in people}
    by_photo: dict[str, list[Person]] = {}
    for person in people:
        by_photo.setdefault(person.photo_id, []).append(person)
    wanted: dict[str, list[int]] = {}
    for index, fit in enumerate(fits):
        wanted.setdefault(fit.photo_id, []).append(index)
    for photo_id, indices in wanted.items():
        photo = photo_of[photo_id]
        try:
            pixels = open_photo(photo)
        except (PhotoError, OSError) as error:
            retryable = may_pass(error)
            for index in indices:
                yield index, Outcome.failure(fits[index].fit_id, error, retryable=retryable, uri=photo.uri)
            continue
        for index in indices:
            person = person_of[fits[index].person_id]
            others = [one for one in by_photo[photo_id] if one.person_id != person.person_id]
            yield index, _portrait(fits[index], person, others, photo, pixels, makers)


def _portrait(
    fit: Fit,
    person: Person,
    others: Sequence[Person],
    photo: Photo,
    pixels: NDArray[np.uint8],  # [H, W, 3] of the photo
    makers: _Makers,
) -> _Unmasked | Outcome:
    settings = makers.config.crop
    corrected = makers.corrections.get(person.person_id)
    try:
        if corrected is not None:
            fit = corrected_fit(corrected.label, fit, person.keypoints, makers.rig, makers.template)
        crop, moved = _labelled_crop(fit, person, 1 + len(others), photo, makers)
        # As in the reference, the person must be large enough before the window is re-aligned.
        side = crop.window.side if moved is None else crop.window.side * moved.scale
        if side < settings.min_window:
            message = f"the person's window is {side:.0f} photo pixels wide"
            evidence = {"side": side, "min_window": settings.min_window}
            return _rejected(fit, "window_too_small", message, evidence)
        image = resample(pixels, crop.window, crop.size)
    except (AlignError, CameraError, RelabelError) as error:
        return _rejected(fit, "no_camera", str(error), {"residual": fit.residual})
    except CropError as error:
        return _rejected(fit, "no_window", str(error), {"residual": fit.residual})
    except ModelError as error:
        return Outcome.failure(fit.fit_id, error, uri=photo.uri)
    keypoints = crop.keypoints(person.keypoints)
    landmark_error, shoulder_error = landmark_errors(crop, makers.rig, person.keypoints, fit)
    yaw, pitch, roll = crop.angles
    name = crop.portrait_id(fit.photo_id, settings.codec)
    portrait = Portrait(
        portrait_id=name,
        person_id=fit.person_id,
        fit_id=fit.fit_id,
        photo_id=fit.photo_id,
        camera=crop.label.astype(np.float64),
        pose=crop.pose,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        window=np.array([crop.window.x, crop.window.y, crop.window.side]),
        size=crop.size,
        effective_resolution=image.effective_resolution,
        padding=image.padding,
        crop_mode=settings.mode if corrected is None else "fit",
        keypoints=keypoints,
        landmark_error=landmark_error,
        shoulder_error=shoulder_error,
        codec=settings.codec,
        models=_models(person, fit, makers),
        image=_encoded(image.pixels, settings.codec, name),
        mask=_LATER,
        **({} if corrected is None else corrected.told()),
    )
    bystanders = [crop.keypoints(other.keypoints) for other in others]
    photo_size = (pixels.shape[1], pixels.shape[0])
    request = MaskRequest(image.pixels, crop.window, photo_size, keypoints, bystanders)
    told: dict[str, object] = {} if moved is None else {"head_scale": moved.scale, "head_shift": moved.shift}
    return _Unmasked(portrait, request, told, photo.uri)


def _labelled_crop(
    fit: Fit, person: Person, people: int, photo: Photo, makers: _Makers
) -> tuple[LabelledCrop, Realignment | None]:
    """Where the person is in the image, and how a vertex map moved the head, if it did.

    Raises `AlignError`, `CropError`, and `ModelError` for a map or a head box that cannot be used.
    """
    config = makers.config
    if (corrected := makers.corrections.get(person.person_id)) is not None:
        there = aligned_label(corrected.label)
        exact = replace(fit, residuals=np.zeros_like(fit.residuals))  # the label's place, not the keypoints'
        window = choose_window("fit", there, makers.rig, makers.template, person.keypoints, exact)
        return LabelledCrop(there.camera, there.pose, window, config.crop.size), None
    aligned = align(fit, config.align, makers.template)
    moved: Realignment | None = None
    if config.crop.mode == "reference":
        window, moved = _reference_window(aligned, fit, person, people, photo, makers)
    else:
        window = choose_window(config.crop.mode, aligned, makers.rig, makers.template, person.keypoints, fit)
    return LabelledCrop(aligned.camera, aligned.pose, window, config.crop.size), moved


def _reference_window(
    aligned: Alignment, fit: Fit, person: Person, people: int, photo: Photo, makers: _Makers
) -> tuple[Window, Realignment | None]:
    """The reference's final window with what the user gave it to go by, and how the head moved, if it did."""
    given, file = makers.reference_inputs, file_name(photo.uri)
    if given.head_boxes is None:
        head = head_box(person.keypoints)
    else:
        size = (photo.width, photo.height)
        head = given.head_boxes.box(file, person.order, people, size, photo.orientation)
    first = first_window(aligned, makers.template, person.keypoints, fit, head)
    if given.vertex_maps is not None:
        maps = [read_vertex_map(path) for path in given.vertex_maps.maps(file, person.order)]
        best = nearest(
            [realign(decode_vertex_map(one), makers.rig, aligned.camera, aligned.pose) for one in maps]
        )
        if best is not None:
            return best.window(
                first, published_center_formula=makers.config.crop.published_center_formula
            ), best
    return first.scaled(TIGHTER), None


def _models(person: Person, fit: Fit, makers: _Makers) -> str:
    """JSON of what the portrait was made with."""
    models = {
        "detector": person.detector,
        "fitter": fit.fitter,
        "segmenter": makers.segmenter.fingerprint,
        "rig": makers.rig.digest[:16],
        **makers.reference_inputs.fingerprints,
    }
    return json.dumps(models, sort_keys=True)


def _encoded(pixels: NDArray[np.uint8], codec: str, name: str) -> EncodedImage:
    data, extension = encode_image(pixels, codec)
    return EncodedImage(data, f"{name}.{extension}")


def _rejected(fit: Fit, reason: str, message: str, evidence: Mapping[str, object]) -> Outcome:
    return Outcome(fit.fit_id, "rejected", reason, message, evidence=evidence)


def _made_with(config: PipelineConfig, models: ModelSet) -> list[object]:
    # What was given counts by its content, wherever it lies.
    crop = replace(config.crop, head_boxes="", vertex_maps="")
    given = models.reference_inputs.fingerprints
    return [config.align, crop, config.mask, models.segmenter.fingerprint, models.rig.digest, given]


def _run(inputs: Inputs, context: StageContext) -> StageResult[Portrait]:
    models = context.models
    return align_crop(
        inputs.of(Fit),
        inputs.of(Person),
        inputs.of(Photo),
        context.open_photo,
        models.segmenter,
        models.rig,
        models.template,
        context.config,
        context.tick,
        reference_inputs=models.reference_inputs,
        corrections=context.corrections,
    )


STAGE = Stage(
    name="align_crop",
    title="align, crop, mask",
    version=1,
    makes=Portrait,
    reads=(Fit, Person, Photo),
    item="fit_id",
    made_with=_made_with,
    run=_run,
    corrected=True,
)
