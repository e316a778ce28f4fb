import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phq_data.review import items
from phq_data.review.images import KINDS, Kind, NoImageError, PortraitImages, edged
from phq_data.review.store import Store


@pytest.fixture
def made(make_workspace):
    found = make_workspace(count=4, rejected=1)
    found.store = Store.open(found.workspace)
    items.sync(found.store, found.workspace)
    found.images = PortraitImages(found.workspace, found.store)
    yield found
    found.images.close()
    found.store.close()


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image.data)))


def test_every_kind_is_an_image_that_browsers_show(made):
    portrait = made.portraits[0]["portrait_id"]
    for kind in KINDS:
        image = made.images.get(portrait, kind)
        assert image.media_type in ("image/png", "image/webp", "image/jpeg")
        assert Image.open(io.BytesIO(image.data)).size[0] > 0


def test_the_crop_and_the_mask_are_the_stored_bytes(made):
    row = made.portraits[1]
    assert made.images.get(row["portrait_id"], "crop").data == row["image"]["bytes"]
    assert made.images.get(row["portrait_id"], "mask").data == row["mask"]["bytes"]


def test_the_mesh_lies_on_the_figure_it_was_drawn_from(made):
    for row in made.portraits:
        overlay = pixels(made.images.get(row["portrait_id"], "overlay"))
        assert overlay.shape[2] == 4
        side = overlay.shape[0]
        figure = Image.open(io.BytesIO(row["mask"]["bytes"])).resize((side, side), Image.Resampling.BILINEAR)
        drawn, there = overlay[..., 3] > 127, np.asarray(figure) > 127
        assert (drawn & there).sum() / (drawn | there).sum() > 0.96


def test_the_mesh_has_a_faint_edge_black_and_then_white():
    drawn = np.zeros((9, 9, 4), np.uint8)
    drawn[3:6, 3:6] = (10, 20, 30, 255)
    found = edged(drawn)
    assert (found[3:6, 3:6] == drawn[3:6, 3:6]).all()
    assert found[4, 2].tolist()[:3] == [0, 0, 0] and found[4, 1].tolist()[:3] == [255, 255, 255]
    assert 0 < found[4, 2, 3] < 128 and 0 < found[4, 1, 3] < 128 and found[4, 0, 3] == 0


def test_the_photo_is_whole_and_small(made):
    photo = pixels(made.images.get(made.portraits[0]["portrait_id"], "photo"))
    assert photo.shape == (240, 320, 3)


def test_the_original_is_the_window_in_the_photos_own_pixels(made):
    row = made.portraits[0]
    x, y, side = row["window"]
    shown = pixels(made.images.get(row["portrait_id"], "original")).astype(float)
    photo = pixels(made.images.get(row["portrait_id"], "photo")).astype(float)  # small: not reduced
    left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    wanted = photo[top : int(np.ceil(y + side)), left : int(np.ceil(x + side))]
    assert shown.shape == wanted.shape
    assert np.abs(shown - wanted).mean() < 3  # both are compressed


def test_a_window_of_a_huge_photo_is_bounded(made, monkeypatch):
    monkeypatch.setattr("phq_data.review.images.ORIGINAL_SIDE", 64)
    assert max(pixels(made.images.get(made.portraits[1]["portrait_id"], "original")).shape) == 64


def test_made_images_are_kept_in_the_workspace(made, monkeypatch):
    portrait = made.portraits[0]["portrait_id"]
    first = made.images.get(portrait, "overlay")
    again = PortraitImages(made.workspace, made.store)
    monkeypatch.setattr(again, "_make", lambda *_: pytest.fail("drawn again"))
    assert again.get(portrait, "overlay").data == first.data
    again.close()


def test_prepared_meshes_are_there(made, monkeypatch):
    ids = [row["portrait_id"] for row in made.portraits]
    made.images.prepare(ids)
    made.images.close()
    later = PortraitImages(made.workspace, made.store)
    prepared = [
        i for i in ids if made.workspace.exists(f"review/cache/{i[:2]}/{later._name(i, 'overlay')}.webp")
    ]
    later.close()
    assert prepared  # `close` may drop what had not begun, never what had


@pytest.mark.parametrize("portrait", ["0" * 32, "../../etc/passwd", "", "%00", "' OR 1=1 --"])
def test_nothing_else_is_ever_served(made, portrait):
    for kind in KINDS:
        with pytest.raises(NoImageError):
            made.images.get(portrait, kind)


def test_a_photo_that_changed_on_disk_is_not_shown(made):
    row = made.portraits[0]
    key = next(p["key"] for p in made.photos if p["photo_id"] == row["photo_id"])
    other = next(p["key"] for p in made.photos if p["photo_id"] != row["photo_id"])
    made.workspace.write_bytes(key, made.workspace.read_bytes(other))
    with pytest.raises(NoImageError, match="has changed since the build"):
        made.images.get(row["portrait_id"], "photo")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-40] + b"?" + data[-39:], lambda _: b"", lambda d: d[:-32]]
)
def test_a_damaged_image_of_the_cache_is_made_again(made, change):
    portrait = made.portraits[0]["portrait_id"]
    kinds: tuple[Kind, ...] = ("thumb", "overlay")
    right = {kind: made.images.get(portrait, kind).data for kind in kinds}
    folder = Path(made.workspace.path("review/cache"))
    kept = sorted(folder.rglob("*.webp"))
    assert len(kept) >= 2
    for file in kept:
        file.write_bytes(change(file.read_bytes()))
    later = PortraitImages(made.workspace, made.store)
    assert {kind: later.get(portrait, kind).data for kind in kinds} == right
    later.close()


def test_a_full_disk_does_not_keep_images_from_being_shown(made, monkeypatch):
    from phq_data.workspace import WorkspaceError

    def full(*_):
        raise WorkspaceError("the disk is full")

    monkeypatch.setattr(made.workspace, "write_bytes", full)
    assert made.images.get(made.portraits[0]["portrait_id"], "thumb").data
