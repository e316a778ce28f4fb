"""The screen for minors in a release: who is left out, whatever reviewers say, and what its documents say."""

from __future__ import annotations

import json

from phq_data.release import reader
from phq_data.release.build import build

from .conftest import options

ADULT = {"age_screen": "adult"}
UNSURE = {"age_screen": "unsure", "kept": False, "reasons": ["maybe_minor"]}
UNSEEN = {"age_screen": "unsure", "kept": False, "reasons": ["age_unseen", "uncertain"]}
MINOR = {"age_screen": "minor", "kept": False, "reasons": ["minor"]}


def documents(folder):
    """Card and datasheet as plain text."""
    read = ((folder / name).read_text().replace("\\", "") for name in ("README.md", "DATASHEET.md"))
    return tuple(" ".join(text.split()) for text in read)


def test_where_no_screen_was_run_the_documents_say_so(maker, releases):
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    for text in documents(releases / "1.0.0"):
        assert "no screen for minors was run, and no model estimated anybody's age" in text
    assert reader.open(releases / "1.0.0").all()[0]["age_screen"] is None


def test_minors_stay_out_whatever_reviewers_say_and_unsure_ones_wait_for_them(maker, releases):
    adult, asked, refused, rear, minor, _ = maker.add(
        *(maker.photo(**one) for one in (ADULT, UNSURE, UNSURE, UNSEEN, MINOR, UNSURE))
    )
    maker.decide({asked: "accept", refused: "reject", rear: "accept", minor: "accept", adult: "accept"})
    for unreviewed in (False, True):
        folder = releases / str(unreviewed)
        made = build(maker.workspace, folder, "1.0.0", options(unreviewed=unreviewed))
        assert made.left_out == {"minor": 1, "review_rejected": 1, "age_undecided": 1}
        rows = reader.open(folder / "1.0.0").all().metadata(["portrait_id", "age_screen"])
        there = {row["portrait_id"]: row["age_screen"] for row in rows.to_pylist()}
        assert there == {adult: "adult", asked: "unsure", rear: "unsure"}


def test_the_documents_count_the_outcomes_and_name_the_network(maker, releases):
    terms = {"age-0123": {"title": "Ages", "license": "MIT", "source": ""}}
    maker.workspace.write_bytes("models.json", json.dumps(terms).encode())
    config = {"screen": {"minor_below": 16.0, "adult_from": 25.0, "age_unseen": "review"}}
    maker.workspace.write_bytes("config.json", json.dumps(config).encode())
    _, asked, _, _ = maker.add(
        maker.photo(**ADULT), maker.photo(**UNSURE), maker.photo(**MINOR), maker.photo()
    )
    maker.decide({asked: "accept"})
    build(maker.workspace, releases, "1.0.0", options())
    said = (
        "1 show people whom it took for adults (from 25 years on); of 1 it was not sure: a person accepted "
        "them; 1 were not screened. Whom it took for minors (below 16 years) was left out."
    )
    card, sheet = documents(releases / "1.0.0")
    assert said in card and said in sheet
    assert "- minor: 1" in sheet and "screen for minors: age-0123 (Ages, license MIT)" in sheet
    about = json.loads((releases / "1.0.0/manifest.json").read_text())["about"]
    assert about["counts"]["age_screen"] == {"adult": 1, "unsure": 1}
