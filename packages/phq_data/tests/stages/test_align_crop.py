from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import bodyworks as works
import numpy as np
import pytest
from align_crop_bench import CONFIG, RIG, Bench, Left

from phq_data import camera, records
from phq_data.images.codecs import PhotoError, decode_struct, encode_image
from phq_data.models.reference_inputs import HeadBoxFile, ReferenceInputs, VertexMapFolder
from phq_data.records import EncodedImage, Photo, Portrait
from phq_data.stages.crop import LabelledCrop, Window
from phq_data.stages.realign import decode_vertex_map, realign


def decoded(image: EncodedImage) -> np.ndarray:
    return decode_struct(dataclasses.asdict(image))


def test_rows_follow_the_schema_and_each_photo_is_opened_once() -> None:
    bench = Bench()
    mixed = [bench.fits[0], bench.fits[2], bench.fits[1]]
    result = bench.run(fits=mixed)
    records.to_table(Portrait, result.records)
    assert [row.fit_id for row in result.records] == ["f0", "f2", "f1"]
    assert [outcome.item for outcome in result.outcomes] == ["f0", "f2", "f1"]
    assert all(outcome.outcome == "kept" for outcome in result.outcomes)
    assert bench.opened == ["one", "two"] and bench.ticks == 3
    row = result.records[0]
    assert json.loads(row.models)["segmenter"] == "left/1"
    camera.check_label(row.camera)
    picture, mask = decoded(row.image), decoded(row.mask)
    assert picture.shape == (128, 128, 3) and mask.shape == (128, 128)
    assert (row.yaw, row.pitch) == pytest.approx((0.2, 0.1), abs=0.25)  # seen from the side
    assert row.landmark_error < 0.02 and row.effective_resolution == pytest.approx(row.window[2] / 128)


def test_bystanders_are_the_other_people_of_the_photo_in_picture_pixels() -> None:
    bench = Bench()
    result = bench.run()
    targets = [target for target, _ in bench.segmenter.calls]
    assert [len(others) for _, others in bench.segmenter.calls] == [1, 1, 0]
    row = result.records[0]
    window = Window(*row.window)
    assert targets[0] == pytest.approx(row.keypoints)
    bystander = bench.people[1].keypoints
    assert bench.segmenter.calls[0][1][0] == pytest.approx(window.keypoints(bystander, 128))


def test_same_input_same_ids_and_ids_follow_content() -> None:
    one, two = Bench().run(), Bench().run()
    ids = [row.portrait_id for row in one.records]
    assert ids == [row.portrait_id for row in two.records] and len(set(ids)) == 3
    base = LabelledCrop(camera.from_angles(0.1, 0.0), np.zeros(6), Window(1.0, 2.0, 300.0), 512)

    def changed(**changes: object) -> str:
        return dataclasses.replace(base, **changes).portrait_id("photo", "png")  # type: ignore[arg-type]

    same = base.portrait_id("photo", "png")
    assert changed(window=Window(1.001, 2.0, 300.0)) == same
    assert base.portrait_id("photo", "webp-lossless") == same  # the same pixels
    others = {
        base.portrait_id("other", "png"),
        base.portrait_id("photo", "jpeg-95"),
        changed(window=Window(1.02, 2.0, 300.0)),
        changed(camera=camera.from_angles(0.101, 0.0)),
        changed(pose=np.array([0, 0, 0, 0, 0, 1e-3])),
        changed(size=256),
    }
    assert len(others) == 6 and same not in others
    assert changed(pose=np.array([-0.0] * 6)) == same


def test_unreadable_photo_fails_its_people_only() -> None:
    bench = Bench()

    def broken(photo: Photo) -> np.ndarray:
        if photo.photo_id == "one":
            raise PhotoError("truncated", "the file is cut short")
        return bench.open_photo(photo)

    result = bench.run(open_photo=broken)
    assert [(o.outcome, o.reason) for o in result.outcomes] == [
        ("failed", "truncated"), ("failed", "truncated"), ("kept", ""),
    ]  # fmt: skip
    assert result.outcomes[0].uri == "file:///one.jpg" and not result.outcomes[0].retryable
    assert bench.ticks == 3

    def offline(photo: Photo) -> np.ndarray:
        raise OSError("no route to host")

    assert all(o.retryable for o in bench.run(open_photo=offline).outcomes)


def test_rejects_say_why() -> None:
    bench = Bench()
    small = bench.run(config=CONFIG.replace_setting("crop.min_window=1000"))
    assert {o.reason for o in small.outcomes} == {"window_too_small"} and not small.records
    assert small.outcomes[0].evidence["side"] < 1000
    bench.fits[0] = dataclasses.replace(bench.fits[0], joints=np.full((13, 3), np.nan))
    bench.fits[2] = dataclasses.replace(bench.fits[1], fit_id="again")
    result = bench.run()
    assert [o.reason for o in result.outcomes] == ["no_camera", "", "same_portrait"]


def test_reference_mode_and_lossy_codec() -> None:
    config = CONFIG.replace_setting("crop.mode=reference").replace_setting("crop.codec=jpeg-95")
    config = config.replace_setting("align.joints=reference")
    rows = Bench().run(config=config).records
    assert rows[0].crop_mode == "reference" and rows[0].image.path.endswith(".jpg")
    assert rows[0].mask.path.endswith(".png")
    usual = Bench().run().records[0]
    assert rows[0].window[2] == pytest.approx(usual.window[2], rel=0.5)


def test_mirrored_photo_gives_the_mirrored_portrait() -> None:
    bench = Bench()
    fit = works.fit_record(works.facing(0.4, 0.1, 0.1), np.array([0.3, 0.1, 2.0]), photo_id="one")
    person = works.person_record(works.keypoints_of(fit), photo_id="one")
    mirrored_fit = works.mirror_fit(fit, 640)
    mirrored_points = works.mirror_keypoints(works.keypoints_of(fit), 640)
    mirrored_person = works.person_record(mirrored_points, photo_id="one")
    photo = works.photo_of()
    config = dataclasses.replace(CONFIG)
    one = bench.run(config, fits=[fit], people=[person], open_photo=lambda _: photo).records[0]
    two = bench.run(
        config,
        fits=[mirrored_fit],
        people=[mirrored_person],
        open_photo=lambda _: camera.mirror_image(photo),
    ).records[0]
    assert two.camera == pytest.approx(camera.mirror_label(one.camera).tolist(), abs=1e-6)
    assert two.pose == pytest.approx(camera.mirror_pose(one.pose).tolist(), abs=1e-9)
    assert two.window[2] == pytest.approx(one.window[2])
    difference = camera.mirror_image(decoded(two.image)).astype(int) - decoded(one.image)
    assert np.abs(difference).max() <= 2
    assert two.landmark_error == pytest.approx(one.landmark_error, abs=1e-6)


class Together(Left):
    """The same in batches of two."""

    batch = 2

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def segment_batch(
        self, images: list[np.ndarray], targets: list[np.ndarray], others: list[list[np.ndarray]]
    ) -> list[np.ndarray]:
        self.sizes.append(len(images))
        return [self.segment(*one) for one in zip(images, targets, others, strict=True)]


def test_segmenters_that_take_several_pictures_get_those_of_several_photos_together() -> None:
    alone, together = Bench(), Bench()
    together.segmenter = Together()
    wanted, found = alone.run(), together.run()
    assert together.segmenter.sizes == [2, 1] and together.ticks == alone.ticks == 3
    assert found.records == wanted.records and found.outcomes == wanted.outcomes
    for one, two in zip(alone.segmenter.calls, together.segmenter.calls, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_a_mask_of_another_size_is_no_mask() -> None:
    bench = Bench()
    bench.segmenter.segment = lambda *_: np.zeros((3, 3), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="as a mask"):
        bench.run()


REFERENCE = (
    CONFIG.replace_setting("crop.mode=reference")
    .replace_setting("align.joints=reference")
    .replace_setting("crop.min_window=1")
)


def test_given_head_boxes_set_the_side_and_none_leaves_it_to_the_shoulders(tmp_path: Path) -> None:
    bench = Bench()
    bench.number_people()
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"one.jpg": [{"bbox": [0, 0, 40, 50]}, {"bbox": []}], "two.jpg": []}))
    boxes = ReferenceInputs(HeadBoxFile(path))
    result = bench.run(REFERENCE, reference_inputs=boxes)
    assert [o.outcome for o in result.outcomes] == ["kept", "kept", "failed"]
    assert "has 0 people in two.jpg, the keypoints 1" in result.outcomes[2].message
    assert result.records[0].window[2] == pytest.approx(0.75 * 2.6 * 40)
    neck = bench.fits[1].translation
    pair = np.array([works.TEMPLATE["left_shoulder"], works.TEMPLATE["right_shoulder"]]) * [1, -1, -1] + neck
    seen = 900.0 * pair[:, :2] / pair[:, 2:]
    assert result.records[1].window[2] == pytest.approx(0.75 * 1.6 * np.linalg.norm(seen[0] - seen[1]))
    assert json.loads(result.records[0].models)["head_boxes"] == boxes.head_boxes.fingerprint


def test_a_given_vertex_map_realigns_the_head_of_its_person(tmp_path: Path) -> None:
    bench = Bench()
    plain = bench.run(REFERENCE)
    row = plain.records[0]
    rig_head = np.flatnonzero(RIG.vertices[:, 1] > 0.0649)
    first = Window(*row.window).scaled(1 / 0.75)
    K = np.array([[5000 / 1024, 0, 0.5], [0, 5000 / 1024, 0.5], [0, 0, 1]])
    cam2world = camera.from_label(row.camera)[0]
    at = camera.project(RIG.posed(row.pose)[rig_head], cam2world, K)[0] * 1024
    middle = at.mean(axis=0)
    pixel = np.rint((at - middle) / 1.5 + middle + [12, -8]).astype(int)  # a smaller head, a bit away
    pixels = np.full((1024, 1024, 3), 255, np.uint8)
    pixels[pixel[:, 1], pixel[:, 0]] = np.stack([0 * rig_head, rig_head, 0 * rig_head], axis=1)
    (tmp_path / "one_0_seg0.png").write_bytes(encode_image(pixels, "png")[0])
    maps = ReferenceInputs(vertex_maps=VertexMapFolder(tmp_path))
    bench.number_people()
    found = bench.run(REFERENCE, reference_inputs=maps)
    moved = realign(decode_vertex_map(pixels), RIG, cam2world, row.pose)
    assert moved.scale == pytest.approx(1.5, abs=0.05)
    wanted = moved.window(first)
    assert found.records[0].window == pytest.approx([wanted.x, wanted.y, wanted.side], abs=1e-4)
    assert found.outcomes[0].evidence["head_scale"] == pytest.approx(moved.scale)
    assert (found.records[1].window == plain.records[1].window).all()  # no map of this person
    assert (found.records[0].camera == row.camera).all() and (found.records[0].pose == row.pose).all()
    published = bench.run(
        REFERENCE.replace_setting("crop.published_center_formula=true"), reference_inputs=maps
    )
    other = moved.window(first, published_center_formula=True)
    assert published.records[0].window == pytest.approx([other.x, other.y, other.side], abs=1e-4)
    assert abs(other.x - wanted.x) > 0.1
    # Large enough is asked of the window before the head moves it, as in the reference.
    side = row.window[2] - 1
    kept = bench.run(REFERENCE.replace_setting(f"crop.min_window={side}"), reference_inputs=maps)
    assert kept.outcomes[0].outcome == "kept" and found.records[0].window[2] < side
    (tmp_path / "one_0_seg0.png").write_bytes(b"no picture")
    broken = bench.run(REFERENCE, reference_inputs=ReferenceInputs(vertex_maps=VertexMapFolder(tmp_path)))
    assert broken.outcomes[0].outcome == "failed" and "cannot be read" in broken.outcomes[0].message
    assert broken.outcomes[1].outcome == "kept"
