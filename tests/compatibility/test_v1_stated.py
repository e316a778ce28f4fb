"""What people and web sources stated of photos in version 1: rights files, lists of addresses, the scrape."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from phq_data.compatibility import RenamedWarning
from phq_data.rig import PortraitRig
from phq_data.sources import SourceError
from phq_data.sources.rights import read_rights
from phq_data.sources.urls import UrlList
from phq_data.workspace import Workspace

MADE_BY = Path(__file__).parent / "v1" / "made_by"


def test_a_rights_file_is_read(tmp_path: Path) -> None:
    values = json.loads((MADE_BY / "more-rights.json").read_text())
    values["files"] = {"b.jpg": {"licence": "CC0", "licence_url": "https://example.org/terms"}}
    (tmp_path / "rights.json").write_text(json.dumps(values))
    with pytest.warns(RenamedWarning, match="licence is now license") as told:
        found = read_rights(tmp_path)
    assert len(told) == 2  # the file's own names, and those of a rule with another one
    assert found is not None
    assert found.base["license"] == "CC-BY-4.0"
    ((pattern, rule),) = found.rules
    assert (pattern, rule["license"], rule["license_url"]) == (
        "b.jpg",
        "CC0-1.0",
        "https://example.org/terms",
    )


def test_a_name_in_both_spellings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rights.json").write_text('{"licence": "CC0-1.0", "license": "CC-BY-4.0"}')
    with pytest.warns(RenamedWarning), pytest.raises(SourceError, match="there is no 'licence'"):
        read_rights(tmp_path)


def test_a_list_of_addresses_is_read() -> None:
    found = UrlList(MADE_BY / "urls.csv").search("", "").candidates
    assert [one.provenance.license for one in found] == ["CC0-1.0", None, "CC-BY-4.0"]
    assert [one.refusal for one in found] == ["", "license_unknown", ""]


def test_the_journal_knows_what_was_stated(v1: Path, tmp_path: Path) -> None:
    from phq_data.sources.web.journal import Journal

    shutil.copytree(v1 / "scraped", tmp_path / "scraped")
    path = tmp_path / "scraped" / "scrape" / "journal.sqlite"
    database = sqlite3.connect(path)  # as if the program had been killed before they were planned
    database.execute("update files set part = null")
    database.commit()
    (query,) = database.execute("select query from queries").fetchone()
    database.close()
    journal = Journal.open(Workspace.open(tmp_path / "scraped"))
    files = journal.unplanned("urls", [query], 0)
    journal.close()
    assert [file.candidate.provenance.license for file in files] == ["CC0-1.0", None, "CC-BY-4.0"]
    assert [file.reason for file in files] == ["", "license_unknown", "not_found"]
    assert files[1].candidate.refusal == "license_unknown"


def test_the_plan_knows_why_a_photo_was_refused(v1: Path, tmp_path: Path) -> None:
    shutil.copytree(v1 / "scraped", tmp_path / "scraped")
    workspace = Workspace.open(tmp_path / "scraped")
    reasons = workspace.table("plan", ["error"])["error"].to_pylist()
    assert sorted(filter(None, reasons)) == ["license_unknown", "not_found"]
    ledger = workspace.read_part("ledger/ingest", 0).to_pylist()
    refused = next(row for row in ledger if row["reason"] == "license_unknown")
    assert "licence" not in refused["evidence"]


def test_a_body_says_its_license(v1: Path) -> None:
    assert PortraitRig.load(v1 / "rig.safetensors").metadata["license"] == "CC0-1.0"
