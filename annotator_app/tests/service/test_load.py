import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import review_load
from phq_data.review.images import ServedImage

from .conftest import queue


@pytest.mark.slow
def test_twenty_reviewers_for_five_seconds_without_error_or_loss(tmp_path):
    found = review_load.run(tmp_path, people=20, seconds=5.0, portraits=600, size=64, images=False)
    assert (found["errors"], found["lost"], found["twice"], found["missing"]) == (0, 0, 0, 0)
    assert found["decisions"] > 0


def test_whole_photos_are_decoded_one_at_a_time_and_small_images_beside_them(client, monkeypatch):
    running, most = {"original": 0, "crop": 0}, {"original": 0, "crop": 0}
    guard, images = threading.Lock(), client.app.state.phq.images
    portraits = [one["portrait_id"] for one in queue(client, 5)]

    def get(portrait_id, kind):
        with guard:
            running[kind] += 1
            most[kind] = max(most[kind], running[kind])
        time.sleep(0.1)
        with guard:
            running[kind] -= 1
        return ServedImage(b"", "image/webp")

    monkeypatch.setattr(images, "get", get)
    paths = [f"/img/{one}/{kind}" for one in portraits for kind in ("original", "crop")]
    with ThreadPoolExecutor(10) as pool:
        assert [one.status_code for one in pool.map(client.get, paths)] == [200] * 10
    assert most["original"] == 1 and most["crop"] > 1
