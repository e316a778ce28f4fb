"""`phq rights init`: what is stated early counts in a release."""

import json

import pytest
from programs import phq_here

from phq_data.release.rights import explain, refusal
from phq_data.sources import SourceError
from phq_data.sources.folder import FolderSource
from phq_data.sources.rights import unstated

SAID = ("--owner", "Ada Example", "--consent", "yes", "--reference", "releases of 2026-03-01")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "my photos"
    place.mkdir()
    (place / "one.jpg").write_bytes(b"1")
    return place


def row(folder):
    return vars(next(iter(FolderSource(folder).files())).provenance) | {"provider": "folder"}


def test_what_is_stated_lets_a_release_train(folder):
    assert unstated(folder) and "nothing is known" in refusal(row(folder), "train")
    done = phq_here("rights", "init", str(folder), *SAID)
    assert done.returncode == 0, done.stderr
    assert not unstated(folder) and refusal(row(folder), "train") == ""
    assert refusal(row(folder), "publish-images") != ""  # only what was allowed
    assert row(folder)["author"] == "Ada Example"
    assert row(folder)["consent"] == "yes"


def test_some_of_the_people_may_answer_otherwise(folder):
    (folder / "party").mkdir()
    (folder / "party" / "two.jpg").write_bytes(b"2")
    done = phq_here("rights", "init", str(folder), *SAID, "--consent-of", "party/*=no")
    assert done.returncode == 0, done.stderr
    assert "enter no release" in done.stdout
    one, two = (vars(f.provenance) | {"provider": "folder"} for f in FolderSource(folder).files())
    assert (one["consent"], two["consent"]) == ("yes", "no")
    assert refusal(one, "train") == "" and "do not agree" in refusal(two, "train")
    assert "do not agree" in refusal(two | {"license": "CC0-1.0"}, "publish-ids")


def test_a_free_license_needs_no_permission(folder):
    done = phq_here("rights", "init", str(folder), *SAID, "--license", "cc by 4.0")
    assert done.returncode == 0, done.stderr
    assert row(folder)["license"] == "CC-BY-4.0" and row(folder)["permission"] is None
    assert refusal(row(folder), "publish-images") == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "--owner NAME --consent yes --reference TEXT"),
        (SAID[2:], "--owner NAME"),
        (SAID[:2] + SAID[4:], "--consent yes"),
        (("--owner", "A", "--consent", "maybe", "--reference", "r"), "yes, no, unknown"),
        ((*SAID, "--consent-of", "party/*=perhaps"), "yes, no, unknown"),
        ((*SAID, "--consent-of", "party/*"), "FILES=ANSWER"),
        ((*SAID, "--scope", "sell"), "--scope"),
        ((*SAID, "--license", "CC0-1.0", "--scope", "train"), "leave --scope out"),
    ],
)
def test_what_lacks_is_said_and_nothing_is_written(folder, arguments, words):
    done = phq_here("rights", "init", str(folder), *arguments)
    assert done.returncode == 2 and words in done.stderr
    assert unstated(folder)


def test_a_statement_is_never_overwritten(folder):
    (folder / "rights.json").write_text(json.dumps({"license": "CC0-1.0"}))
    done = phq_here("rights", "init", str(folder), *SAID)
    assert done.returncode == 2 and "already" in done.stderr and "rights.json" in done.stderr
    assert json.loads((folder / "rights.json").read_text()) == {"license": "CC0-1.0"}


def test_a_refused_release_names_the_command():
    reason = refusal({"provider": "folder"}, "train")
    assert "phq rights init FOLDER" in explain({reason: ["a" * 32]}, "train")
    assert "--only-permitted" in explain({reason: ["a" * 32]}, "train")


def test_the_command_names_the_folder_and_a_statement_that_is_there(folder):
    reason = refusal({"provider": "folder"}, "train")
    (folder / "stated").mkdir()
    (folder / "stated" / "rights.json").write_text('{"license": "CC-BY-NC-4.0"}')
    sources = [str(folder), str(folder / "stated"), str(folder / "one.jpg")]
    told = explain({reason: ["a" * 32]}, "train", sources)
    assert f"build again: phq rights init '{folder}'; edit {folder}/stated/rights.json\n" in told


def test_a_statement_with_another_word_for_consent_is_refused(folder):
    (folder / "rights.json").write_text(json.dumps({"consent": "maybe"}))
    with pytest.raises(SourceError, match="'consent' is one of yes, no, unknown"):
        list(FolderSource(folder).files())


def test_publishing_names_no_way_to_leave_photos_out():
    reason = refusal({"provider": "folder"}, "train")
    assert "--only-permitted" not in explain({reason: ["a" * 32]}, "publish-images")
