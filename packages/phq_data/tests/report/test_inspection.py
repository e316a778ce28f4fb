"""`phq inspect` finds what is meant, tells all of it, and draws it where it is."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from phq_data import schema
from phq_data.config import default
from phq_data.report.inspection import InspectionError, draw, inspect, show, write_image
from phq_data.report.inspection.image import _MARGIN, _WIDTH


@pytest.fixture
def made(make_workspace):
    return make_workspace(count=8, rejected=2)


def text_of(inspection, **options) -> str:
    text = io.StringIO()
    show(inspection, Console(file=text, width=160), default().screen, **options)
    return text.getvalue()


def test_an_id_is_found_from_its_first_digits_in_every_table(made):
    rows = {"photo": made.photos, "person": made.people, "fit": made.fits, "portrait": made.portraits}
    for kind, listed in rows.items():
        wanted = listed[3][f"{kind}_id"]
        found = inspect(made.workspace, wanted[:12].upper())
        assert (found.kind, found.id) == (kind, wanted)
        assert found.photo["photo_id"] == listed[3]["photo_id"]


def test_a_portrait_brings_its_whole_history(made):
    row = made.portraits[0]
    found = inspect(made.workspace, row["portrait_id"])
    assert [p["person_id"] for p in found.people] == [row["person_id"]]
    assert [f["fit_id"] for f in found.fits] == [row["fit_id"]]
    assert found.verdicts[0]["reasons"] == ["off_shoulders"]
    assert [r["stage"] for r in found.ledger] == ["ingest", "detect", "fit", "align_crop", "screen"]
    assert found.ledger[-1]["outcome"] == "rejected"
    assert "image" not in found.portraits[0]
    text = text_of(found)
    assert row["portrait_id"] in text and "31 %" in text and "at most 8 %" in text
    assert "photo 0.png" in text and "off_shoulders" in text


def test_near_duplicates_are_named(made):
    leader, follower = (row["portrait_id"] for row in made.duplicates)
    text = text_of(inspect(made.workspace, follower))
    assert f"{leader[:12]} (stays)" in text and "3 bits" in text


def test_a_file_name_finds_its_photo_and_the_whole_name_wins(make_workspace, tmp_path):
    made = make_workspace(count=12)
    assert inspect(made.workspace, "photo 1.png").id == made.photos[1]["photo_id"]
    assert inspect(made.workspace, "PHOTO 10").id == made.photos[10]["photo_id"]
    with pytest.raises(InspectionError, match=r"14 files match 'photo'") as caught:
        inspect(made.workspace, "photo")
    assert "photo 0.png" in str(caught.value) and "and 6 more" in str(caught.value)


def test_a_file_that_gave_no_photo_says_why(made):
    found = inspect(made.workspace, "photo 8.png")
    assert (found.kind, found.photo) == ("file", None)
    assert found.ledger[0]["reason"] == "not_an_image"
    assert "it is a text" in text_of(found)
    assert Image.open(io.BytesIO(draw(made.workspace, found))).size[1] < 200


def test_a_photo_without_people_says_so(made):
    found = inspect(made.workspace, "photo 9.png")
    assert found.kind == "photo" and not found.people
    text = text_of(found)
    assert "none found" in text and "no_person" in text
    assert Image.open(io.BytesIO(draw(made.workspace, found))).size[1] > 300


def test_an_unknown_name_is_answered_with_near_ones(made, tmp_path):
    with pytest.raises(InspectionError, match=r"nearest file names are photo 3\.png"):
        inspect(made.workspace, "foto 3.png")
    with pytest.raises(InspectionError, match="4 digits"):
        inspect(made.workspace, "f0f")
    from phq_data.workspace import Workspace

    with pytest.raises(InspectionError, match="is empty"):
        inspect(Workspace.open(tmp_path / "other", create=True), "anything")


def test_ambiguous_digits_are_listed_and_an_exact_id_is_not_ambiguous(make_workspace):
    made = make_workspace(count=1)
    rows = made.workspace.read_part("tables/people", 0).to_pylist()
    ids = ["abcd" + "0" * 28, "abcd" + "1" * 28]
    twins = [{**rows[0], "person_id": name, "order": k} for k, name in enumerate(ids)]
    made.workspace.write_part("tables/people", 0, schema.to_table("people", twins), "test")
    with pytest.raises(InspectionError, match="2 ids start with 'abcd'") as caught:
        inspect(made.workspace, "abcd")
    assert all(name[:12] in str(caught.value) for name in ids)
    assert inspect(made.workspace, ids[1]).id == ids[1]


def test_one_of_two_people_is_told_without_the_other(make_workspace):
    made = make_workspace(count=1)
    rows = made.workspace.read_part("tables/people", 0).to_pylist()
    other = {**rows[0], "person_id": "f" * 32, "order": 1}
    made.workspace.write_part("tables/people", 0, schema.to_table("people", [*rows, other]), "test")
    found = inspect(made.workspace, "ffffffff")
    assert len(found.people) == 2 and not found.fits and not found.portraits
    text = text_of(found)
    assert "person 1" in text and "person 0" not in text and "left shoulder" in text


def test_the_picture_shows_photo_window_and_portraits_in_their_places(made):
    row = made.portraits[0]
    path = write_image(made.workspace, inspect(made.workspace, row["portrait_id"]))
    assert path.endswith(f"inspect/{row['portrait_id'][:16]}.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    # The window is drawn in amber on the photo: x 96 to 224 of its 320 pixels.
    amber = (np.abs(pixels - (255, 190, 60)).sum(axis=2) < 12).sum(axis=0)
    columns = np.flatnonzero(amber > 100)
    scale = _WIDTH / 320
    assert columns.min() - _MARGIN == pytest.approx(96 * scale, abs=2)
    assert columns.max() - _MARGIN == pytest.approx(224 * scale, abs=2)
    # The last row is the portrait, the rig over it and the cut-out: the corner of the cut-out is checkered.
    assert pixels.shape[1] == _WIDTH + 2 * _MARGIN
    assert set(map(tuple, pixels[-40:-20, -60:-20].reshape(-1, 3))) & {(236, 236, 232), (206, 206, 202)}


def test_a_photo_that_is_gone_is_said_in_the_picture(make_workspace):
    made = make_workspace(count=1, store_photos=False)
    found = inspect(made.workspace, made.portraits[0]["portrait_id"])
    with_photo = 900
    assert Image.open(io.BytesIO(draw(made.workspace, found))).size[1] < with_photo


def test_everything_is_json(made):
    found = inspect(made.workspace, made.portraits[1]["portrait_id"])
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["fits"][0]["residuals"][10] is None  # not used
    assert values["portraits"][0]["camera"] == pytest.approx(made.portraits[1]["camera"], abs=1e-5)
    assert values["uri"] == "file:///pictures/photo 1.png"


def test_names_cannot_drive_the_terminal(make_workspace):
    made = make_workspace(count=1, name="\x1b[31m[bold]{number}.png", author="\x1b]0;title\x07")
    text = text_of(inspect(made.workspace, made.photos[0]["photo_id"]))
    assert "\x1b" not in text and "\x07" not in text and "[bold]0.png" in text
    with pytest.raises(InspectionError) as caught:
        inspect(made.workspace, ".png")
    assert "\x1b" not in str(caught.value)
