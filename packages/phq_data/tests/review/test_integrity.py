"""Damage in the live store: found when the store is used, and mended by `phq workspace verify --repair`."""

import hashlib
import json
import random
from pathlib import Path

import pytest
import sqlalchemy as sa

from phq_data.errors import PhqError
from phq_data.pipeline.integrity import Fault
from phq_data.review import corrections, decisions, exchange, integrity, items, repair, reviewers
from phq_data.review.consensus import ReviewError
from phq_data.review.database import DamagedStoreError, Database
from phq_data.review.digests import digest_of, row_digest
from phq_data.review.records import CorrectionEntry
from phq_data.review.rules import Policy
from phq_data.review.store import Store
from phq_data.review.tables import DECISIONS, ITEMS, METADATA

from .conftest import fill, vote

OTHER = {
    "decision_id": "D9", "portrait_id": "f" * 32, "verdict": "reject", "reason": "blur", "note": "a note",
    "reviewer": "sam", "time": 5, "client_time": 5, "server_time": 5, "seconds": 9.5, "rules": "later",
    "client": "adjudication", "queue": "yaw",
}  # fmt: skip


def damage(store, statement, **values):
    """Change rows behind the back of the store, as a flipped bit would: the log's own lock is off."""
    with store.database.write() as connection:
        if store.database.embedded:
            triggers = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            ).all()
            off = [f"DROP TRIGGER {name}" for name, _ in triggers]
            on = [text for _, text in triggers]
        else:
            off, on = (
                [f"ALTER TABLE decisions {how} TRIGGER decisions_no_change"] for how in ("DISABLE", "ENABLE")
            )
        for text in off:
            connection.exec_driver_sql(text)
        connection.execute(sa.text(statement), values)
        for text in on:
            connection.exec_driver_sql(text)


@pytest.fixture
def voted(store):
    """A store with decisions of two reviewers on the first five portraits."""
    for portrait in store.ids[:5]:
        vote(store, "rosa", portrait)
        vote(store, "sam", portrait, "reject", reason="shoulders", seconds=1.5)
    return store


@pytest.fixture
def made(make_workspace, monkeypatch):
    """A workspace with a live store: three decisions in its table, then one more in the store alone."""
    monkeypatch.delenv("PHQ_REVIEW_DATABASE", raising=False)
    found = make_workspace(count=8, rejected=2)
    found.store = Store.open(found.workspace)
    items.sync(found.store, found.workspace)
    found.file = Path(found.workspace.path("review/review.sqlite"))
    found.ids = [row["portrait_id"] for row in found.portraits]
    for portrait in found.ids[:3]:
        vote(found.store, "rosa", portrait, "reject", reason="blur")
    decisions.synchronise(found.workspace, found.store)
    vote(found.store, "sam", found.ids[3])
    yield found
    found.store.close()


def kinds(workspace):
    return [(one.kind, one.where.rpartition(" ")[2]) for one in repair.faults(workspace)]


def test_the_digest_is_the_sha256_of_canonical_json():
    text = '["t",{"a":1.5,"b":null,"c":"\\u00e9"}]'
    assert digest_of("t", {"c": "é", "b": None, "a": 1.5}) == hashlib.sha256(text.encode()).hexdigest()


def test_the_log_is_read_as_it_was_written(voted):
    assert len(list(voted.entries())) == 10
    assert integrity.check(voted) == []
    assert set(OTHER) == set(DECISIONS.columns.keys()) - {"seq", "digest"}


@pytest.mark.parametrize("column", OTHER)
def test_any_changed_field_of_a_decision_is_refused(voted, column, tmp_path):
    damage(voted, f"UPDATE decisions SET {column} = :value WHERE seq = 3", value=OTHER[column])
    with pytest.raises(
        DamagedStoreError, match=r"1 decisions are not what was saved.*verify --repair"
    ) as caught:
        list(voted.entries())
    assert voted.ids[1][:12] in str(caught.value) or column == "portrait_id"  # which one
    with pytest.raises(PhqError, match="not what was saved"):
        exchange.export(voted, tmp_path / "log.csv")
    assert not (tmp_path / "log.csv").exists()
    with pytest.raises(PhqError, match="not what was saved"):
        next(voted.entries(after=2))
    assert [one.table for one in integrity.check(voted)] == ["decisions"]


def test_a_changed_correction_is_refused_restored_or_named(made):
    def correct(number):
        label = json.dumps({"camera": [0.5] * 25, "pose": [0.0] * 6, "window": [0.0, 0.0, float(number)]})
        return CorrectionEntry(
            f"C{number}", "correct", made.ids[number], "f" * 64, f"p{number}", label, label, None, None,
            "rosa", 10 + number, 10, 10, 1.0, "page",
        )  # fmt: skip

    corrections.merge(made.store, [correct(1), correct(2)])
    corrections.synchronise(made.workspace, made.store)
    corrections.merge(made.store, [correct(3)])
    assert repair.faults(made.workspace) == []
    for number, column in ((1, "to_label"), (3, "reviewer")):
        damage(made.store, f"UPDATE corrections SET {column} = 'x' WHERE seq = {number}")
    with pytest.raises(DamagedStoreError, match="in its table corrections is not what was written"):
        list(corrections.entries(made.store))
    assert kinds(made.workspace) == [("review", "corrections")]
    made.store.close()
    done = repair.repair(made.workspace)
    assert "1 corrections came back from tables/corrections" in done
    assert ["C3" in line for line in done if line.startswith("lost")] == [True]
    assert repair.faults(made.workspace) == []
    made.store = Store.open(made.workspace)
    assert {one.correction_id for one in corrections.entries(made.store)} == {"C1", "C2"}
    assert len(list(made.store.entries())) == 4


def test_a_decision_that_is_gone_is_missed(tmp_path):
    for gone in (1, 3, 5):
        store = fill(Store(Database.open(tmp_path / f"{gone}.sqlite")), 5)
        for portrait in store.ids:
            vote(store, "rosa", portrait)
        damage(store, f"DELETE FROM decisions WHERE seq = {gone}")
        with pytest.raises(DamagedStoreError, match="1 decisions are gone"):
            list(store.entries())
        store.close()


DERIVED = (
    "UPDATE standings SET verdict = 'flag' WHERE reviewer = 'sam'",
    "DELETE FROM standings WHERE reviewer = 'sam'",
    "UPDATE standings SET decision_id = 'D9' WHERE reviewer = 'sam'",
    "UPDATE items SET votes = 0",
    "UPDATE items SET state = 'accepted'",
    "UPDATE items SET required = 9",
    "UPDATE items SET open = 1 - open",
)


def test_what_is_derived_from_the_log_is_made_anew(made, caplog):
    made.store.set_policy(Policy(overlap_share=0.5))
    before = everything(made.store)
    for statement in DERIVED:
        damage(made.store, statement)
        assert everything(made.store) != before
        assert kinds(made.workspace), statement
        caplog.clear()
        integrity.ensure(made.store, made.workspace)
        assert "was damaged; made anew" in caplog.text
        assert everything(made.store) == before, statement


def test_damaged_items_are_read_from_the_workspace_again(made):
    right = everything(made.store)
    for column in ITEMS.columns:
        value = "'x'" if isinstance(column.type, sa.String) else "7"
        damage(
            made.store, f"UPDATE items SET {column.name} = {value} WHERE portrait_id = :id", id=made.ids[1]
        )
        found = integrity.check(made.store)
        assert found and all(one.derived for one in found), column.name
        integrity.ensure(made.store, made.workspace)
        assert integrity.check(made.store) == []
        assert everything(made.store) == right, column.name


def test_damaged_items_stay_gold_items(made):
    items.set_gold(made.store, {made.ids[0]: "accept", made.ids[1]: "reject"})
    right = everything(made.store)
    damage(made.store, "UPDATE items SET facts = 'x' WHERE portrait_id = :id", id=made.ids[1])
    integrity.ensure(made.store, made.workspace)
    assert everything(made.store) == right


def test_damaged_settings_and_reviewers_are_not_gone_by(voted):
    voted.set_policy(Policy(min_votes=2))
    reviewers.invite(voted, "rosa")
    cookie = reviewers.login(voted, "rosa")
    assert reviewers.by_cookie(voted, cookie).name == "rosa"
    damage(voted, "UPDATE sessions SET expires = expires + 1")
    assert reviewers.by_cookie(voted, cookie) is None
    reviewers.disable(voted, "rosa")
    assert reviewers.by_name(voted, "rosa").disabled
    damage(voted, "UPDATE reviewers SET disabled = 0")
    for use in (lambda: reviewers.by_name(voted, "rosa"), lambda: reviewers.everybody(voted)):
        with pytest.raises(DamagedStoreError, match="'rosa' in its table reviewers"):
            use()
    damage(voted, "UPDATE settings SET value = '1' WHERE name = 'min_votes'")
    with pytest.raises(DamagedStoreError, match="'min_votes' in its table settings"):
        voted.policy()
    assert {one.table for one in integrity.check(voted)} == {"settings", "reviewers"}


def test_a_release_refuses_a_damaged_log_and_repair_brings_it_back(made):
    before = decisions.current(made.workspace)
    damage(made.store, "UPDATE decisions SET verdict = 'accept' WHERE seq = 2")
    made.store.close()
    with pytest.raises(DamagedStoreError, match="1 decisions are not what was saved"):
        decisions.current(made.workspace)
    assert kinds(made.workspace) == [("review", "decisions")]
    done = repair.repair(made.workspace)
    assert any("written anew with 3 decisions" in line for line in done)
    assert "1 decisions came back from tables/decisions" in done
    assert not any(line.startswith("lost") for line in done)
    assert repair.faults(made.workspace) == [] and repair.repair(made.workspace) == []
    assert decisions.current(made.workspace) == before
    kept = made.file.with_name("review.sqlite.damaged-1")
    assert kept.exists()


def test_a_damaged_decision_that_was_never_copied_is_named(made):
    damage(made.store, "UPDATE decisions SET verdict = 'reject' WHERE seq = 4")
    damage(made.store, "UPDATE decisions SET decision_id = 'X' WHERE seq = 1")
    made.store.close()
    lost = [line for line in repair.repair(made.workspace) if line.startswith("lost")]
    assert len(lost) == 1 and made.ids[3][:12] in lost[0] and "sam" in lost[0]
    assert set(decisions.current(made.workspace)) == set(made.ids[:3])


def test_other_words_in_the_table_and_in_the_store_are_told(made):
    damage(made.store, "UPDATE decisions SET verdict = 'accept' WHERE seq = 1")
    with made.store.database.read() as connection:
        row = connection.execute(sa.select(DECISIONS).where(DECISIONS.c.seq == 1)).mappings().one()
    # The damage came before there were digests: the migration sealed it.
    damage(
        made.store, "UPDATE decisions SET digest = :digest WHERE seq = 1", digest=row_digest(DECISIONS, row)
    )
    assert len(list(made.store.entries())) == 4
    with pytest.raises(ReviewError, match="say something else in the workspace's tables/decisions"):
        decisions.current(made.workspace)
    assert kinds(made.workspace) == [("review", "decisions")]
    made.store.close()
    repair.repair(made.workspace)
    assert decisions.current(made.workspace)[made.ids[0]].state == "rejected"


def test_repair_takes_settings_reviewers_and_gold_items_along(made):
    made.store.set_policy(Policy(min_votes=2))
    reviewers.invite(made.store, "rosa", "lead")
    items.set_gold(made.store, {made.ids[4]: "reject"})
    damage(made.store, "UPDATE decisions SET verdict = 'accept' WHERE seq = 2")
    made.store.close()
    repair.repair(made.workspace)
    made.store = Store.open(made.workspace)
    assert made.store.policy() == Policy(min_votes=2)
    assert [(one.name, one.role) for one in reviewers.everybody(made.store)] == [("rosa", "lead")]
    with made.store.database.read() as connection:
        statement = sa.select(ITEMS.c.portrait_id).where(ITEMS.c.gold == "reject")
        assert connection.scalars(statement).all() == [made.ids[4]]


def test_decisions_of_the_table_that_the_database_lacks_are_told_and_taken_over(made):
    made.store.close()
    made.file.write_bytes(b"")  # as a full disk leaves it
    (fault,) = repair.faults(made.workspace)
    assert isinstance(fault, Fault) and "3 of tables/decisions are not there" in fault.problem
    repair.repair(made.workspace)
    assert repair.faults(made.workspace) == []


def test_repair_clears_a_database_on_a_server(pg_url, make_workspace, monkeypatch):
    monkeypatch.setenv("PHQ_REVIEW_DATABASE", pg_url)
    found = make_workspace(count=8, rejected=2)
    store = Store.open(found.workspace)
    items.sync(store, found.workspace)
    ids = [row["portrait_id"] for row in found.portraits]
    vote(store, "rosa", ids[0], "reject")
    decisions.synchronise(found.workspace, store)
    vote(store, "rosa", ids[1])
    for number in (1, 2):
        damage(store, f"UPDATE decisions SET verdict = 'flag' WHERE seq = {number}")
    with pytest.raises(DamagedStoreError):
        decisions.current(found.workspace)
    lost = [line for line in repair.repair(found.workspace) if line.startswith("lost")]
    assert len(lost) == 1 and ids[1][:12] in lost[0]
    assert {name: one.state for name, one in decisions.current(found.workspace).items()} == {
        ids[0]: "rejected"
    }
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), store.database.write() as connection:
        connection.execute(sa.text("DELETE FROM decisions"))
    store.close()


def everything(store):
    """Every row of the store by table, but logins, leases and digests of parts."""
    found = {}
    with store.database.read() as connection:
        for table in METADATA.sorted_tables:
            if table.name not in ("sessions", "leases", "parts"):
                found[table.name] = sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
    return found


def test_no_flipped_bit_of_the_file_is_silent(made, tmp_path):
    made.store.set_policy(Policy(min_votes=1, overlap_share=0.3))
    reviewers.invite(made.store, "rosa", "lead")
    items.set_gold(made.store, {made.ids[4]: "reject"})
    right = everything(made.store)
    made.store.close()
    file = made.file
    whole = file.read_bytes()
    draw = random.Random(7)
    found = {"noticed": 0, "mended": 0, "harmless": 0}
    # Most of a small file is empty.
    used = [place for place, byte in enumerate(whole) if byte]
    for number in range(120):
        place = draw.choice(used)
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        for one in file.parent.glob("review.sqlite*"):
            one.unlink()
        file.write_bytes(changed)
        try:
            noticed = bool(repair.faults(made.workspace))
        except PhqError:
            noticed = True
        if noticed:
            found["noticed"] += 1
            if number % 8 == 0:
                repair.repair(made.workspace)
                assert repair.faults(made.workspace) == []
                found["mended"] += 1
            continue
        store = Store.open(made.workspace)
        assert everything(store) == right, f"byte {place}"
        store.close()
        found["harmless"] += 1
    assert found["noticed"] > 60 and found["mended"] > 5, found


def test_the_database_of_another_workspace_is_refused_and_put_aside(made, make_workspace, tmp_path):
    other = make_workspace(tmp_path / "other", count=3)
    store = Store.open(other.workspace)
    items.sync(store, other.workspace)
    vote(store, "eve", other.portraits[0]["portrait_id"], "reject", reason="blur")
    store.close()
    made.store.close()
    for ending in ("", "-wal", "-shm"):
        file = made.file.with_name(made.file.name + ending)
        file.unlink(missing_ok=True)
        theirs = Path(other.workspace.path("review/review.sqlite")).with_name(file.name)
        if theirs.exists():
            file.write_bytes(theirs.read_bytes())
    with pytest.raises(DamagedStoreError, match="database of another workspace"):
        decisions.current(made.workspace)
    assert "another workspace" in repair.faults(made.workspace)[0].problem
    repair.repair(made.workspace)
    assert repair.faults(made.workspace) == []
    assert set(decisions.current(made.workspace)) == set(made.ids[:3])  # what the tables have, and no more
    assert made.file.with_name("review.sqlite.damaged-1").exists()
    Store.open(other.workspace).close()  # theirs is as it was


def test_corrections_that_are_gone_are_missed(made):
    label = json.dumps({"camera": [0.5] * 25, "pose": [0.0] * 6, "window": [0.0, 0.0, 1.0]})
    one, two = (
        CorrectionEntry(
            f"C{n}", "correct", made.ids[n], "f" * 64, f"p{n}", label, label, None, None,
            "rosa", 10 + n, 10, 10, 1.0, "page",
        )
        for n in (1, 2)
    )  # fmt: skip
    corrections.merge(made.store, [one, two])
    corrections.synchronise(made.workspace, made.store)
    damage(made.store, "DELETE FROM corrections WHERE seq = 2")
    assert ("review", "corrections") in kinds(made.workspace)
    assert any("came back from tables/corrections" in line for line in repair.repair(made.workspace))
    assert repair.faults(made.workspace) == []
    store = Store.open(made.workspace)
    assert {entry.correction_id for entry in corrections.entries(store)} == {"C1", "C2"}
    store.close()
