import random
from datetime import UTC, datetime, timedelta

import pytest

from phq_data.records import Decision
from phq_data.review import decisions
from phq_data.review.consensus import ConsensusRule, ReviewError, consensus, standing
from phq_data.workspace import Workspace

START = datetime(2026, 11, 20, tzinfo=UTC)


def log(*events):
    """Decisions of (reviewer, verdict) on portrait p, a second apart."""
    return [
        Decision(
            decision_id=f"{i:026d}", portrait_id="p", verdict=verdict, reason="", reviewer=reviewer,
            time=START + timedelta(seconds=i), seconds=1.0, client="",
        )
        for i, (reviewer, verdict) in enumerate(events)
    ]  # fmt: skip


def verdicts(decisions):
    found = standing(decisions)
    return {
        portrait: {reviewer: one.verdict for reviewer, one in of.items()} for portrait, of in found.items()
    }


def state(*events, **rule):
    found = consensus(log(*events), ConsensusRule(**rule))
    return found["p"].state if "p" in found else "undecided"


def test_the_last_decision_of_a_reviewer_stands():
    assert state(("rosa", "reject"), ("rosa", "accept")) == "accepted"
    assert state(("rosa", "accept"), ("rosa", "reject")) == "rejected"


def test_every_undo_takes_back_one_decision_of_the_same_reviewer():
    assert state(("rosa", "reject"), ("rosa", "accept"), ("rosa", "undo")) == "rejected"
    assert state(("rosa", "accept"), ("rosa", "undo"), ("rosa", "undo")) == "undecided"
    assert state(("rosa", "accept"), ("sam", "undo")) == "accepted"
    assert state(("rosa", "undo"), ("rosa", "accept")) == "accepted"


def test_ties_and_flags_are_disputed():
    assert state(("rosa", "accept"), ("sam", "reject")) == "disputed"
    assert state(("rosa", "accept"), ("sam", "accept"), ("kim", "flag")) == "disputed"
    assert state(("rosa", "accept"), ("sam", "reject"), ("kim", "accept")) == "accepted"


def test_the_rule_asks_for_votes_and_a_share():
    assert state(("rosa", "accept"), min_votes=2) == "undecided"
    assert state(("rosa", "accept"), ("sam", "accept"), min_votes=2) == "accepted"
    two_to_one = (("rosa", "accept"), ("sam", "accept"), ("kim", "reject"))
    assert state(*two_to_one, min_share=0.6) == "accepted"
    assert state(*two_to_one, min_share=0.7) == "disputed"
    for wrong in ({"min_votes": 0}, {"min_share": 0.4}, {"min_share": 1.0}):
        with pytest.raises(ReviewError):
            ConsensusRule(**wrong)


def test_the_order_of_the_log_and_doubled_rows_do_not_matter():
    rows = log(("rosa", "reject"), ("sam", "accept"), ("rosa", "undo"), ("rosa", "accept"), ("kim", "reject"))
    shuffled = rows + rows[:3]
    random.Random(1).shuffle(shuffled)
    assert verdicts(shuffled) == verdicts(rows) == {"p": {"rosa": "accept", "sam": "accept", "kim": "reject"}}


def test_an_unknown_verdict_is_named():
    with pytest.raises(ReviewError, match="'maybe'"):
        consensus(log(("rosa", "maybe")))


def test_decisions_are_appended_once_and_never_rewritten(tmp_path):
    workspace = Workspace.open(tmp_path / "ws", create=True)
    first = log(("rosa", "accept"))
    assert decisions.append(workspace, first) == 1
    before = (tmp_path / "ws/tables/decisions/part-00000.parquet").read_bytes()
    second = log(("rosa", "accept"), ("sam", "reject"))[1]
    assert decisions.append(workspace, [*first, second, second]) == 1
    assert (tmp_path / "ws/tables/decisions/part-00000.parquet").read_bytes() == before
    assert decisions.current(workspace)["p"].state == "disputed"
    assert decisions.append(workspace, [second]) == 0
    assert workspace.parts("tables/decisions") == [0, 1]


def test_ids_sort_by_time():
    ids = [decisions.ulid(1_700_000_000_000 + i) for i in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50 and {len(i) for i in ids} == {26}


def test_a_decision_must_be_one_of_the_four(tmp_path):
    with pytest.raises(ReviewError, match="there is no verdict 'yes'"):
        decisions.append(Workspace.open(tmp_path / "ws", create=True), log(("rosa", "yes")))
