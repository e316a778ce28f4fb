import json
import shutil

import pytest
from typer.testing import CliRunner

from phq_data.cli.main import make_app
from phq_data.errors import ReleaseError
from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.marks import mark
from phq_data.release.takedown import take_all_down, take_down
from phq_data.release.tombstones import Tombstone, Tombstones
from phq_data.release.transfer import pull, push
from phq_data.release.verify import verify
from phq_data.release.version import VersionError

from .conftest import Maker, options


@pytest.fixture
def made(maker, releases):
    """12 photos of two people each, two of one author; ids in order."""
    specs = [maker.photo(people=2) for _ in range(12)]
    specs[7]["author"] = specs[2]["author"] = "Ada  Lovelace"
    ids = maker.add(*specs)
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=15_000))
    return ids


def left(releases, version="1.0.0"):
    return set(reader.open(releases / version).all().metadata(["portrait_id"])["portrait_id"].to_pylist())


def test_taking_down_a_portrait_takes_its_whole_photo_at_once(made, releases):
    found = take_down(releases, portrait_id=made[4][:10])
    assert set(found.entry.portraits) == set(made[4:6]) and found.versions == ("1.0.0",)
    assert left(releases) == set(made) - set(made[4:6])


def test_by_url_and_by_author_however_they_are_written(made, releases):
    assert take_down(releases, url="http://www.example.org/1/?utm_source=x").entry.portraits
    assert len(take_down(releases, author="ada lovelace").entry.portraits) == 4
    assert left(releases) == set(made) - {*made[0:2], *made[4:6], *made[14:16]}


def test_the_public_list_does_not_say_who_asked(made, releases):
    take_down(releases, author="Ada Lovelace", reason="asked by mail")
    take_down(releases, url="https://example.org/9")
    text = (releases / "tombstones.json").read_text()
    assert "Lovelace" not in text and "example.org" not in text and "asked by mail" in text


def test_the_next_release_drops_it_rewrites_only_its_shards_and_lists_it(made, maker, releases):
    take_down(releases, portrait_id=made[4])
    with pytest.raises(VersionError, match=r"2 removed.*2\.0\.0"):
        build(maker.workspace, releases, "1.0.1", options())
    result = build(maker.workspace, releases, "2.0.0", options())
    old, new = (
        {shard.path: shard.sha256 for shard in reader.open(releases / v).manifest.shards}
        for v in ("1.0.0", "2.0.0")
    )
    index = reader.open(releases / "1.0.0").index.to_pylist()
    shards = [shard.path for shard in reader.open(releases / "1.0.0").manifest.shards]
    concerned = {shards[row["shard"]] for row in index if row["portrait_id"] in made[4:6]}
    assert {path for path in old if old[path] != new.get(path)} == concerned
    assert (result.changes.removed, result.changes.taken_down) == (2, 2)
    manifest = reader.open(releases / "2.0.0").manifest
    assert set(manifest.about["tombstones"]) == set(made[4:6])
    assert verify(releases / "2.0.0") == []
    # Not even the file of the old picture survives in the new version.
    rows = reader.open(releases / "2.0.0").index["portrait_id"].to_pylist()
    assert not set(rows) & set(made[4:6])


def test_neither_a_new_cut_nor_another_file_of_the_picture_comes_back(maker, releases):
    spec = maker.photo(phash=0b1)
    ids = maker.add(spec, maker.photo(), maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    take_down(releases, portrait_id=ids[0])
    again = maker.photo(phash=0b11)  # the same picture from another file
    maker.add({**spec, "people": 2, "phash": 0}, again, maker.photo())
    result = build(maker.workspace, releases, "2.0.0", options())
    assert result.left_out == {"like_taken_down": 1, "taken_down": 3}
    assert len(left(releases, "2.0.0")) == 3


def test_somebody_of_whom_nothing_is_released_yet_is_remembered(made, maker, releases):
    found = take_down(releases, author="Grace Hopper")
    assert found.entry.portraits == ()
    later = maker.add(maker.photo(author="Grace Hopper"), maker.photo())
    build(maker.workspace, releases, "1.1.0", options())
    assert set(later) & left(releases, "1.1.0") == {later[1]}


def test_granting_twice_changes_nothing(made, releases):
    first = take_down(releases, portrait_id=made[0], reason="asked", on="2026-11-20")
    text = (releases / "tombstones.json").read_text()
    second = take_down(releases, portrait_id=made[0], on="2026-11-25")
    assert (first.known, second.known) == (False, True)
    assert (releases / "tombstones.json").read_text() == text


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "one of --id, --url or --author"),
        ({"portrait_id": "a", "author": "b"}, "one of"),
        ({"portrait_id": "abc"}, "too short"),
        ({"portrait_id": "ffffffffffff"}, "no release"),
    ],
)
def test_requests_that_mean_nothing_are_refused(made, releases, asked, reason):
    before = (releases / "tombstones.json").read_bytes()
    with pytest.raises(ReleaseError, match=reason):
        take_down(releases, **asked)
    assert (releases / "tombstones.json").read_bytes() == before


def test_the_list_is_plain_json(made, releases):
    take_down(releases, portrait_id=made[0], on="2026-11-20")
    document = json.loads((releases / "tombstones.json").read_text())
    assert document["format"] == "phq-tombstones/1"
    assert document["tombstones"][0]["date"] == "2026-11-20"


def test_two_photos_of_one_endpoint_are_told_apart_by_their_query(maker, releases):
    specs = [maker.photo(), maker.photo(), maker.photo()]
    for number, spec in enumerate(specs):
        spec["page_url"] = f"https://h.example.org/index.php?title=A&curid={number}"
    ids = maker.add(*specs)
    build(maker.workspace, releases, "1.0.0", options())
    found = take_down(
        releases, url="http://h.example.org/index.php?curid=1&utm_source=mail&title=A&fbclid=9#top"
    )
    assert found.entry.portraits == (ids[1],)
    assert take_down(releases, url="https://h.example.org/index.php").entry.portraits == ()
    build(maker.workspace, releases, "2.0.0", options())
    assert left(releases, "2.0.0") == {ids[0], ids[2]}


def test_a_mark_of_before_still_means_what_it_meant():
    import hashlib

    old = hashlib.sha256(b"url:h.example.org/q").hexdigest()
    row = {"portrait_id": "p", "photo_id": "q", "file_url": "https://www.h.example.org/q?i=15"}
    assert Tombstones((Tombstone("url", old, "2026-11-01"),)).forbids(row)
    for asked, meant in (("http://h.example.org/q", False), ("http://h.example.org/q?i=15", True)):
        assert Tombstones((Tombstone("url", mark("url", asked), "2026-11-24"),)).forbids(row) is meant


# ---- several at once -------------------------------------------------------------------------------------


def test_every_request_of_one_command_is_granted(made, releases):
    words = ["release", "takedown", "-r", str(releases)]
    asked = ["--id", made[0], "--id", made[4], "--url", "https://example.org/2", "--author", "Ada Lovelace"]
    done = CliRunner().invoke(make_app(), [*words, *asked])
    assert done.exit_code == 0, done.output
    # Photos 1, 3 and 2 by name, 3 and 8 by their author.
    assert left(releases) == set(made) - {*made[0:6], *made[14:16]}


def test_one_request_that_means_nothing_stops_the_others(made, releases):
    before = (releases / "tombstones.json").read_bytes()
    with pytest.raises(ReleaseError, match="no release"):
        take_all_down(releases, [("id", made[0]), ("id", "f" * 12)])
    assert (releases / "tombstones.json").read_bytes() == before and len(left(releases)) == len(made)


# ---- a list that is damaged or gone ----------------------------------------------------------------------


def test_no_flipped_bit_in_the_lists_shows_a_portrait_again(made, releases):
    take_down(releases, portrait_id=made[0])
    places = [releases / "tombstones.json", releases / "1.0.0" / "tombstones.json"]
    whole = [place.read_bytes() for place in places]
    for bit in range(0, 8 * min(map(len, whole)), 13):
        for place, data in zip(places, whole, strict=True):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            place.write_bytes(bytes(changed))
        try:
            shown = left(releases)
        except ReleaseError:
            continue
        assert made[0] not in shown, f"bit {bit}"


@pytest.mark.parametrize("portraits", ['"abc"', "{}", "[1]", "null"])
def test_something_else_than_a_list_of_ids_is_refused(made, releases, portraits):
    (releases / "tombstones.json").write_text(
        '{"format": "phq-tombstones/1", "tombstones": [{"kind": "id", "match": "x", "date": "2026-11-20", '
        f'"reason": "", "portraits": {portraits}, "photos": []}}]}}'
    )
    with pytest.raises(ReleaseError, match=r"tombstones\.json cannot be read"):
        reader.open(releases / "1.0.0")


def test_a_lost_list_is_said_by_verify_and_its_copy_hides_meanwhile(made, releases, caplog):
    take_down(releases, portrait_id=made[0])
    (releases / "tombstones.json").unlink()
    assert made[0] not in left(releases)
    assert "copied alone" in caplog.text
    assert ["copied alone" in str(one) for one in verify(releases / "1.0.0")] == [True]
    take_down(releases, portrait_id=made[4])  # brings it back
    assert verify(releases / "1.0.0") == []
    remembered = Tombstones.from_bytes((releases / "tombstones.json").read_bytes(), "")
    assert set(vars(remembered)["_portraits"]) == {*made[0:2], *made[4:6]}


def test_without_any_list_nothing_is_read(made, releases):
    for place in (releases, releases / "1.0.0"):
        (place / "tombstones.json").unlink()
    with pytest.raises(ReleaseError, match="has lost its list of taken-down portraits"):
        reader.open(releases / "1.0.0")
    assert "has lost its list" in str(verify(releases / "1.0.0")[0])


def test_a_release_copied_alone_hides_what_it_knew_and_says_so(made, releases, tmp_path, caplog):
    take_down(releases, portrait_id=made[0])
    shutil.copytree(releases / "1.0.0", tmp_path / "elsewhere" / "1.0.0")
    assert made[0] not in left(tmp_path / "elsewhere")
    assert "what was taken down after the copy is not known" in caplog.text


def test_a_list_of_the_first_version_is_read(made, releases):
    entry = {"kind": "id", "match": made[0], "date": "2026-11-20", "reason": "", "portraits": [made[0]]}
    document = {"format": "phq-tombstones/1", "tombstones": [{**entry, "photos": []}]}
    (releases / "tombstones.json").write_text(json.dumps(document))
    assert left(releases) == set(made) - {made[0]}


# ---- the list of other releases --------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path):
    """A folder of releases of another workspace, with a list of its own."""
    maker = Maker(tmp_path / "other workspace")
    maker.seed = 100  # other photos
    ids = maker.add(*(maker.photo() for _ in range(6)))
    build(maker.workspace, tmp_path / "others", "1.0.0", options())
    take_down(tmp_path / "others", portrait_id=ids[0])
    return tmp_path / "others"


@pytest.mark.parametrize("place", ["", "1.0.0"])
def test_the_list_of_other_releases_hides_nothing_and_is_refused(made, releases, others, place, tmp_path):
    take_down(releases, portrait_id=made[0])
    shutil.copy(others / "tombstones.json", releases / place / "tombstones.json")
    said = "is that of other releases"
    with pytest.raises(ReleaseError, match=said):
        reader.open(releases / "1.0.0")
    assert said in str(verify(releases / "1.0.0")[0])
    with pytest.raises(ReleaseError, match=said):
        push(releases / "1.0.0", str(tmp_path / "far"))
    with pytest.raises(ReleaseError, match=said):
        pull(str(releases / "1.0.0"), tmp_path / "near")
    with pytest.raises(ReleaseError, match=said):
        take_down(releases, portrait_id=made[4])


def test_a_release_copied_beside_other_releases_is_refused(made, releases, others):
    shutil.copytree(releases / "1.0.0", others / "2.0.0")
    with pytest.raises(ReleaseError, match="is that of other releases"):
        reader.open(others / "2.0.0")


def test_one_list_may_be_for_releases_of_several_workspaces(made, releases, others, tmp_path):
    take_down(releases, portrait_id=made[0])
    (others / "1.0.0").rename(others / "1.5.0")
    pull(str(releases / "1.0.0"), others)
    for version, hidden in (("1.0.0", 2), ("1.5.0", 1)):
        release = reader.open(others / version)
        assert (~release.alive()).sum() >= hidden and verify(others / version) == []


def test_the_releases_that_follow_are_of_the_same_lineage(made, maker, releases):
    take_down(releases, portrait_id=made[0])
    build(maker.workspace, releases, "2.0.0", options())
    first, second = (reader.open(releases / version).manifest for version in ("1.0.0", "2.0.0"))
    assert first.about["lineage"] == second.about["lineage"] != ""
    assert first.digest != second.digest
    assert Tombstones.from_bytes((releases / "tombstones.json").read_bytes(), "").lineages == (
        first.about["lineage"],
    )


def test_lists_of_the_first_version_are_read_with_a_note_until_they_are_written_anew(made, releases, caplog):
    document = {"format": "phq-tombstones/1", "tombstones": []}
    for place in (releases, releases / "1.0.0"):
        (place / "tombstones.json").write_text(json.dumps(document))
    assert left(releases) == set(made)
    assert "does not say of which releases it is" in caplog.text
    take_down(releases, portrait_id=made[0])
    caplog.clear()
    assert made[0] not in left(releases) and caplog.text == ""
