"""MoveNet: agreement with the original runtime, and people found in real and made pictures."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from phq_data.models import onnx
from phq_data.models.keypoints import MIRROR, head_centre, upper_size
from phq_data.models.movenet.crops import CropRegion, Detection
from phq_data.models.movenet.decode import decode_multipose, decode_thunder
from phq_data.models.movenet.detector import MoveNetConfig, MoveNetDetector
from phq_data.models.movenet.heads import loose_heads
from phq_data.models.movenet.proposals import ProposeConfig, network_sides
from phq_data.models.movenet.thunder import ThunderPhoto
from phq_data.models.protocols import COCO_KEYPOINTS, DetectedPerson, PersonDetector
from phq_data.synthesis.photograph import take
from phq_data.synthesis.truth import true_people

GOLDEN = (
    Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[5] / "tests" / "golden")) / "golden_movenet.npz"
)
NOSE, LEFT_EYE, RIGHT_EYE, RIGHT_EAR, LEFT_SHOULDER, RIGHT_SHOULDER = (
    COCO_KEYPOINTS.index(name)
    for name in ("nose", "left_eye", "right_eye", "right_ear", "left_shoulder", "right_shoulder")
)
# Marked by hand on an enlargement of scikit-image's astronaut: pupils and the tip of the nose.
ASTRONAUT = {NOSE: (224, 127), LEFT_EYE: (246.5, 103.5), RIGHT_EYE: (203, 101)}


def golden_cases(network: str) -> list[str]:
    with np.load(GOLDEN) as golden:
        return sorted({key.split("/")[1] for key in golden.files if key.startswith(network)})


def run_network(name: str, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnx.open_session(name)
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {"image": image}), strict=True))


@pytest.mark.parametrize("case", golden_cases("thunder"))
def test_golden_movenet_thunder(case: str) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"thunder/{case}/image"], golden[f"thunder/{case}/output"]
    found = decode_thunder(run_network("movenet-thunder", image[None]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("case", golden_cases("multipose"))
def test_golden_movenet_multipose(case: str) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"multipose/{case}/image"], golden[f"multipose/{case}/output"]
    found = decode_multipose(run_network("movenet-multipose", image[None]))
    expected = expected[np.argsort(-expected[:, 55], kind="stable")]
    people = int((expected[:, 55] > 0.2).sum())
    assert people > 0
    for index in range(people):
        np.testing.assert_allclose(found.keypoints[index].ravel(), expected[index, :51], atol=2e-3, rtol=0)
        np.testing.assert_allclose(found.boxes[index], expected[index, 51:55], atol=2e-3, rtol=0)
        assert abs(float(found.scores[index]) - expected[index, 55]) < 2e-3
    assert people == len(found.scores) or found.scores[people] < 0.2


@pytest.fixture(scope="module")
def detector() -> MoveNetDetector:
    return MoveNetDetector()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


def assert_astronaut(person: DetectedPerson, x: float, y: float, scale: float) -> None:
    """The hand-marked points, in a photo where the astronaut lies at x, y, within 4 % of her shoulders."""
    tolerance = 0.04 * 235 * scale
    for joint, (marked_x, marked_y) in ASTRONAUT.items():
        found = person.keypoints[joint]
        assert np.hypot(found[0] - x - scale * marked_x, found[1] - y - scale * marked_y) < tolerance
        assert found[2] > 0.4


def test_astronaut_has_her_eyes_where_they_are(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    (person,) = detector.detect(astronaut)
    assert_astronaut(person, 0, 0, 1)
    assert person.score > 0.7
    x0, y0, x1, y1 = person.box
    assert x0 < 100 and y0 < 60 and x1 > 320 and y1 > 480
    assert person.keypoints.shape == (17, 3) and person.keypoints.dtype == np.float64


def test_detector_is_deterministic_and_speaks_the_protocol(
    detector: MoveNetDetector, astronaut: np.ndarray
) -> None:
    assert isinstance(detector, PersonDetector)
    first, second = detector.detect(astronaut), pickle.loads(pickle.dumps(detector)).detect(astronaut)
    assert [p.score for p in first] == [p.score for p in second]
    np.testing.assert_array_equal(first[0].keypoints, second[0].keypoints)


def test_a_person_is_found_near_roughly_known_keypoints(
    detector: MoveNetDetector, astronaut: np.ndarray
) -> None:
    (person,) = detector.detect(astronaut)
    rough = person.keypoints.copy()
    rough[:, :2] += np.random.default_rng(1).normal(0, 0.05 * upper_size(person.keypoints), (17, 2))
    found = detector.detect_near(astronaut, rough, np.random.default_rng(0))
    assert found is not None
    away = np.linalg.norm(found[:7, :2] - person.keypoints[:7, :2], axis=1)
    assert np.median(away) < 0.04 * upper_size(person.keypoints)
    elsewhere = np.concatenate([np.full((17, 2), 20.0) + rough[:, :2] * 0.05, rough[:, 2:]], axis=1)
    assert detector.detect_near(astronaut, elsewhere, np.random.default_rng(0)) is None


def test_mirrored_photo_gives_mirrored_people(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    (person,) = detector.detect(astronaut)
    (mirrored,) = detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))
    expected = person.keypoints[MIRROR][:7, :2] * [-1, 1] + [512, 0]
    # Ears lie under hair here; the detections differ there by more.
    joints = [0, 1, 2, 5, 6]
    distance = np.linalg.norm(mirrored.keypoints[joints, :2] - expected[joints], axis=1)
    assert distance.max() < 0.06 * upper_size(person.keypoints)


def test_profile_faces_where_it_looks(detector: MoveNetDetector) -> None:
    (cameraman,) = detector.detect(np.repeat(skimage.data.camera()[..., None], 3, axis=2))
    nose, ear = cameraman.keypoints[NOSE], cameraman.keypoints[RIGHT_EAR]
    assert nose[2] > 0.5 and ear[2] > 0.5
    assert nose[0] > ear[0] + 40  # he looks to the right and shows his right ear
    assert 230 < nose[0] < 260 and 150 < nose[1] < 180


def test_small_person_in_a_large_photo(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    """A head of about 45 pixels in a photo of five megapixels."""
    photo = np.full((1920, 2560, 3), 150, np.uint8)
    photo[::7] = 120
    scale = 0.3
    small = np.asarray(Image.fromarray(astronaut).resize((154, 154), Image.Resampling.LANCZOS))
    photo[1100:1254, 1700:1854] = small
    (person,) = detector.detect(photo)
    assert_astronaut(person, 1700, 1100, scale)


def test_tight_portrait(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    """Hardly more than the face, one shoulder cut off: MultiPose alone is not sure of that."""
    (person,) = detector.detect(astronaut[10:300, 90:380])
    assert_astronaut(person, -90, -10, 1)


def test_people_are_ordered_left_to_right(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    three = np.concatenate([astronaut, astronaut[:, ::-1], astronaut], axis=1)
    people = detector.detect(three)
    assert len(people) == 3
    assert_astronaut(people[0], 0, 0, 1)
    assert_astronaut(people[2], 1024, 0, 1)
    assert 512 < people[1].keypoints[NOSE, 0] < 1024


@pytest.mark.parametrize("name", ["brick", "chelsea", "coffee", "rocket", "grass", "moon"])
def test_nobody_where_nobody_is(detector: MoveNetDetector, name: str) -> None:
    picture = getattr(skimage.data, name)()
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    assert detector.detect(picture) == []


@pytest.mark.parametrize("index", [27, 157])
def test_search_finds_backs_that_the_proposals_misplace(detector: MoveNetDetector, index: int) -> None:
    """A hat and a stooping back: somebody is proposed, with a head of the wrong size in the wrong place."""
    photo = take(201, index)
    image = np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"))
    assert MoveNetDetector(MoveNetConfig(second_pass_proposals=0)).detect(image) == []
    (person,) = detector.detect(image)
    (truth,) = true_people(photo, 201, index, "")
    off = head_centre(person.keypoints) - truth.keypoints[:5, :2].mean(0)
    assert np.hypot(*off) < 0.4 * truth.head_pixels


def test_search_does_not_find_anybody_twice(astronaut: np.ndarray) -> None:
    """With everything searched that was proposed, one person stays one."""
    (person,) = MoveNetDetector(MoveNetConfig(second_pass_proposals=40)).detect(astronaut)
    assert_astronaut(person, 0, 0, 1)


def test_tiny_and_narrow_photos_do_not_fail(detector: MoveNetDetector, astronaut: np.ndarray) -> None:
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []
    assert detector.detect(np.full((9, 1500, 3), 200, np.uint8)) == []
    assert detector.detect(astronaut[:, 100:104]) == []


def test_wrong_photos_are_refused(detector: MoveNetDetector) -> None:
    wrong: Any = np.zeros((4, 4, 3))
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]; this one is float64 \(4, 4, 3\)"):
        detector.detect(wrong)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        detector.detect(np.zeros((4, 4), np.uint8))


def test_fingerprint_follows_the_config_and_nothing_else() -> None:
    usual = MoveNetDetector().fingerprint
    assert MoveNetDetector(MoveNetConfig(minimum_head=0.3)).fingerprint != usual
    assert MoveNetDetector(MoveNetConfig(propose=ProposeConfig(base_long_side=416))).fingerprint != usual
    assert MoveNetDetector(threads=2).fingerprint == usual
    assert usual.startswith("movenet-")


def test_large_photos_get_a_finer_look() -> None:
    config = ProposeConfig()
    assert network_sides(640, 480, config) == [192, 384]
    assert network_sides(1600, 2560, config) == [192, 384, 640]
    assert network_sides(12000, 9000, config)[-1] == config.longest_side
    assert all(side % 32 == 0 for side in network_sides(3001, 1999, config))


# -- both detections together ------------------------------------------------------------------------


def detection_of(points: np.ndarray) -> Detection:
    region = CropRegion(0.0, 0.0, 256.0, np.array([np.nan, np.nan]))
    return Detection(region, points)


def bust(score: float = 0.8) -> np.ndarray:
    points = np.zeros((17, 3))
    points[:, :2] = [(128, 70), (136, 64), (120, 64), (146, 68), (110, 68), (178, 120), (78, 120)] + [
        (128 + 6 * (i % 2), 160 + 8 * i) for i in range(10)
    ]
    points[:, 2] = score
    return points


def test_mean_of_two_looks_lies_between_them_by_their_scores() -> None:
    here, there = bust(0.9), bust(0.3)
    there[:, 0] += 4.0
    mean = MoveNetDetector()._mean(detection_of(here), detection_of(there)).keypoints
    np.testing.assert_allclose(mean[:, 0], here[:, 0] + 1.0)
    np.testing.assert_allclose(mean[:, 2], 0.6)


def test_exchanged_shoulders_do_not_meet_in_the_middle() -> None:
    here, there = bust(0.5), bust(0.5)
    there[[5, 6]] = there[[6, 5]]
    there[[5, 6], 2] = 0.8
    mean = MoveNetDetector()._mean(detection_of(here), detection_of(there)).keypoints
    np.testing.assert_allclose(mean[[5, 6], :2], there[[5, 6], :2])
    there[[5, 6], 2] = 0.3
    mean = MoveNetDetector()._mean(detection_of(here), detection_of(there)).keypoints
    np.testing.assert_allclose(mean[[5, 6], :2], here[[5, 6], :2])


def test_the_mean_of_a_mirrored_pair_is_the_mirrored_mean() -> None:
    rng = np.random.default_rng(0)
    here, there = bust(), bust()
    for points in (here, there):
        points[:, :2] += rng.normal(0, 3, (17, 2))
        points[:, 2] = rng.uniform(0.3, 0.9, 17)

    def turned(points: np.ndarray) -> np.ndarray:
        return points[MIRROR] * (-1, 1, 1) + (256, 0, 0)

    detector = MoveNetDetector()
    mean = detector._mean(detection_of(here), detection_of(there)).keypoints
    other = detector._mean(detection_of(turned(there)), detection_of(turned(here))).keypoints
    np.testing.assert_allclose(other, turned(mean), atol=1e-9)


def test_a_mirrored_look_at_somebody_else_is_left_out() -> None:
    here, there = bust(), bust()
    there[:, 0] += 150.0
    assert MoveNetDetector()._mean(detection_of(here), detection_of(there)).keypoints is here


def test_without_the_mirror_it_is_another_detector() -> None:
    assert MoveNetDetector(MoveNetConfig(flip_tta=False)).fingerprint != MoveNetDetector().fingerprint


# -- crops computed once, and only where there is doubt ---------------------------------------


@pytest.fixture
def crops_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops each run of Thunder was given."""
    counts: list[int] = []
    real = onnx.run

    def run(name: str, inputs: Any, *rest: Any, **more: Any) -> Any:
        if name == "movenet-thunder":
            counts.append(len(inputs["image"]))
        return real(name, inputs, *rest, **more)

    monkeypatch.setattr(onnx, "run", run)
    return counts


def test_a_crop_is_computed_once_for_any_aim(crops_run: list[int], astronaut: np.ndarray) -> None:
    region = CropRegion(60.0, 0.0, 400.0, np.array([224.0, 110.0]))
    photo = ThunderPhoto(astronaut)
    (aimed,) = photo.detect([region])
    (again,), (unaimed,) = photo.detect([region]), photo.detect([region.unaimed()])
    assert crops_run == [1]
    np.testing.assert_array_equal(aimed.keypoints, again.keypoints)
    (alone,) = ThunderPhoto(astronaut).detect([region.unaimed()])
    np.testing.assert_array_equal(unaimed.keypoints, alone.keypoints)
    here, there = photo.detect_each([(region, False), (region, True)])
    assert crops_run == [1, 1, 1]  # the mirrored one alone
    (mirrored,) = ThunderPhoto(astronaut).detect([region], mirrored=True)
    np.testing.assert_array_equal(there.keypoints, mirrored.keypoints)
    assert not np.array_equal(here.keypoints, there.keypoints)


def test_who_leaves_no_doubt_gets_no_second_pair(crops_run: list[int], astronaut: np.ndarray) -> None:
    (always,) = MoveNetDetector().detect(astronaut)
    looks = sum(crops_run)
    crops_run.clear()
    (doubtful,) = MoveNetDetector(MoveNetConfig(flip_tta="doubtful")).detect(astronaut)
    assert sum(crops_run) == looks - 2
    away = np.linalg.norm(always.keypoints[:7, :2] - doubtful.keypoints[:7, :2], axis=1)
    assert 0 < away.max() < 0.05 * upper_size(always.keypoints)


def test_who_leaves_doubt_is_labelled_as_ever(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phq_data.models.movenet.detector.AGREED", 0.0)
    (always,) = MoveNetDetector().detect(astronaut)
    (doubtful,) = MoveNetDetector(MoveNetConfig(flip_tta="doubtful")).detect(astronaut)
    np.testing.assert_array_equal(always.keypoints, doubtful.keypoints)


# -- decoding ----------------------------------------------------------------------------------


def made_heads(people: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Maps [1, ..., 64, 64] of a perfect network: people with all key points 10 cells above their centres."""
    maps = {
        "center": np.zeros((1, 1, 64, 64), np.float32),
        "heatmap": np.zeros((1, 17, 64, 64), np.float32),
        "regress": np.zeros((1, 34, 64, 64), np.float32),
        "offset": np.full((1, 34, 64, 64), 0.25, np.float32),
    }
    maps["regress"][:, 0::2] = -10
    for row, column in people:
        maps["center"][0, 0, row, column] = 0.9
        maps["heatmap"][0, :, row - 10, column] = 0.8
    return maps


def test_thunder_takes_the_person_in_the_middle_unless_aimed() -> None:
    maps = made_heads([(32, 30), (40, 52)])
    middle = decode_thunder(maps)
    np.testing.assert_allclose(middle[0, :, :2] * 64, np.tile([22.25, 30.25], (17, 1)), atol=1e-4)
    aimed = decode_thunder(maps, np.array([[30 / 64, 52 / 64]]))
    np.testing.assert_allclose(aimed[0, :, :2] * 64, np.tile([30.25, 52.25], (17, 1)), atol=1e-4)
    unaimed = decode_thunder(maps, np.array([[np.nan, np.nan]]))
    np.testing.assert_array_equal(unaimed, middle)


def test_thunder_batches_do_not_mix(astronaut: np.ndarray) -> None:
    crop = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    batch = np.stack([crop, np.zeros_like(crop), crop[:, ::-1]])
    together = decode_thunder(run_network("movenet-thunder", batch))
    for index in range(3):
        alone = decode_thunder(run_network("movenet-thunder", batch[index : index + 1]))
        np.testing.assert_allclose(together[index], alone[0], atol=1e-4)


def test_multipose_finds_more_than_six_people() -> None:
    places = [(20 + 20 * (i // 4), 8 + 14 * (i % 4)) for i in range(8)]
    maps = made_heads(places)
    maps["box_offset"] = np.zeros((1, 2, 64, 64), np.float32)
    maps["box_scale"] = np.full((1, 2, 64, 64), 40, np.float32)
    assert len(decode_multipose(maps).scores) == 6
    found = decode_multipose(maps, max_people=40)
    assert len(found.scores) == 8
    rows_and_columns = sorted(
        map(tuple, np.round(found.keypoints[:, 0, :2] * 64 - 0.25).astype(int).tolist())
    )
    assert rows_and_columns == sorted((row - 10, column) for row, column in places)


def test_multipose_of_nothing_is_nobody() -> None:
    maps = made_heads([])
    maps["box_offset"] = maps["box_scale"] = np.zeros((1, 2, 64, 64), np.float32)
    assert decode_multipose(maps).keypoints.shape == (0, 17, 3)


def test_loose_head_has_place_and_size() -> None:
    """Eyes 3 cells apart and a nose below: shoulders six times as broad (an average adult)."""
    maps = made_heads([])
    for joint, row, column in ((0, 22, 30), (1, 20, 32), (2, 20, 29)):
        maps["heatmap"][0, joint, row, column] = 0.7
    maps["heatmap"][0, 3, 50, 10] = 0.9  # an ear alone is no head
    ((x, y, size, score),) = loose_heads(maps, minimum_score=0.3, reach=27)
    assert abs(x - 4 * (30.3 + 0.25)) < 2 and abs(y - 4 * (20.7 + 0.25)) < 2
    assert 50 < size < 95
    assert abs(score - 0.7) < 1e-6
