"""How often portraits are dealt: rare sides, and views from behind."""

import numpy as np
import pytest

from phq_data import camera
from portraitgan.data import balance
from portraitgan.data.dataset import PortraitData


def seen_from(*degrees):
    yaw = np.radians(degrees)
    return camera.to_label(camera.from_angles(yaw, np.zeros(len(yaw))))


def test_without_wishes_everybody_is_there_once():
    np.testing.assert_array_equal(balance.dealt(seen_from(0, 100, -170), True), [0, 1, 2])


def test_octants_become_equally_frequent():
    """40 from the front, 10 from the left, 20 from behind: 40 of each."""
    cameras = seen_from(*[3.0] * 40, *[90.0] * 10, *[-179.0] * 20)
    found = np.bincount(balance.dealt(cameras, False, "yaw"), minlength=70)
    assert found[:40].tolist() == [1] * 40 and found[40:50].tolist() == [4] * 10
    assert found[50:].tolist() == [2] * 20


def test_shares_of_a_time_are_dealt_by_chance_and_a_limit_holds():
    cameras = seen_from(*[0.0] * 250, *[90.0] * 100, 180.0)
    found = np.bincount(balance.dealt(cameras, False, "yaw"), minlength=351)
    assert set(found[250:350].tolist()) == {2, 3} and found[250:350].sum() == pytest.approx(250, abs=25)
    assert found[350] == balance.MOST_OFTEN


def test_mirrored_portraits_count_for_the_other_side():
    """30 from the left and 10 from the right are 40 of each with their mirror images: nothing to do."""
    cameras = seen_from(*[90.0] * 30, *[-90.0] * 10)
    np.testing.assert_array_equal(balance.dealt(cameras, True, "yaw"), np.arange(40))
    assert len(balance.dealt(cameras, False, "yaw")) == 60


def test_what_is_seen_from_behind_is_repeated():
    """PanoHead's: from 90 degrees of yaw on, to either side."""
    assert balance.dealt(seen_from(0, 91, -120, 180, 89), True, back_repeat=3).tolist() == [
        0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4,
    ]  # fmt: skip


def test_a_release_is_dealt_so(made):
    """Labels, images and ids of an entry stay those of one portrait, mirrored twins included."""
    once = PortraitData.open(made / "1.0.0", 32)
    often = PortraitData.open(made / "1.0.0", 32, back_repeat=3)
    cameras = once.labels(range(once.portraits))[0].numpy()
    back = np.abs(np.degrees(camera.angles(camera.from_label(cameras)[0])[0])) >= 90
    assert 0 < back.sum() < once.portraits
    assert often.portraits == once.portraits + 2 * back.sum() and len(often) == 2 * often.portraits
    ids = often.portrait_ids(range(often.portraits))
    for number, name in enumerate(once.portrait_ids(range(once.portraits))):
        places = [place for place, other in enumerate(ids) if other == name]
        assert len(places) == (3 if back[number] else 1)
        for place in places:
            mine = often.batch([place, place + often.portraits])
            same = once.batch([number, number + once.portraits])
            assert (mine.images == same.images).all() and (mine.cameras == same.cameras).all()
