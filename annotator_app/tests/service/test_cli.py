"""The commands beside `phq review`."""

import csv
import json

import pytest
import typer
from typer.testing import CliRunner

from annotator_app import cli_data
from phq_data.compatibility import RenamedWarning
from phq_data.records import Correction
from phq_data.review import corrections, decisions
from phq_data.review.consensus import ReviewError
from phq_data.review.correcting import Corrector
from phq_data.review.corrections import NewCorrection
from phq_data.review.database import StoreError
from phq_data.review.store import NewDecision, Store
from phq_data.workspace import Workspace


@pytest.fixture
def phq(folder):
    group = typer.Typer()
    cli_data.add(group)

    def run(*words):
        done = CliRunner().invoke(group, [*map(str, words), "--workspace", str(folder)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return run


@pytest.fixture
def decided(folder, phq):
    phq("status")  # makes the store and the index
    place = Workspace.open(folder)
    store = Store.open(place)
    ids = place.table("portraits", ["portrait_id"])["portrait_id"].to_pylist()
    store.record(
        [NewDecision(f"D{i}", ids[i], "reject" if i % 3 else "accept", "blur" if i % 3 else "", seconds=2.0)
         for i in range(9)],
        "=rosa",
    )  # fmt: skip
    store.close()
    return ids


def test_a_log_moves_from_one_workspace_to_another(decided, folder, phq, tmp_path, made_workspace):
    assert "9 decisions in" in phq("export", tmp_path / "log.csv")
    with (tmp_path / "log.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 9
    for path in (folder / "review").glob("review.sqlite*"):
        path.unlink()
    assert "9 decisions in" in phq("import", tmp_path / "log.csv")
    assert "9 of them new" not in phq("import", tmp_path / "log.csv")
    votes = decisions.current(Workspace.open(folder))
    assert [votes[p].state for p in decided[:3]] == ["accepted", "rejected", "rejected"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_corrections_move_as_decisions_do(decided, folder, phq, tmp_path, ending):
    place = Workspace.open(folder)
    store = Store.open(place)
    corrector = Corrector(place, store)
    first, second = decided[:2]
    seen = corrector.seen([first, second])
    given = [
        NewCorrection("C1", "correct", first, seen[first].label, seconds=3.0),
        NewCorrection("C2", "correct", second, seen[second].label, seconds=3.0),
        NewCorrection("C3", "undo", second),
    ]
    assert corrections.record(store, given, "=rosa", seen).refused == ()
    store.close()
    file = tmp_path / f"log.{ending}"
    assert "3 corrections in" in phq("export", file, "--corrections")
    text = phq("status")
    assert (
        "labels corrected: 2, undone: 1, in force: 1, disputed: 0, waiting for the next phq build: 1" in text
    )
    assert json.loads(phq("status", "--json"))["corrections"]["by_reviewer"] == {"=rosa": 2}
    for path in [*(folder / "review").glob("review.sqlite*"), *(folder / "tables/corrections").glob("*")]:
        path.unlink()
    assert "3 corrections in" in phq("import", file)
    assert "0 of them new" in phq("import", file)
    assert [one.correction_id for one in place.records(Correction)] == ["C1", "C2", "C3"]


def test_the_status_for_people_and_for_programs(decided, phq):
    text = phq("status")
    assert "=rosa: 9 decisions" in text and "rejected for blur: 6" in text
    found = json.loads(phq("status", "--json"))
    assert found["reasons"] == {"blur": 6}
    assert sum(one["accepted"] for one in found["yaw_bins"].values()) == 3


def test_an_invitation_is_a_link_with_a_token_that_works(folder, phq):
    from phq_data.review import reviewers

    text = phq("invite", "Ada L.", "--role", "lead", "--url", "https://review.lab/")
    token = text.split("https://review.lab/login#token=")[1].split()[0]
    store = Store.open(Workspace.open(folder))
    assert reviewers.by_token(store, token).lead
    phq("dismiss", "Ada L.")
    assert reviewers.by_token(store, token) is None
    store.close()
    with pytest.raises(ReviewError, match=r"there is no reviewer called Bo; there is Ada L\."):
        phq("dismiss", "Bo")


def test_settings_are_shown_and_changed(phq):
    assert "overlap_share   0.08" in phq("policy")
    assert "overlap_share   0.25" in phq("policy", "--set", "overlap_share=0.25", "--set", "min_votes=2")
    assert "min_votes       2" in phq("policy")
    for wrong, message in (
        ("overlap_shares=1", r"no setting 'overlap_shares' \(did you mean overlap_share\?\)"),
        ("min_votes=two", "wants a number"),
        ("overlap_share=3", "0..1"),
    ):
        with pytest.raises(ReviewError, match=message):
            phq("policy", "--set", wrong)


def test_gold_items(decided, phq):
    assert "2 gold items with the verdict reject" in phq("gold", "reject", *decided[:2])
    assert "1 of 2 gold items correct" in phq("status")
    assert json.loads(phq("status", "--json"))["gold"][0]["false_accepts"] == 1
    with pytest.raises(ReviewError, match="1 of these portraits are not in the workspace"):
        phq("gold", "accept", decided[3], "f" * 32)
    with pytest.raises(ReviewError, match="accept, reject or none"):
        phq("gold", "maybe", decided[3])


def test_the_names_of_version_1_work_with_a_notice(decided, phq):
    with pytest.warns(RenamedWarning, match="phq review known is now phq review gold"):
        assert "1 gold items" in phq("known", "reject", decided[0])
    with pytest.warns(RenamedWarning, match="known_share is now gold_share"):
        assert "gold_share      0.2" in phq("policy", "--set", "known_share=0.2")


def test_a_database_that_cannot_be_used_is_a_sentence(phq):
    with pytest.raises(StoreError, match="SQLite or PostgreSQL"):
        phq("status", "--database", "mysql://x/y")
