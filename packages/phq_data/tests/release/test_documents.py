import csv
import json
import re

import numpy as np
import pytest

from phq_data import schema
from phq_data.images.codecs import decode_struct
from phq_data.release import croissant, reader
from phq_data.release.build import build
from phq_data.release.rights import Permission

from .conftest import DAY, options


@pytest.fixture
def made(maker, releases):
    maker.add(
        *(maker.photo() for _ in range(5)),
        maker.photo(license="CC0-1.0", author='=HYPERLINK("x")'),
        maker.photo(license="CC-BY-SA-3.0", time="2025:01:02 03:04:05"),
    )
    build(
        maker.workspace,
        releases,
        "1.0.0",
        options(name="test-portraits", creator="Rosa & Sam", shard_bytes=9000),
    )
    return releases / "1.0.0"


def front_matter(text):
    _, front, _ = text.split("---\n", 2)
    return {k: json.loads(v) for k, v in (line.split(": ", 1) for line in front.strip().splitlines())}


def test_the_card_names_every_split_file_and_an_honest_license(made):
    front = front_matter((made / "README.md").read_text())
    assert front["license"] == "other" and front["license_link"] == "LICENSES.md"
    files = front["configs"][0]["data_files"]
    assert {f["split"] for f in files} == set(reader.open(made).splits)
    assert front["size_categories"] == ["n<1K"]
    assert "Not reviewed by people" in (made / "README.md").read_text()


@pytest.mark.parametrize(
    ("licenses", "name"),
    [
        (["CC0-1.0"], "cc0-1.0"),
        (["CC-BY-4.0", "CC0-1.0"], "cc-by-4.0"),
        (["CC-BY-SA-4.0"], "cc-by-sa-4.0"),
        (["CC-BY-SA-4.0", "CC-BY-4.0"], "other"),
    ],
)
def test_the_license_of_the_whole_is_named_only_if_it_covers_every_row(maker, releases, licenses, name):
    maker.add(*(maker.photo(license=license) for license in licenses))
    build(maker.workspace, releases, "1.0.0", options())
    assert front_matter((releases / "1.0.0/README.md").read_text())["license"] == name


def test_every_portrait_is_attributed_and_no_name_becomes_a_formula(made):
    rows = list(csv.DictReader((made / "attribution.csv").open(encoding="utf-8")))
    assert {row["portrait_id"] for row in rows} == set(reader.open(made).index["portrait_id"].to_pylist())
    assert all(row["author"] and row["license"] and row["changes"] for row in rows)
    assert not any(value.startswith("=") for row in rows for value in row.values())


def test_attribution_points_at_the_file_and_the_license_where_nothing_else_was_stated(maker, releases):
    spec = maker.photo(license="CC-BY-4.0", author="Bo")
    spec.update(page_url=None, title=None, license_url=None, file_url="https://h.example.org/7.jpg")
    ids = maker.add(spec)
    build(maker.workspace, releases, "1.0.0", options())
    (row,) = csv.DictReader((releases / "1.0.0/attribution.csv").open(encoding="utf-8"))
    assert (row["portrait_id"], row["page_url"]) == (ids[0], "https://h.example.org/7.jpg")
    assert row["license_url"] == "https://creativecommons.org/licenses/by/4.0/"


def test_the_license_table_counts_every_row(made):
    text = (made / "LICENSES.md").read_text()
    assert "| CC-BY-4.0 | 5 | https://creativecommons.org/licenses/by/4.0/ |" in text
    assert "| CC-BY-SA-3.0 | 1 |" in text and "| CC0-1.0 | 1 |" in text


def test_croissant_has_what_the_specification_demands_and_names_every_file_with_its_checksum(made):
    document = json.loads((made / "croissant.json").read_text())
    assert set(croissant.REQUIRED) <= set(document)
    manifest = reader.open(made).manifest
    files = {f["@id"]: f["sha256"] for f in document["distribution"] if f["@type"] == "cr:FileObject"}
    known = {e.path: e.sha256 for e in manifest.entries}
    assert files == {path: known[path] for path in known if path != "croissant.json"}
    (portraits,) = (r for r in document["recordSet"] if r["@id"] == "portraits")
    assert [f["name"] for f in portraits["field"]] == schema.RELEASE.names
    assert document["rai:dataCollectionTimeFrame"] == ["2025-01-02", "2025-01-02"]
    assert "NOT reviewed" in document["rai:dataAnnotationProtocol"]


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # inside of rdflib
def test_mlcroissant_accepts_the_description_and_loads_the_rows(made):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(made / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert dataset.metadata.data_biases and dataset.metadata.personal_sensitive_information
    records = list(dataset.records("portraits"))
    release = {row["portrait_id"]: row for row in reader.open(made).all().stream()}
    assert len(records) == len(release)
    for record in records:
        row = release[record["portraits/portrait_id"].decode()]
        assert list(record["portraits/camera"]) == row["camera"]
        assert record["portraits/image"].size == (16, 16)


def test_datasets_shows_pictures(made, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(made / "data/train-*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "hf"),
    )
    row, mine = loaded[0], reader.open(made).split("train")[0]
    assert row["image"].size == (16, 16) and row["mask"].mode == "L"
    assert row["camera"] == mine["camera"] and row["portrait_id"] == mine["portrait_id"]


def test_datasets_streams_a_release_by_its_folder(made, monkeypatch, tmp_path):
    """The card's front matter names the shards of every split; nothing is copied to a cache first."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    streamed = datasets.load_dataset(str(made), streaming=True, cache_dir=str(tmp_path / "hf"))
    release = reader.open(made)
    assert set(streamed) == set(release.splits)
    for split, rows in streamed.items():
        mine = list(release.split(split).stream())
        for row, own in zip(rows, mine, strict=True):
            assert row["portrait_id"] == own["portrait_id"] and row["pose"] == own["pose"]
            assert np.array_equal(np.asarray(row["image"]), decode_struct(own["image"]))
    some = streamed["train"].select_columns(["portrait_id"]).shuffle(seed=1, buffer_size=4).take(2)
    assert all(set(row) == {"portrait_id"} for row in some)
    assert not list((tmp_path / "hf").rglob("*.arrow"))


def test_the_report_is_one_page_without_anything_from_elsewhere(made):
    text = (made / "report.html").read_text()
    assert text.count("<rect ") == len({round(0.7 * seed % 6.2832 // 0.17453) for seed in range(1, 8)})
    assert text.count("data:image/jpeg") == 7
    assert "http" not in text.replace("http-equiv", "")


def test_names_from_the_web_cannot_write_into_the_report(maker, releases):
    maker.add(maker.photo(provider="wikimedia", license="CC-BY-4.0"))
    build(maker.workspace, releases, "1.0.0", options(name="<script>alert(1)</script>"))
    assert "<script>" not in (releases / "1.0.0/report.html").read_text()


EVIL = "<script>x</script> | [a](javascript:b) `c` ＝1;=2"


def test_names_from_outside_stand_in_the_documents_as_text(maker, releases):
    maker.add(maker.photo(author=EVIL), maker.photo(provider=EVIL, license=None))
    given = Permission(EVIL, ("train",), DAY, "```\nx", provider=EVIL)
    build(maker.workspace, releases, "1.0.0", options(name=EVIL, creator=EVIL, permissions=(given,)))
    folder = releases / "1.0.0"
    for name in ("README.md", "DATASHEET.md", "LICENSES.md", "CHANGELOG.md"):
        shown = re.sub(r"^---\n.*?^---\n", "", (folder / name).read_text(), flags=re.DOTALL | re.MULTILINE)
        prose = re.sub(r"^```json\n.*?^```$", "", shown, flags=re.DOTALL | re.MULTILINE)
        assert "<script>" not in prose and "[a](" not in prose, name
        assert not re.search(r"(?<!\\)`c`", prose), name
    rows = list(csv.DictReader((folder / "attribution.csv").open(encoding="utf-8")))
    assert "<script>x</script> | [a](javascript:b) `c` ＝1;'=2" in {row["author"] for row in rows}


def test_models_that_do_not_come_with_phq_are_named_with_their_licenses(maker, releases):
    """What `phq models add pose` was told goes with every release that is made with it."""
    terms = {"movenet:1": {"title": "Net", "license": "CC-BY-NC-4.0", "source": "https://example.org/net"}}
    maker.workspace.write_bytes("models.json", json.dumps(terms).encode())
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    assert json.loads((releases / "1.0.0/manifest.json").read_text())["about"]["model_terms"] == terms
    sheet = (releases / "1.0.0/DATASHEET.md").read_text().replace("\\", "")
    assert "detector: movenet:1 (Net, license CC-BY-NC-4.0, https://example.org/net)" in sheet
