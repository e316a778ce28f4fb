"""Which corrections hold, what a build takes of them, and that only the parts concerned are made anew."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from phq_data import camera, config, records
from phq_data.foreign import parse_json
from phq_data.pipeline import corrections, engine, whole
from phq_data.pipeline.corrections import ADJUDICATION, applied, settled, take
from phq_data.pipeline.local import run_inline
from phq_data.records import Correction
from phq_data.workspace import WorkspaceError

from .toy_stages import write_plan

CONFIG = config.default()
START = datetime(2026, 1, 1, tzinfo=UTC)


def correction(number, degrees=0.0, kind="correct", *, who="ann", person="p", photo="0" * 64, **more):
    """One of the log, by the minute."""
    cam2world = camera.from_angles(np.radians(degrees), 0.1)
    label = np.concatenate([cam2world.ravel(), camera.INTRINSICS.ravel()])
    corrected = {"to_camera": label, "to_pose": np.zeros(6), "to_window": np.array([10.0, 20.0, 300.0])}
    return Correction(
        correction_id=f"C{number:03d}", kind=kind, portrait_id="a" * 32, photo_id=photo, person_id=person,
        from_camera=label, from_pose=np.zeros(6), from_window=np.zeros(3), reviewer=who,
        time=START + timedelta(minutes=number), seconds=1.0,
        **{"client": "page", **(corrected if kind == "correct" else {}), **more},
    )  # fmt: skip


def held(*log):
    """(state, correction that holds) of person p; None where nothing stands."""
    found = settled(log).get("p")
    return None if found is None else (found.state, found.correction and found.correction.correction_id)


def test_the_last_correction_that_was_not_taken_back_holds():
    one, two, three = (correction(number, 20.0 * number) for number in range(3))
    assert held(three, one, two, one) == ("holds", "C002")  # in any order, given twice
    undo = correction(5, kind="undo", undoes="C002")
    assert held(one, two, three, undo) == ("holds", "C001")
    assert held(one, two, three, undo, correction(6, kind="undo", undoes="C000")) == ("holds", "C001")
    assert held(one, correction(4, kind="undo")) is None
    assert held(one, correction(4, kind="undo", who="bo")) == ("holds", "C000")  # nobody else's


def test_two_who_agree_have_the_later_one_and_two_who_do_not_have_none():
    ann = correction(0, 30.0)
    assert held(ann, correction(1, 37.0, who="bo")) == ("holds", "C001")
    assert held(ann, correction(1, 45.0, who="bo")) == ("disputed", None)
    assert held(ann, correction(1, 45.0, who="bo"), correction(2, kind="undo", who="bo")) == ("holds", "C000")
    elsewhere = correction(1, 30.0, who="bo", to_window=np.array([80.0, 20.0, 300.0]))
    larger = correction(1, 30.0, who="bo", to_window=np.array([-50.0, -40.0, 420.0]))
    assert held(ann, elsewhere) == held(ann, larger) == ("disputed", None)


def test_a_lead_settles_a_dispute():
    log = [correction(0, 0.0), correction(1, 60.0, who="bo")]
    ruling = correction(2, 150.0, who="cy", client=f"{ADJUDICATION}/page")
    assert held(*log, ruling) == ("holds", "C002")
    assert held(*log, ruling, correction(3, 90.0)) == ("holds", "C002")


def publish(workspace, *log):
    parts = workspace.parts("tables/corrections")
    workspace.write_part("tables/corrections", len(parts), records.to_table(Correction, log), "test")


def test_a_build_takes_what_holds_by_part(workspace):
    write_plan(workspace, 0, ["a"], sha256="a" * 64)
    write_plan(workspace, 1, ["b"], sha256="b" * 64)
    assert take(workspace).holding == {} and not workspace.exists(corrections.FILE)
    publish(workspace, correction(0, photo="b" * 64), correction(1, person="q", photo="c" * 64))
    taken = take(workspace)
    assert taken.of(workspace, 0) == () and taken.digest(workspace, 0) == ""
    assert [one.correction_id for one in taken.of(workspace, 1)] == ["C000"] and taken.digest(workspace, 1)
    assert applied(workspace) == taken  # every digit of every number
    assert corrections.told(workspace) == [
        "1 labels corrected by people are applied",
        "1 corrections are of photos that the workspace does not have",
    ]
    write_plan(workspace, 2, ["c"], sha256="c" * 64)  # photos that come with the same build
    assert [one.correction_id for one in applied(workspace).of(workspace, 2)] == ["C001"]
    publish(workspace, correction(2, kind="undo"), correction(3, 90.0, who="bo", person="q"))
    assert take(workspace).holding == {} == applied(workspace).holding
    assert corrections.told(workspace)[0].startswith("1 labels have corrections that do not agree")


@pytest.mark.parametrize(
    "spoilt", [b"", b"{}", b"[{}]", b"[1]", b'[{"camera": [NaN]}]', b"person", b"photo", b"digits"]
)
def test_a_damaged_snapshot_is_told_and_written_anew(workspace, spoilt):
    write_plan(workspace, 0, ["a"])
    publish(workspace, correction(0))
    taken = take(workspace)
    (written,) = parse_json(workspace.read_bytes(corrections.FILE))
    changed = {
        b"person": {"person_id": ["p"]}, b"photo": {"photo_id": {}}, b"digits": {"pose": [10**400] * 6}
    }  # fmt: skip
    if spoilt in changed:
        spoilt = json.dumps([written | changed[spoilt]]).encode()
    workspace.write_bytes(corrections.FILE, spoilt)
    with pytest.raises(WorkspaceError, match=r"corrections\.json is damaged"):
        applied(workspace)
    assert take(workspace) == taken == applied(workspace)


@pytest.fixture
def correcting(toys, monkeypatch):
    """The toy stage `look` takes corrections: it counts what it was given."""
    given = []
    stages = list(toys.stages)

    def look(inputs, context):
        given.append(dict(context.corrections))
        return stages[1].run(inputs, context)

    changed = dataclasses.replace(stages[1], run=look, corrected=True)
    monkeypatch.setattr(engine, "STAGES", (stages[0], changed))
    return given


def test_only_the_parts_concerned_run_and_without_corrections_nothing_changes(workspace, toys, correcting):
    for part, name in enumerate("ab"):
        write_plan(workspace, part, [name], sha256=name * 64)

    def build():
        toys.calls.clear()
        correcting.clear()
        report = run_inline(workspace, CONFIG, [])
        assert report.errors == [] and whole.behind(workspace) == []
        return [(one.stage, one.part) for one in report.reports if not one.skipped]

    assert len(build()) == 4 and correcting == [{}, {}]
    plain = workspace.part_info("tables/people", 1).fingerprint
    assert plain == engine.fingerprint(engine.recipe(engine.STAGES[1], CONFIG), [
        workspace.part_info("tables/photos", 1)
    ])  # fmt: skip
    publish(workspace, correction(0, photo="b" * 64))
    assert build() == [("look", 1)] and correcting[0]["p"].correction_id == "C000"
    assert build() == []
    publish(workspace, correction(1, 5.0, photo="b" * 64))
    whole.prepare(workspace, CONFIG)  # a build that was killed here
    assert [(one.stage, one.part) for one in whole.behind(workspace)] == [("look", 1)]
    assert build() == [("look", 1)] and correcting[0]["p"].correction_id == "C001"
    publish(workspace, correction(2, kind="undo"), correction(3, kind="undo"))
    assert build() == [("look", 1)] and correcting == [{}]
    assert workspace.part_info("tables/people", 1).fingerprint == plain
