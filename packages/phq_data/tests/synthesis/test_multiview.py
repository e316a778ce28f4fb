"""Several calibrated cameras see the same people."""

import numpy as np
import pytest

from phq_data.bodies import JOINT_NAMES
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.synthesis import multiview
from phq_data.synthesis.truth import true_people

VIEWS = 3


@pytest.fixture(scope="module")
def instant():
    """Three photos of one instant with two people."""
    index = next(i for i in range(40) if len(multiview._people(stream(9, i))) == 2)
    return [multiview.take_view(9, index * VIEWS + number, VIEWS) for number in range(VIEWS)]


def stream(seed, index):
    sequence = np.random.SeedSequence([seed, index, VIEWS, multiview._INSTANT])
    return np.random.default_rng(sequence.spawn(3)[0])


def test_a_view_depends_on_seed_index_and_number_of_views(instant):
    first = multiview.take_view(9, 0, 2).jpeg
    assert first == multiview.take_view(9, 0, 2).jpeg
    assert first not in (multiview.take_view(9, 0, VIEWS).jpeg, multiview.take_view(8, 0, 2).jpeg)
    assert len({photo.jpeg for photo in instant}) == VIEWS


def test_the_cameras_see_the_same_people_where_the_file_says(instant):
    cameras = multiview.studio(9, VIEWS)
    places = []
    for photo, camera in zip(instant, cameras, strict=True):
        assert (photo.lens.width, photo.lens.height) == (camera.width, camera.height)
        people = true_people(photo, 9, 0, "x")
        R, t = np.array(camera.R), np.array(camera.t)
        for person in people:
            world = (person.joints_camera - t) @ R
            # The truth's pixels are those of the file's camera, lens distortion included.
            assert np.allclose(camera.project(world), person.joints, atol=1e-6)
            nose = person.keypoints[COCO_KEYPOINTS.index("nose"), :2]
            assert np.allclose(camera.project(world[JOINT_NAMES.index("nose")]), nose, atol=1e-6)
        places.append(sorted(((p.joints_camera - t) @ R).tolist() for p in people))
    assert np.allclose(places[0], places[1], atol=1e-9) and np.allclose(places[0], places[2], atol=1e-9)
    assert np.shape(places[0]) == (2, len(JOINT_NAMES), 3)


def test_a_studio_stands_around_the_people():
    for count in (2, 5):
        cameras = multiview.studio(1, count)
        centres = np.stack([camera.centre for camera in cameras])
        assert (np.linalg.norm(centres, axis=1) > 2).all()
        for camera in cameras:
            x, y = camera.project(np.zeros(3))
            assert 0 < x < camera.width and 0 < y < camera.height
    views = multiview.views_of(1, 2, 5)
    assert [photo.file for photo in views.photos[4:6]] == ["000004.jpg", "000005.jpg"]
    assert [photo.instant for photo in views.photos[4:6]] == ["000000", "000001"]
