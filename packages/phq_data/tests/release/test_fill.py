import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import web_server
from PIL import Image

from phq_data.errors import ReleaseError
from phq_data.release import fill as filling
from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.verify import verify
from phq_data.stages.crop import Window
from phq_data.stages.resample import resample

from .conftest import SIDE, options


def photo_file(seed):
    """A photo as bytes, and its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


@pytest.fixture
def photos(maker, tmp_path):
    """Three portraits that really are cut from photos; the photos lie in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    specs, window = [], (3.25, 5.5, 41.0)
    for seed in range(3):
        data, pixels = photo_file(seed)
        (folder / f"{seed}.png").write_bytes(data)
        specs.append(
            maker.photo(
                photo_id=hashlib.sha256(data).hexdigest(), window=window,
                picture=resample(pixels, Window(*window), SIDE).pixels,
            )
        )  # fmt: skip
    maker.add(*specs)
    return folder


def test_without_pictures_a_release_keeps_labels_masks_and_digests(maker, releases, photos):
    build(maker.workspace, releases, "1.0.0", options(images="none"))
    assert verify(releases / "1.0.0", pixels=True) == []
    for row in reader.open(releases / "1.0.0").all().stream():
        assert row["image"] is None and row["mask"]["bytes"] and len(row["pixels"]) == 64
    assert "left out" in (releases / "1.0.0/README.md").read_text()


def test_filling_gives_back_the_very_pixels(maker, releases, photos):
    build(maker.workspace, releases, "1.0.0", options(images="none"))
    done = filling.fill(releases / "1.0.0", releases, [filling.from_folders([photos])])
    assert (done.filled, dict(done.missing)) == (3, {})
    assert verify(done.folder, pixels=True) == []
    filled = reader.open(releases / "1.0.0+filled")
    assert filled.manifest.parent["version"] == "1.0.0" and filled.manifest.images == "all"
    build(maker.workspace, releases / "full", "1.0.0", options())
    whole = {r["portrait_id"]: r for r in reader.open(releases / "full/1.0.0").all().stream()}
    for row in filled.all().stream():
        assert row["image"]["bytes"] and row["pixels"] == whole[row["portrait_id"]]["pixels"]
    assert not list(Path(done.folder).rglob(".*"))


def test_what_cannot_be_had_or_is_another_photo_stays_empty_and_is_counted(maker, releases, photos):
    build(maker.workspace, releases, "1.0.0", options(images="none"))
    (photos / "0.png").unlink()
    other = photo_file(77)[0]
    wanted = hashlib.sha256((photos / "1.png").read_bytes()).hexdigest()

    def liar(row):
        return other if row["photo_id"] == wanted else None

    done = filling.fill(releases / "1.0.0", releases, [liar, filling.from_folders([photos])])
    assert (done.filled, dict(done.missing)) == (1, {"another_photo": 1, "not_found": 1})
    assert verify(done.folder, pixels=True) == []


def test_a_picture_with_other_pixels_is_not_taken(maker, releases, photos):
    data, pixels = photo_file(5)
    (photos / "5.png").write_bytes(data)
    maker.add(maker.photo(photo_id=hashlib.sha256(data).hexdigest(), window=(0.0, 0.0, 30.0),
                          picture=resample(pixels, Window(1.0, 0.0, 30.0), SIDE).pixels))  # fmt: skip
    build(maker.workspace, releases, "1.0.0", options(images="none"))
    done = filling.fill(releases / "1.0.0", releases, [filling.from_folders([photos])])
    assert (done.filled, dict(done.missing)) == (3, {"other_pixels": 1})


def test_a_stopped_fill_goes_on_with_the_next_shard(maker, releases, photos, monkeypatch):
    build(maker.workspace, releases, "1.0.0", options(images="none", shard_bytes=3_000))
    assert len(reader.open(releases / "1.0.0").manifest.shards) == 3
    asked = []
    fetch = filling.from_folders([photos])

    def counting(row, stop_at=None):
        asked.append(row["photo_id"])
        if stop_at is not None and len(asked) == stop_at:
            raise KeyboardInterrupt
        return fetch(row)

    with pytest.raises(KeyboardInterrupt):
        filling.fill(releases / "1.0.0", releases, [lambda row: counting(row, 3)])
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(releases / "1.0.0+filled")
    done = filling.fill(releases / "1.0.0", releases, [counting])
    assert done.filled == 3 and len(asked) == 4  # only the third photo was asked for again
    assert verify(done.folder) == []


def test_a_full_release_needs_no_filling(maker, releases, photos):
    build(maker.workspace, releases, "1.0.0", options())
    with pytest.raises(ReleaseError, match="has its images already"):
        filling.fill(releases / "1.0.0", releases, [])


@pytest.fixture
def site():
    """A server on this machine that answers as told."""
    with web_server.serving() as site:
        site.Answer = web_server.Answer
        yield site


def test_from_the_web_passing_errors_are_tried_again_and_lasting_ones_not(site):
    fetch = filling.from_web("rosa@example.org", pause=0.0, allow_private=True)
    photo = photo_file(1)[0]
    site.pages = {"/a": [site.Answer(b"", 503, {"Retry-After": "0"}), photo]}
    assert fetch({"file_url": f"{site.url}/a"}) == photo
    with pytest.raises(OSError, match="404"):
        fetch({"file_url": f"{site.url}/b"})
    assert site.counts()["/a"] == 2 and site.counts()["/b"] == 1
    assert all("rosa@example.org" in request.headers["User-Agent"] for request in site.requests)
    assert fetch({"file_url": "file:///etc/passwd"}) is None and fetch({"file_url": None}) is None


def test_from_the_web_what_robots_and_opt_outs_bar_stays_empty_with_that_reason(
    site, maker, releases, photos
):
    build(maker.workspace, releases, "1.0.0", options(images="none"))
    site.pages = {
        "/robots.txt": site.Answer(b"User-agent: phq-data\nDisallow: /private/"),
        "/0.png": (photos / "0.png").read_bytes(),
        "/private/1.png": (photos / "1.png").read_bytes(),
        "/2.png": site.Answer((photos / "2.png").read_bytes(), headers={"X-Robots-Tag": "noai"}),
    }
    paths = {
        hashlib.sha256((photos / f"{index}.png").read_bytes()).hexdigest(): path
        for index, path in enumerate(["/0.png", "/private/1.png", "/2.png"])
    }
    web = filling.from_web("rosa@example.org", pause=0.0, allow_private=True)

    def moved(row):
        return web({**row, "file_url": site.url + paths[row["photo_id"]]})

    done = filling.fill(releases / "1.0.0", releases, [moved])
    assert (done.filled, dict(done.missing)) == (1, {"robots": 1, "opt_out": 1})
    assert not site.asked("/private")


def test_the_web_has_no_way_to_machines_of_a_private_network(site):
    fetch = filling.from_web("rosa@example.org", pause=0.0)
    with pytest.raises(OSError, match="private network"):
        fetch({"file_url": f"{site.url}/a"})
    assert not site.requests
