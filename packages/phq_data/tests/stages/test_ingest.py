"""Every file of a plan ends in the ledger with a word and a sentence, and no file takes another with it."""

import dataclasses
import hashlib
import json
import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from phq_data import records
from phq_data.compatibility import first_names
from phq_data.config import IngestConfig
from phq_data.images.codecs import PhotoError, decode, perceptual_hash
from phq_data.pipeline.gather import gather
from phq_data.records import LedgerEntry, Photo, PlanItem
from phq_data.sources.folder import FolderSource
from phq_data.stages.ingest import ingest, open_photo
from phq_data.workspace import Workspace

CONFIG = IngestConfig(min_side=32, max_pixels=100_000)


def jpeg(width=64, height=48, seed=0, **options):
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 3 % 256, y * 4 % 256, (x + y + 40 * seed) % 256], axis=-1).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def planned(data=b"", name="a.jpg", **changes):
    """The plan item for `data`."""
    sha256 = hashlib.sha256(data).hexdigest() if data else ""
    known: dict[str, Any] = {
        "item": sha256 or name,
        "size": len(data),
        "mtime_ns": 1,
        "sha256": sha256,
        "key": f"photos/{name}",
        "error": "",
        "message": "",
        "provider": "folder",
        "source": "holiday",
        "uri": f"file:///holiday/{name}",
    }
    return PlanItem(**known | changes)


def run(*files, config=CONFIG):
    """(photos, outcomes) for (plan item, bytes or error to raise) pairs."""
    content = {item.key: data for item, data in files}

    def read(key):
        data = content[key]
        if isinstance(data, BaseException):
            raise data
        return data

    result = ingest([item for item, _ in files], read, config)
    records.to_table(Photo, result.records)
    records.to_table(LedgerEntry, [outcome.entry("ingest") for outcome in result.outcomes])
    return result.records, result.outcomes


def test_a_good_photo_becomes_a_row_with_its_provenance():
    exif = Image.Exif()
    exif[274] = 6
    data = jpeg(exif=exif)
    (row,), (outcome,) = run((planned(data, license="CC0-1.0", author="Ada"), data))
    photo = decode(data, max_pixels=10_000)
    assert (row.width, row.height, row.orientation) == (48, 64, 6)
    assert row.photo_id == hashlib.sha256(data).hexdigest()
    assert (row.key, row.uri) == ("photos/a.jpg", "file:///holiday/a.jpg")
    assert (row.format, row.color, row.bytes) == ("JPEG", "sRGB", len(data))
    assert row.phash == perceptual_hash(photo.pixels)
    assert (row.license, row.author, row.title) == ("CC0-1.0", "Ada", None)
    assert (outcome.outcome, outcome.outputs, outcome.uri) == ("kept", (row.photo_id,), row.uri)


def test_what_the_plan_could_not_read_fails_and_only_reading_errors_are_worth_another_try():
    rows, outcomes = run(
        (planned(name="a", error="PermissionError", message="cannot be read: Permission denied"), None),
        (planned(name="b", error="not_an_image", message="its first bytes are those of no picture"), None),
        (planned(name="c", error="empty", message="the file is empty"), None),
        (planned(name="d", error="too_many_bytes", message="900 bytes; the limit is 100"), None),
    )
    assert rows == []
    assert [(o.outcome, o.reason, o.retryable) for o in outcomes] == [
        ("failed", "PermissionError", True),
        ("failed", "not_an_image", False),
        ("failed", "empty", False),
        ("rejected", "too_many_bytes", False),
    ]
    assert [o.item for o in outcomes] == list("abcd") and all(o.message for o in outcomes)


def test_the_same_bytes_again_are_rejected_and_name_the_first():
    data = jpeg()
    rows, outcomes = run(
        (planned(data, "a.jpg"), data),
        (planned(data, "b.jpg", same_as="file:///holiday/a.jpg"), AssertionError("must not be read")),
    )
    assert len(rows) == 1
    assert (outcomes[1].outcome, outcomes[1].reason) == ("rejected", "same_file")
    assert "file:///holiday/a.jpg" in outcomes[1].message


def test_photos_that_the_settings_do_not_want_are_rejected_with_the_numbers():
    small, big = jpeg(64, 31), jpeg(400, 300)
    _, outcomes = run((planned(small, "s"), small), (planned(big, "b"), big))
    assert [(o.outcome, o.reason) for o in outcomes] == [
        ("rejected", "too_small"),
        ("rejected", "too_many_pixels"),
    ]
    assert outcomes[0].evidence == {"width": 64, "height": 31, "min_side": 32}
    assert outcomes[1].evidence == {"width": 400, "height": 300, "max_pixels": 100_000}


def test_damaged_files_fail_for_good():
    cut = jpeg()[:-300]
    text = b"hello"
    _, outcomes = run((planned(cut, "c"), cut), (planned(text, "t"), text))
    assert [(o.outcome, o.reason, o.retryable) for o in outcomes] == [
        ("failed", "truncated", False),
        ("failed", "not_an_image", False),
    ]


def test_a_file_that_changed_since_it_was_planned_is_not_taken_under_the_old_name():
    rows, (outcome,) = run((planned(jpeg(seed=1)), jpeg(seed=2)))
    assert rows == []
    assert (outcome.outcome, outcome.reason, outcome.retryable) == ("failed", "changed", True)


def test_no_error_of_one_file_stops_the_others():
    data = [jpeg(seed=n) for n in range(5)]
    rows, outcomes = run(
        (planned(data[0], "0"), FileNotFoundError(2, "No such file or directory")),
        (planned(data[1], "1"), MemoryError()),
        (planned(data[2], "2"), KeyError("odd")),
        (planned(data[3], "3"), TimeoutError("too slow")),
        (planned(data[4], "4"), data[4]),
    )
    assert [row.key for row in rows] == ["photos/4"]
    assert [(o.outcome, o.reason, o.retryable) for o in outcomes] == [
        ("failed", "FileNotFoundError", True),
        ("failed", "MemoryError", True),
        ("failed", "KeyError", False),
        ("failed", "TimeoutError", True),
        ("kept", "", False),
    ]
    assert "fewer workers" in outcomes[1].message


def test_stopping_the_program_is_not_an_outcome():
    with pytest.raises(KeyboardInterrupt):
        run((planned(jpeg()), KeyboardInterrupt()))


def test_progress_is_told_of_every_file():
    ticks = []
    data = jpeg()
    plan = [planned(data, "a"), planned(name="b", error="empty")]
    ingest(plan, lambda key: data, CONFIG, tick=lambda: ticks.append(1))
    assert len(ticks) == 2


def test_a_photo_opens_again_as_it_was_and_not_when_its_bytes_changed():
    data = jpeg()
    (row,), _ = run((planned(data), data))
    pixels = open_photo(row.photo_id, data, 10_000)
    assert pixels.shape == (48, 64, 3)
    assert (pixels == decode(data, max_pixels=10_000).pixels).all()
    with pytest.raises(PhotoError) as caught:
        open_photo(row.photo_id, jpeg(seed=3), 10_000)
    assert caught.value.reason == "changed"


def test_what_the_library_warns_of_is_in_the_ledger_and_not_printed(capfd):
    """A JPEG whose EXIF points behind its end: read, with the library's word beside it, every time."""
    exif = Image.Exif()
    exif[271] = "a camera's long name"
    sink = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(sink, "JPEG", exif=exif)
    data = sink.getvalue()
    data = data.replace(struct.pack(">I", len("a camera's long name") + 1), struct.pack(">I", 60_000), 1)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            result = ingest([planned(data=data)], lambda key: data, IngestConfig(min_side=32))
        (outcome,) = result.outcomes
        assert outcome.outcome == "kept" and outcome.message.startswith("the image library: ")
        assert "271" in outcome.message or "EXIF" in outcome.message
    assert capfd.readouterr().err == ""


def test_a_codec_that_was_not_built_in_is_told_as_that(monkeypatch):
    """Not as damage; another try may help, with another Pillow."""
    data = jpeg()

    def load(self, *arguments):
        raise OSError("decoder jpeg not available")

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", load)
    (outcome,) = ingest([planned(data=data)], lambda key: data, IngestConfig(min_side=32)).outcomes
    assert (outcome.outcome, outcome.reason, outcome.retryable) == ("failed", "codec_missing", True)
    assert "no codec for this JPEG" in outcome.message


def test_a_folder_of_every_kind_of_trouble_is_accounted_for_file_by_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    good = jpeg(200, 160)
    animation, bomb = BytesIO(), bytearray(good)
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 99)]
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    start = good.index(b"\xff\xc0")
    bomb[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    files = {
        "empty.jpg": (b"", "failed", "empty"),
        "good.jpg": (good, "kept", ""),
        "good copy.jpg": (good, "rejected", "same_file"),
        "half.jpg": (good[: len(good) // 2], "failed", "truncated"),
        "huge.jpg": (bytes(bomb), "rejected", "too_many_pixels"),
        "moving.gif": (animation.getvalue(), "rejected", "animated"),
        "notes": (b"hello", "failed", "not_an_image"),
        "text.jpg": (b"hello", "failed", "not_an_image"),
        "tiny.jpg": (jpeg(20, 20), "rejected", "too_small"),
        "weighty.jpg": (good + bytes(60_000), "rejected", "too_many_bytes"),
    }
    for name, (data, _, _) in files.items():
        (folder / name).write_bytes(data)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    files["gone.jpg"] = (b"", "failed", "FileNotFoundError")
    files["good copy.jpg"], files["good.jpg"] = (good, "kept", ""), (good, "rejected", "same_file")  # by name
    workspace = Workspace.open(tmp_path / "out", create=True)
    config = IngestConfig(min_side=32, max_pixels=1_000_000, max_bytes=50_000)
    assert list(gather(workspace, [FolderSource(folder)], config, 64)) == [0]
    plan = records.from_table(PlanItem, workspace.table("plan"))
    result = ingest(plan, workspace.read_bytes, config)
    ledger = [outcome.entry("ingest") for outcome in result.outcomes]
    records.to_table(LedgerEntry, ledger)
    told = {Path(row.uri).name.replace("%20", " "): (row.outcome, row.reason) for row in ledger}
    assert told == {name: (outcome, reason) for name, (_, outcome, reason) in files.items()}
    assert all(row.message for row in ledger if row.outcome != "kept")
    assert all(json.loads(row.evidence) is not None for row in ledger)
    records.to_table(Photo, result.records)
    assert [photo.key for photo in result.records] == [
        next(item.key for item in plan if item.uri.endswith("good%20copy.jpg"))
    ]


def test_a_photo_that_a_model_made_is_rejected_unless_the_settings_keep_it():
    said = json.dumps(
        {"source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}
    )
    item = planned(jpeg(), self_stated=said)
    photos, [outcome] = run((item, jpeg()))
    assert not photos and (outcome.outcome, outcome.reason) == ("rejected", "generated")
    assert outcome.evidence == {"source_type": "trainedAlgorithmicMedia"}
    keep = dataclasses.replace(CONFIG, generated="keep")
    [photo], [outcome] = run((item, jpeg()), config=keep)
    assert outcome.outcome == "kept" and photo.self_stated == said


def test_settings_that_came_later_change_no_fingerprint_at_their_default():
    old = {"store": "copy", "min_side": 128, "max_pixels": 150_000_000, "max_bytes": 200_000_000}
    assert first_names(IngestConfig()) == old
    assert first_names(IngestConfig(generated="keep")) == {**old, "generated": "keep"}
