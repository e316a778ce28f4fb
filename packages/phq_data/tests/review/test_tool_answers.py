"""Answers of FiftyOne, CVAT and Label Studio: what people changed there arrives, once; hostile files not."""

import json
import zipfile
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner
from workspace_fixtures import small_workspace

from phq_data import camera
from phq_data.cli.main import make_app
from phq_data.interchange.annotations import NUMBERS, numbers_of
from phq_data.review import corrections, decisions, items, tool_answers
from phq_data.review.consensus import ReviewError
from phq_data.review.records import StoredLabel
from phq_data.review.store import Store
from phq_data.review.take_answers import changed_label, take
from phq_data.review.tool_answers import Answer, read

TOOLS = ("fiftyone", "cvat", "label-studio")


@pytest.fixture
def made(tmp_path):
    return small_workspace(tmp_path / "workspace", 8)


@pytest.fixture
def opened(made):
    store = Store.open(made.workspace)
    items.sync(store, made.workspace)
    yield store
    store.close()


@pytest.fixture(params=TOOLS)
def tool(request):
    return request.param


def exported(workspace, tool, folder):
    command = ["export", str(folder), "--format", tool, "-w", workspace.url]
    CliRunner().invoke(make_app(), command, catch_exceptions=False)
    return folder


def edit_fiftyone(folder, changes):
    path = folder / "samples.json"
    document = json.loads(path.read_text())
    for number, sample in enumerate(document["samples"]):
        sample["_id"] = {"$oid": f"{number:024x}"}  # as the tool's own export has it
        sample["verdict"] |= {"_id": {"$oid": f"{number:024x}"}, "tags": [], "confidence": None}
        for name, value in changes.get(sample["portrait_id"], {}).items():
            if name == "verdict":
                sample["verdict"]["label"] = value
            else:
                sample[name] = value
    path.write_text(json.dumps(document))
    return folder


def edit_cvat(folder, changes):
    path = folder / "annotations.xml"
    tree = ElementTree.parse(path)
    for image in tree.getroot().iter("image"):
        for one in image.iterfind("tag/attribute"):
            given = changes.get(image.get("name").rpartition(".")[0], {}).get(one.get("name"))
            one.text = one.text if given is None else str(given)
    tree.write(path)
    with zipfile.ZipFile(folder / "task.zip", "w") as archive:
        archive.write(path, "annotations.xml")
    return folder / "task.zip"


def edit_label_studio(folder, changes):
    """The tool's JSON export: what was predicted, submitted with changes, beside older annotations."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        given = changes.get(task["data"]["portrait_id"])
        task |= {"id": number, "annotations": []}
        if given is None:
            continue
        kinds = {"verdict": "choices", "reason": "choices", "note": "text"}
        result = [one for one in task.pop("predictions")[0]["result"] if one["from_name"] not in given]
        for name, value in given.items():
            kind = kinds.get(name, "number")
            shown = value if kind == "number" else [value]
            result.append({"from_name": name, "to_name": "image", "type": kind, "value": {kind: shown}})
        older = [
            {"from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": ["flag"]}}
        ]
        task["annotations"] = [
            {"result": result, "was_cancelled": False, "updated_at": "2026-02-02T10:00:00Z"},
            {"result": older, "was_cancelled": False, "updated_at": "2026-01-01T10:00:00Z"},
            {"result": older, "was_cancelled": True, "updated_at": "2026-03-03T10:00:00Z"},
        ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


EDITS = {"fiftyone": edit_fiftyone, "cvat": edit_cvat, "label-studio": edit_label_studio}


def test_decisions_and_corrections_come_back_once(made, opened, tool, tmp_path):
    folder = exported(made.workspace, tool, tmp_path / "out")
    rows = {row["portrait_id"]: row for row in made.portraits}
    first, second, third = [row["portrait_id"] for row in made.screened if row["kept"]][2:5]
    changes: dict[str, dict[str, Any]] = {
        first: {"verdict": "accept"},
        second: {"verdict": "reject", "reason": "blur", "note": "=moved"},
        third: {"yaw": round(float(np.degrees(rows[third]["yaw"])) + 20, 4), "head_x": 12.5},
    }
    file = EDITS[tool](folder, changes)
    answers = read(file, tool)
    taken = take(made.workspace, opened, answers, "ada", tool)
    assert (taken.decisions, taken.corrections, taken.refused) == (2, 1, ())
    decided = {one.portrait_id: one for one in decisions.published(made.workspace) or opened.entries()}
    assert set(decided) == {first, second}
    rejected = decided[second]
    assert (rejected.verdict, rejected.reason, rejected.note) == ("reject", "blur", "=moved")
    assert rejected.reviewer == "ada" and rejected.client == tool
    (entry,) = corrections.entries(opened)
    label = StoredLabel.from_json(entry.to_label)
    yaw, pitch, roll = (float(v) for v in camera.angles(camera.from_label(np.array(label.camera))[0]))
    assert np.degrees(yaw - rows[third]["yaw"]) % 360 == pytest.approx(20, abs=1e-3)
    assert (pitch, roll) == pytest.approx((rows[third]["pitch"], rows[third]["roll"]), abs=1e-6)
    assert label.pose[3] == pytest.approx(np.radians(12.5))
    assert label.pose[:3] == pytest.approx(rows[third]["pose"][:3], abs=1e-7)
    assert label.window == tuple(rows[third]["window"])
    # The same file again says nothing new; another verdict does.
    again = take(made.workspace, opened, answers, "ada", tool)
    assert (again.decisions, again.corrections, again.as_before) == (0, 0, len(answers))
    changes[first]["verdict"] = "reject"
    file = EDITS[tool](exported(made.workspace, tool, tmp_path / "more"), changes)
    assert take(made.workspace, opened, read(file, tool), "ada", tool).decisions == 1


def test_portraits_of_another_workspace_are_refused_by_name(made, opened):
    answers = [Answer("0" * 32, "accept"), Answer(made.portraits[3]["portrait_id"], "accept")]
    taken = take(made.workspace, opened, answers, "ada", "cvat")
    assert taken.decisions == 1
    assert [one.decision_id for one in taken.refused] == ["0" * 32]


def test_numbers_that_were_left_alone_change_no_digit():
    label = camera.to_label(camera.from_angles(1.23456789, -0.2, 0.05))
    pose = (0.1, -0.2, 0.3, 0.4, 0.5, -0.6)
    stored = StoredLabel(tuple(map(float, label)), pose, (1.0, 2.0, 3.0))
    numbers = numbers_of(label, pose)
    assert changed_label(stored, numbers) is None
    assert changed_label(stored, {**numbers, "yaw": numbers["yaw"] - 360}) is None
    moved = changed_label(stored, {**numbers, "neck_y": 33})
    assert moved.camera == stored.camera and moved.pose == (0.1, np.radians(33), *pose[2:])


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotations><image name="x.png"><tag label="portrait"><attribute name="note">&c;</attribute></tag></image>
</annotations>"""
OUTSIDE = """<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>"""


def cvat(name="a.png", **answers):
    inner = "".join(f'<attribute name="{key}">{value}</attribute>' for key, value in answers.items())
    return f'<annotations><image name="{name}"><tag label="portrait">{inner}</tag></image></annotations>'


@pytest.mark.parametrize(
    ("tool", "text", "message"),
    [
        ("cvat", BOMB, "document type"),
        ("cvat", OUTSIDE, "document type"),
        ("cvat", "<annotations>", "no XML"),
        ("cvat", cvat(verdict="love"), "a verdict is one of accept, reject, flag, not 'love'"),
        ("cvat", cvat(yaw="north"), "'yaw' must be degrees"),
        ("cvat", cvat(yaw="1e9"), "'yaw' must be degrees"),
        ("cvat", cvat(note="n" * 4001), "more than 4000"),
        ("cvat", cvat(reason="n" * 501), "its reason has more than 500"),
        ("cvat", cvat(name="n" * 65), "its portrait_id has more than 64"),
        ("cvat", cvat(name=""), "names no portrait"),
        ("cvat", "<annotations/>", "holds no answers"),
        ("fiftyone", "{", "no JSON"),
        ("fiftyone", "[" * 100_000, "no JSON"),
        ("fiftyone", '{"samples": {"a": 1}}', "no list of samples"),
        ("fiftyone", '{"samples": [3]}', "sample 1 is no object"),
        ("fiftyone", '{"samples": [{"portrait_id": 7}]}', "must be text"),
        ("fiftyone", '{"samples": [{"portrait_id": "a", "yaw": NaN}]}', "no JSON"),
        ("fiftyone", '{"samples": [{"portrait_id": "a", "yaw": true}]}', "'yaw' must be degrees"),
        ("fiftyone", '{"samples": [{"portrait_id": "a"}, {"portrait_id": "a", "yaw": 3}]}', "answers twice"),
        ("label-studio", "{}", "no list of tasks"),
        ("label-studio", "[4]", "task 1 has no data"),
        ("label-studio", '[{"data": {}, "annotations": 5}]', "no list of objects"),
        (
            "label-studio",
            '[{"data": {"portrait_id": "a"}, "annotations": [{"result": [3]}]}]',
            "has no value",
        ),
        ("label-studio", '[{"data": {"portrait_id": "a"}}]', "holds no answers"),
    ],
)
def test_files_that_are_wrong_are_told_in_a_sentence(tmp_path, tool, text, message):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ReviewError, match=message):
        read(path, tool)


def test_large_files_and_odd_zips_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tool_answers, "LARGEST", 100)
    (tmp_path / "large.json").write_text(json.dumps({"samples": [], "more": "x" * 200}))
    with pytest.raises(ReviewError, match="larger than"):
        read(tmp_path / "large.json", "fiftyone")
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("other.xml", "<a/>")
    with pytest.raises(ReviewError, match=r"no annotations\.xml"):
        read(tmp_path / "task.zip", "cvat")
    with pytest.raises(ReviewError, match="cannot read"):
        read(tmp_path / "nowhere.json", "fiftyone")
    monkeypatch.setattr(tool_answers, "MOST", 2)
    monkeypatch.setattr(tool_answers, "LARGEST", 1 << 20)
    (tmp_path / "many.json").write_text(json.dumps({"samples": [{"portrait_id": str(n)} for n in range(3)]}))
    with pytest.raises(ReviewError, match="more than 2 answers"):
        read(tmp_path / "many.json", "fiftyone")


def test_every_number_can_be_changed():
    label = camera.to_label(camera.from_angles(0.3, 0.1, 0.0))
    stored = StoredLabel(tuple(map(float, label)), (0.0,) * 6, (0.0, 0.0, 9.0))
    before = numbers_of(label, stored.pose)
    for name in NUMBERS:
        moved = changed_label(stored, {name: before[name] + 7})
        after = numbers_of(moved.camera, moved.pose)
        assert after[name] - before[name] == pytest.approx(7, abs=1e-3)
        assert [after[other] for other in NUMBERS if other != name] == pytest.approx(
            [before[other] for other in NUMBERS if other != name], abs=2e-3
        )
