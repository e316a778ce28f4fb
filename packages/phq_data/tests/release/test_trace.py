"""Who saw a portrait: releases, runs and checkpoints, those of before and of descended runs included."""

import json

import pytest
from programs import phq_here

from phq_data.errors import ReleaseError
from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.trace import trace

from .conftest import options


@pytest.fixture
def made(maker, releases):
    """Two releases of four portraits and five: (ids, digests)."""
    ids = maker.add(*(maker.photo(author=name) for name in ("Ada", "Ada", "Bo", "Cy")))
    build(maker.workspace, releases, "1.0.0", options())
    ids += maker.add(maker.photo(author="Bo", people=1))
    build(maker.workspace, releases, "1.1.0", options())
    return ids, [reader.open(releases / version).manifest.digest for version in ("1.0.0", "1.1.0")]


def run(folder, digest, checkpoints, entries=None):
    """A folder as portraitgan leaves it."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for images in checkpoints:
        place = folder / "checkpoints" / f"kimg-{images:06d}"
        place.mkdir()
        (place / "state.json").write_text(json.dumps({"images": images, "data": digest}))
    if entries is not None:
        (folder / "seen.json").write_text(json.dumps({"format": 1, "data": entries}))


def entry(digest, portraits, images=0, weights=""):
    return {
        "release": digest, "name": "n", "version": "1.0.0", "url": "u", "split": "train", "images": images,
        "weights": weights, "portraits": portraits,
    }  # fmt: skip


def names(found):
    return {
        one.run.rpartition("/")[2]: [name.rpartition("/")[2] for name in one.checkpoints]
        for one in found.runs
    }


def test_releases_runs_and_checkpoints_are_named(made, releases, tmp_path):
    ids, (old, new) = made
    runs = tmp_path / "runs"
    run(runs / "all", old, [10, 20], [entry(old, ids[:4])])
    run(runs / "without", old, [10], [entry(old, [ids[0], ids[1], ids[3]])])
    later = [entry(old, [ids[0]]), entry(new, [ids[2]], images=15)]
    run(runs / "deep" / "later", new, [10, 15, 20], later)
    run(runs / "before", old, [10])
    run(runs / "child", new, [30], [entry(new, [ids[0]], weights=str(runs / "all/checkpoints/kimg-000020"))])
    run(runs / "grandchild", new, [40], [entry(new, [ids[0]], weights=str(runs / "child/checkpoints/x"))])
    found = trace(str(releases), [("portrait", ids[2])], [runs])
    assert found.portraits == (ids[2],)
    assert [(one.version, one.portraits) for one in found.releases] == [("1.0.0", 1), ("1.1.0", 1)]
    assert names(found) == {
        "all": ["kimg-000010", "kimg-000020"], "later": ["kimg-000020"], "before": ["kimg-000010"],
        "child": ["kimg-000030"], "grandchild": ["kimg-000040"],
    }  # fmt: skip
    by_name = {one.run.rpartition("/")[2]: one for one in found.runs}
    assert by_name["before"].portraits == 0 and by_name["all"].portraits == 1
    assert by_name["grandchild"].through.endswith("child") and by_name["child"].through.endswith("all")


def test_people_are_looked_for_by_photo_person_and_author(made, releases):
    ids, _ = made
    rows = (
        reader.open(releases / "1.1.0").all().metadata(["portrait_id", "photo_id", "person_id"]).to_pylist()
    )
    row = next(row for row in rows if row["portrait_id"] == ids[3])
    for kind in ("photo", "person"):
        assert trace(str(releases), [(kind, row[f"{kind}_id"])]).portraits == (ids[3],)
    assert set(trace(str(releases), [("author", "bo")]).portraits) == {ids[2], ids[4]}
    with pytest.raises(ReleaseError, match="knows person 'nobody-at-all'"):
        trace(str(releases), [("person", "nobody-at-all")])
    with pytest.raises(ReleaseError, match="too short"):
        trace(str(releases), [("photo", "abc")])


def test_a_run_knows_a_portrait_whose_release_is_gone(made, releases, tmp_path):
    run(tmp_path / "runs/one", "0" * 64, [10], [entry("0" * 64, ["f" * 32])])
    found = trace(str(releases), [("portrait", "f" * 10)], [tmp_path / "runs"])
    assert not found.releases and [one.portraits for one in found.runs] == [1]


def test_a_record_that_is_damaged_counts_as_none(made, releases, tmp_path):
    ids, (old, _) = made
    run(tmp_path / "runs/one", old, [10])
    for text in ("{", '{"data": [{"portraits": 3}]}', '{"data": 1}'):
        (tmp_path / "runs/one/seen.json").write_text(text)
        found = trace(str(releases), [("portrait", ids[0])], [tmp_path / "runs"])
        assert [(one.portraits, len(one.checkpoints)) for one in found.runs] == [(0, 1)]


def test_the_commands_say_it(made, releases, tmp_path):
    ids, (old, _) = made
    run(tmp_path / "runs/one", old, [10], [entry(old, ids[:2])])
    told = phq_here(
        "release", "trace", "-r", str(releases), "--portrait", ids[0], "--runs", str(tmp_path / "runs")
    )
    assert "release 1.0.0: 1 portrait," in told.stdout and "saw 1 portrait of release 1.0.0" in told.stdout
    assert told.stdout.rstrip().endswith("checkpoints/kimg-000010")
    assert "not looked for" in phq_here("release", "trace", "-r", str(releases), "--author", "Ada").stdout
    down = phq_here(
        "release", "takedown", "-r", str(releases), "--id", ids[1], "--runs", str(tmp_path / "runs")
    )
    assert down.returncode == 0 and "saw 1 portrait of release 1.0.0" in down.stdout
    down = phq_here(
        "release", "takedown", "-r", str(releases), "--id", ids[3], "--runs", str(tmp_path / "runs")
    )
    assert "no run there saw them" in down.stdout
    assert "--runs FOLDER" in phq_here("release", "takedown", "-r", str(releases), "--id", ids[2]).stdout
    assert phq_here("release", "trace", "-r", str(releases)).returncode == 2
