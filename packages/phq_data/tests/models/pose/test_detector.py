"""Keypoints of users' pose networks, made here so that what they see is known to a fraction of a pixel."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pose_networks as made
import pytest
import skimage.data
from pose_networks import STANDING, People

from phq_data.models.movenet.detector import MoveNetConfig, MoveNetDetector
from phq_data.models.pose.description import PoseDescription
from phq_data.models.pose.detector import PoseConfig, PoseDetector, region
from phq_data.models.pose.network import find_network, open_network
from phq_data.models.protocols import COCO_KEYPOINTS, LicensedModel, ModelTerms, PersonDetector
from phq_data.models.registry import pose_parts
from phq_data.models.user_network import beside

STRAIGHT = PoseConfig(flip_tta=False)
PIXEL = region(People(STANDING).detect(np.zeros(0))[0].box, made.SIZE, 1.25)[2] / made.SIZE[0]
"""Photo pixels of one pixel that the network sees."""


class Licensed(People):
    """A detector with terms of its own, as YOLO has them."""

    terms = ModelTerms("YOLO", "AGPL-3.0", "")


def detector(path, config=STRAIGHT, people=None, **described):
    network = open_network(path, PoseDescription(**described))
    return PoseDetector(people or People(STANDING), network, config)


def error(person, points=STANDING):
    """The largest distance to the true points, in pixels of the network's input."""
    return np.abs(person.keypoints[:, :2] - points).max() / PIXEL


@pytest.mark.parametrize(
    ("head", "options", "described", "most"),
    [
        ("simcc", {}, {}, 0.3),  # a SimCC bin is half a pixel
        ("heatmap", {}, {"udp": False}, 0.12),  # a cell is four pixels
        ("heatmap", {"udp": True}, {}, 0.12),
        ("heatmap", {"udp": True}, {"udp": True, "head": "heatmap", "layout": "coco17"}, 0.12),
    ],
)
def test_keypoints_are_where_the_network_saw_them(tmp_path, head, options, described, most):
    path = made.write(tmp_path / "net.onnx", head, **options)
    (person,) = detector(path, **described).detect(made.photo())
    assert error(person) < most
    assert person.keypoints.shape == (17, 3) and person.keypoints.dtype == np.float64
    assert person.keypoints[:, 2].min() > 0.5 and person.keypoints[:, 2].max() <= 1
    assert person.score == 0.8  # the detector's: it says that this is a person


def test_unbiased_heatmaps_are_told_from_others(tmp_path):
    """Read as the other kind, the outermost cells are most of a cell away."""
    path = made.write(tmp_path / "net.onnx", "heatmap", udp=True)
    (person,) = detector(path, udp=False).detect(made.photo())
    assert 1.0 < error(person) < 4.0


@pytest.mark.parametrize("place", [(-190.0, -20.0), (160.0, 90.0)])
def test_people_may_reach_beyond_the_photo(tmp_path, place):
    points = STANDING + place
    inside = ((points > 8) & (points < 392)).all(axis=1)
    path = made.write(tmp_path / "net.onnx")
    (person,) = detector(path, people=People(points)).detect(made.photo(points))
    assert 8 < inside.sum() < 17
    assert np.abs(person.keypoints[inside, :2] - points[inside]).max() < 0.3 * PIXEL
    unseen = ((points < -8) | (points > 408)).any(axis=1)
    assert unseen.any() and (person.keypoints[unseen, 2] < 0.01).all()


def test_a_network_trained_on_photos_finds_the_astronaut(tmp_path):
    """Thunder by itself, whose input is [1, 256, 256, 3]; pupils and the tip of the nose, marked by hand."""
    path = made.thunder(tmp_path / "thunder.onnx")
    told = PoseDescription(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), udp=False)
    people = MoveNetDetector(MoveNetConfig(flip_tta=False))
    (person,) = PoseDetector(people, open_network(path, told)).detect(skimage.data.astronaut())
    marked = {"nose": (224, 127), "left_eye": (246.5, 103.5), "right_eye": (203, 101)}
    found = person.keypoints[[COCO_KEYPOINTS.index(name) for name in marked]]
    off = np.linalg.norm(found[:, :2] - list(marked.values()), axis=1)
    assert off.max() < 0.04 * 235 and found[:, 2].min() > 0.6  # as MoveNet's own test: of her shoulders
    left, right = person.keypoints[made.named("left_shoulder", "right_shoulder"), 0]
    assert left > right + 200


def test_what_is_not_there_has_no_score(tmp_path):
    (person,) = detector(made.write(tmp_path / "net.onnx")).detect(
        made.photo(hidden=made.named("left_wrist"))
    )
    assert person.keypoints[COCO_KEYPOINTS.index("left_wrist"), 2] == 0
    assert (np.delete(person.keypoints[:, 2], COCO_KEYPOINTS.index("left_wrist")) > 0.5).all()


def test_the_lower_maximum_of_a_simcc_head_is_the_score(tmp_path):
    """As OpenMMLab has it; what is above 1 there counts as 1, or as the description says."""
    path = made.write(tmp_path / "net.onnx", scale=3.0)
    (person,) = detector(path).detect(made.photo())
    assert (person.keypoints[:, 2] == 1).all()
    (person,) = detector(path, score_scale=6.0).detect(made.photo())
    assert (abs(person.keypoints[:, 2] - 0.48) < 0.03).all()


@pytest.mark.parametrize("head", ["simcc", "heatmap"])
def test_the_mean_with_the_mirror_image_takes_a_bias_away(tmp_path, head):
    """A network that errs by two pixels to the right errs to the left in the mirror image.

    It finds a left point only in the right half of what it sees, as one that knows people from the front.
    """
    sides = [0 if name == "nose" else 1 if name.startswith("left") else -1 for name in COCO_KEYPOINTS]
    colors = [made.COLORS[(i + 1) // 2 * 2] for i in range(17)]  # left and right look alike
    path = made.write(tmp_path / "net.onnx", head, shift=2, sides=sides, colors=colors, udp=True)
    image = made.photo(colors=colors)
    (straight,) = detector(path).detect(image)
    off = (straight.keypoints[:, 0] - STANDING[:, 0]) / PIXEL
    assert (abs(off - 2) < 0.3).all()
    (both,) = detector(path, PoseConfig()).detect(image)
    assert error(both) < 0.3


def test_wholebody_networks_give_their_first_17(tmp_path):
    path = made.write(tmp_path / "net.onnx", count=133)
    found = detector(path)
    assert found.network.description.layout == "wholebody133"
    (person,) = found.detect(made.photo())
    assert error(person) < 0.3


def test_keypoints_are_taken_by_their_names(tmp_path):
    """A network of another order, with a joint between that COCO does not know."""
    order = [16, 4, 0, 8, 2, 10, 6, 14, 12, 1, 3, 5, 7, 9, 11, 13, 15]
    names = [COCO_KEYPOINTS[index].replace("_", " ").title() for index in order]
    colors = [made.COLORS[index] for index in order]
    path = made.write(tmp_path / "net.onnx", colors=[*colors[:5], (255, 255, 255), *colors[5:]])
    beside(path).write_text(json.dumps({"keypoints": [*names[:5], "Neck", *names[5:]]}))
    found = PoseDetector(People(STANDING), open_network(*find_network(str(path))), STRAIGHT)
    (person,) = found.detect(made.photo())
    assert error(person) < 0.3


def test_colors_in_the_other_order_are_said_by_the_description(tmp_path):
    """Blue, green, red, as OpenCV reads photos: other networks' red is here the first channel."""
    path = made.write(tmp_path / "net.onnx", colors=[color[::-1] for color in made.COLORS])
    (wrong,) = detector(path).detect(made.photo())
    (person,) = detector(
        path, channels="bgr", mean=made.MEAN, std=made.STD
    ).detect(made.photo())  # fmt: skip
    assert error(person) < 0.3
    assert (wrong.keypoints[:, 2] == 0.6).all()  # no head: the detector's own keypoints


def test_a_head_that_is_somebody_elses_changes_nothing(tmp_path):
    """Two people side by side in each other's boxes: the network sees the colored one only."""
    gray = STANDING - (150.0, 0.0)
    people = People(gray, STANDING)
    rough = people.detect(np.zeros(0))
    found = detector(made.write(tmp_path / "net.onnx"), people=people).detect(made.photo())
    np.testing.assert_array_equal(found[0].keypoints, rough[0].keypoints)
    assert error(found[1]) < 0.3
    assert [person.keypoints[0, 0] for person in found] == sorted(person.keypoints[0, 0] for person in found)


def test_the_box_keeps_the_shape_of_the_input_and_its_middle():
    x, y, width, height = region(np.array([100.0, 50, 140, 250]), (96, 128), 1.25)
    assert (
        (width, height) == (188, 250) and abs(x + width / 2 - 120) <= 0.5 and abs(y + height / 2 - 150) <= 0.5
    )
    x, y, width, height = region(np.array([0.0, 0, 300, 100]), (96, 128), 1.0)
    assert (width, height) == (300, 400)
    assert region(np.array([5.0, 5, 5, 5]), (96, 128), 1.0)[2:] == (8, 8)


def test_the_fingerprint_follows_what_keypoints_depend_on(tmp_path):
    path, other = made.write(tmp_path / "net.onnx"), made.write(tmp_path / "other.onnx", scale=0.9)
    usual = detector(path)
    assert isinstance(usual, PersonDetector) and isinstance(usual, LicensedModel)
    assert usual.fingerprint.startswith("pose-") and detector(path).fingerprint == usual.fingerprint
    assert pickle.loads(pickle.dumps(usual)).fingerprint == usual.fingerprint
    for changed in (detector(other), detector(path, PoseConfig()), detector(path, padding=1.1),
                    detector(path, channels="bgr")):  # fmt: skip
        assert changed.fingerprint != usual.fingerprint
    people = People(STANDING)
    people.fingerprint = "people-1"
    assert detector(path, people=people).fingerprint != usual.fingerprint
    told = detector(path, license="Apache-2.0", title="RTM", source="https://example.com")
    assert told.fingerprint == usual.fingerprint and told.terms.license == "Apache-2.0"
    both = detector(path, people=Licensed(STANDING), license="Apache-2.0", title="RTM")
    assert both.terms == ModelTerms("RTM, YOLO", "Apache-2.0, AGPL-3.0", "")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("pose", ("movenet", "")),
        ("movenet+pose", ("movenet", "")),
        ("pose:a+b.onnx", ("movenet", "a+b.onnx")),
        ("yolo+pose", ("yolo", "")),
        ("yolo:yolo11x-pose+pose:c:/x.onnx", ("yolo:yolo11x-pose", "c:/x.onnx")),
        ("movenet", None),
        ("yolo:pose.pt", None),
        ("poses", None),
        ("keypoints:x+pose", None),
    ],
)
def test_who_finds_people_and_which_network_finds_keypoints(name, parts):
    assert pose_parts(name) == parts
