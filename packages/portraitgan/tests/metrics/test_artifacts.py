"""Faces on the back of heads, mirrored sides, cut-off hair: on cases made so that the answer is known."""

import numpy as np
import pytest
import torch

from phq_data import camera
from portraitgan.metrics import artifacts
from portraitgan.metrics.faces import FaceNetwork, aligned, face_points


def labels(*degrees):
    yaw = np.radians(degrees)
    return camera.to_label(camera.from_angles(yaw, np.zeros(len(yaw))))


class Bright(FaceNetwork):
    """A face network that sees nothing but how bright the place of the face is: (brightness, 1 - it)."""

    def embed(self, faces):
        light = faces.float().mean(dim=(1, 2, 3)).numpy() / 255
        return np.stack([light, 1 - light], axis=1).astype(np.float32)


@pytest.fixture
def network():
    return Bright("bright", "", True, 0.0, 1.0, None)


def test_where_a_face_would_be_behind_is_where_it_is_in_front():
    """Seen from behind, turned points lie in the image where the face's lie seen from the front."""
    points = face_points(None)
    front, _ = camera.project(points, *camera.from_label(labels(0)))
    rear, _ = camera.project(artifacts.behind(points), *camera.from_label(labels(180)))
    np.testing.assert_allclose(front, rear, atol=1e-6)
    marked = torch.rand(1, 3, 64, 64) * 255
    one = aligned(marked, labels(0), points)
    other = aligned(marked, labels(180), artifacts.behind(points))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-2)


def test_rear_views_are_told_by_what_they_are_nearer_to():
    random = np.random.default_rng(0)
    front, back = np.array([1.0, 0]), np.array([0, 1.0])

    def near(what, count):
        return (what + 0.1 * random.standard_normal((count, 2))).astype(np.float32)

    made = np.concatenate([near(front, 3), near(back, 7)])
    found = artifacts.faces_behind(made, near(front, 20), near(back, 20))
    assert found == {"rate": 0.3, "real_rear": 0.0, "real_front": 1.0}
    # Where faces and backs look alike, the real portraits tell that the rate means nothing.
    same = artifacts.faces_behind(near(front, 400), near(front, 400), near(front, 400))
    assert 0.2 < same["real_rear"] < 0.8 and 0.2 < same["real_front"] < 0.8


def test_a_generator_with_a_face_on_every_side_is_caught(model, data, network, alone, monkeypatch):
    """Images that are bright all around against images that are bright from the front alone."""
    real = type(data).batch

    def lit(self, indices):
        """Real portraits: bright where a face is seen."""
        found = real(self, indices)
        yaw = camera.angles(camera.from_label(found.cameras.numpy())[0])[0]
        found.images[:] = torch.from_numpy(np.where(np.abs(yaw) < 1, 255, 0).astype(np.uint8))[
            :, None, None, None
        ]
        return found

    monkeypatch.setattr(type(data), "batch", lit)
    monkeypatch.setattr(artifacts, "REAR", 120.0)  # of 40 portraits
    render = type(model).render
    rates = []
    for light in (1.0, -1.0):

        def drawn(self, *all, light=light, **named):
            made = render(self, *all, **named)
            made.image[:] = light
            return made

        monkeypatch.setattr(type(model), "render", drawn)
        found = artifacts.measure(model, data, network, alone, count=4, batch=4)
        rates.append(found["faces_behind"])
        assert found["mirror_score"] is None  # everybody looks the same
    assert rates == [
        {"rate": 1.0, "real_rear": 0.0, "real_front": 1.0}, {"rate": 0.0, "real_rear": 0.0, "real_front": 1.0}
    ]  # fmt: skip


def test_data_without_rear_views_tells_nothing(model, data, network, monkeypatch):
    monkeypatch.setattr(artifacts, "REAR", 181.0)
    assert artifacts.real_faces(model, data, network, 8, 4, 0) is None


def test_people_folded_in_half_score_nothing():
    random = np.random.default_rng(0)
    left = random.random((50, 1, 3, 8, 8)).astype(np.float32)
    folded = np.concatenate([left, left[..., ::-1]], axis=1)
    whole = np.ones_like(folded[:, :, :1])
    assert artifacts.mirror_score(folded, whole) == 0
    # A mole on one side: a little; sides of two unrelated people: as much as two people.
    mole = folded.copy()
    mole[:, 1, :, 2, 2] += 1
    assert 0 < artifacts.mirror_score(mole, whole) < 0.1
    strangers = np.concatenate([left, random.random(left.shape).astype(np.float32)], axis=1)
    assert artifacts.mirror_score(strangers, whole) == pytest.approx(1, abs=0.05)
    assert artifacts.mirror_score(folded[:1], whole[:1]) is None
    assert artifacts.mirror_score(strangers, 0 * whole) is None  # nobody is seen


def test_the_background_is_no_side_of_a_person():
    """Symmetric people in front of backgrounds that differ from view to view score nothing."""
    random = np.random.default_rng(0)
    left = random.random((20, 2, 3, 8, 8)).astype(np.float32)
    views = np.empty((20, 4, 3, 8, 8), np.float32)
    views[:, 0::2], views[:, 1::2] = left, left[..., ::-1]
    masks = np.zeros((20, 4, 1, 8, 8), np.float32)
    masks[:, 0::2, :, 2:, 1:5], masks[:, 1::2, :, 2:, 3:7] = 1, 1
    masks[:5, :, :, 2:4] = 0  # other people are smaller
    behind = random.random(views.shape).astype(np.float32)
    assert artifacts.mirror_score(np.where(masks > 0, views, behind), masks) == 0
    strangers = np.where(masks > 0, behind, 0)
    assert artifacts.mirror_score(strangers, masks) == pytest.approx(1, abs=0.1)


def test_a_generator_of_symmetric_people_scores_nothing_and_views_are_small(
    model, network, alone, monkeypatch
):
    """Also where its backgrounds are anything: rendered at 32 pixels, kept at 16."""
    render = type(model).render
    random = torch.Generator().manual_seed(0)

    def drawn(self, ws, camera, *all, **named):
        """People of an own colour, brighter in the middle; the background is noise."""
        made = render(self, ws, camera, *all, **named)
        across = torch.linspace(-1, 1, made.image.shape[-1]).abs()
        person = torch.tanh(ws[:, 0, :3, None, None]) * (1 - across)
        rays = made.mask.shape[-1]
        made.mask[:] = (torch.linspace(-1, 1, rays).abs() < 0.5).float()
        made.image[:] = torch.where(across < 0.75, person, torch.rand(made.image.shape, generator=random))
        return made

    monkeypatch.setattr(type(model), "render", drawn)
    monkeypatch.setattr(artifacts, "PIXELS", 16)
    _, sides, covers = artifacts.people(model, alone, 3, 2, 0, network, lambda count: None)
    assert sides.shape == (3, 4, 3, 16, 16) and covers.shape == (3, 4, 1, 16, 16)
    assert artifacts.mirror_score(sides, covers) == pytest.approx(0, abs=0.01)
    assert artifacts.mirror_score(sides, np.ones_like(covers)) > 0.1


def figure(rays, head, neck, shoulders):
    """A mask whose widths (metres) are those in the three bands; 0.4147 m a side, the middle at 0.0649 m."""
    side = camera.RADIUS / camera.FOCAL
    height = camera.LOOK_AT[1] - ((np.arange(rays) + 0.5) / rays - 0.5) * side
    width = np.select([height >= 0.08, height >= -0.04], [head, neck], shoulders)
    across = np.abs((np.arange(rays) + 0.5) / rays - 0.5) * side
    return (across[None] < width[:, None] / 2).astype(np.float32)


def test_widths_of_masks_are_millimetres():
    seen = labels(0, 90, 180)
    masks = np.stack(
        [figure(512, 0.16, 0.11, 0.36), figure(512, 0.2, 0.1, 0.2), figure(512, 0.16, 0.2, 0.36)]
    )
    found = artifacts.extents(masks, seen)
    for band, widths in (("head", (0.16, 0.2, 0.16)), ("hair at the neck", (0.11, 0.1, 0.2)),
                         ("shoulders", (0.36, 0.2, 0.36))):  # fmt: skip
        for view, width in zip(artifacts.VIEWS, widths, strict=True):
            assert found[band, view] == pytest.approx([width], abs=0.002), (band, view)


def test_cut_off_hair_is_told_by_the_neck_seen_from_behind():
    real = np.stack([figure(128, 0.16, 0.2, 0.36)] * 5)
    cut = np.stack([figure(128, 0.16, 0.12, 0.36)] * 5)
    seen = labels(*[180] * 5)
    found = artifacts.compared(artifacts.extents(real, seen), artifacts.extents(cut, seen))
    hair = found["hair at the neck"]["back"]
    assert hair["real_mm"] - hair["made_mm"] == pytest.approx(80, abs=7)
    assert hair["apart_mm"] == pytest.approx(80, abs=7)
    assert found["head"]["back"]["apart_mm"] == 0 and found["head"]["front"] is None
