"""Facts about the cache of decoded pixels by itself."""

from dataclasses import replace

import numpy as np
import pytest

from portraitgan.data.cache import CacheError, CacheKey, PixelCache

KEY = CacheKey("a" * 64, "train", 4, 3)


def pixels(value):
    return np.full((4, 4, 4), value, np.uint8)


def test_a_cache_of_another_release_split_or_size_is_another():
    key = CacheKey("a" * 64, "train", 32, 5)
    names = {
        key.name,
        replace(key, release="b" * 64).name,
        replace(key, split="test").name,
        replace(key, resolution=64).name,
    }
    assert len(names) == 4


def test_rows_are_shared_by_everybody_who_opens_it(tmp_path):
    first, second = (PixelCache.open(tmp_path, KEY) for _ in range(2))
    out = np.empty((4, 4, 4), np.uint8)
    assert not second.read(1, out)
    image = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    first.write(1, image)
    assert second.read(1, out) and np.array_equal(out, image)
    assert second.read(1, out, mirrored=True) and np.array_equal(out, image[..., ::-1])
    assert second.stored == 1


def test_a_forgotten_row_stays_away_for_everybody(tmp_path):
    first, second = (PixelCache.open(tmp_path, KEY) for _ in range(2))
    first.write(0, pixels(5))
    assert second.has(0)
    assert first.forget([0, 2]) == 1  # row 2 was never there
    assert first.forget([0, 2]) == 0
    second.write(0, pixels(5))
    second.write(2, pixels(6))
    assert not first.has(0) and not second.has(0) and not second.has(2)
    assert not (tmp_path / KEY.name / "pixels").read_bytes().strip(b"\0")


def test_it_is_whole_when_all_wanted_rows_are_there(tmp_path):
    wanted = np.array([True, False, True])
    assert not PixelCache.is_whole(tmp_path, KEY, wanted)
    cache = PixelCache.open(tmp_path, KEY)
    cache.write(0, pixels(1))
    assert not PixelCache.is_whole(tmp_path, KEY, wanted)
    cache.write(2, pixels(1))
    assert PixelCache.is_whole(tmp_path, KEY, wanted)


def test_what_a_killed_creation_left_is_cleared_away(tmp_path):
    left = tmp_path / f".{KEY.name}.making"
    left.mkdir()
    (left / "pixels").write_bytes(b"half")
    PixelCache.open(tmp_path, KEY)
    assert not left.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="Name another folder"):
        PixelCache.open(tmp_path / "file", KEY)
