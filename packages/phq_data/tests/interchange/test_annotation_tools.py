"""Portraits for other tools: each format is read by the tool's own package, or as its documentation says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from workspace_fixtures import small_workspace

from phq_data import camera
from phq_data.cli.main import make_app
from phq_data.images.codecs import decode_struct
from phq_data.interchange.annotations import NUMBERS, into_folder, numbers_of
from phq_data.interchange.portrait import ExchangeError
from phq_data.interchange.training_formats import run_lengths
from phq_data.records import Decision
from phq_data.review import decisions

FORMATS = ("fiftyone", "cvat", "label-studio", "webdataset", "coco")


def export(out, form, workspace):
    """`phq export`; raises what it says to the user."""
    command = ["export", str(out), "--format", form, "-w", workspace.url]
    CliRunner().invoke(make_app(), command, catch_exceptions=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace of 12 portraits, two rejected by the screening, one of them accepted, another rejected."""
    found = small_workspace(tmp_path_factory.mktemp("made") / "workspace", 12)
    ids = [row["portrait_id"] for row in found.screened if row["kept"]]
    for number, verdict in enumerate(("accept", "reject")):
        one = Decision(
            decision_id=f"D{number}", portrait_id=ids[number], verdict=verdict, reviewer="ada", reason="",
            time=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0,
            client="test", note=None,
        )  # fmt: skip
        decisions.append(found.workspace, [one])
    return found


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """Every format, written by the command."""
    folder = tmp_path_factory.mktemp("exported")
    for name in FORMATS:
        export(folder / name, name, made.workspace)
    return folder


@pytest.fixture(scope="module")
def rows(made):
    """The kept portraits by their id, representatives only."""
    dropped = {row["portrait_id"] for row in made.duplicates if not row["representative"]}
    kept = {row["portrait_id"] for row in made.screened if row["kept"]} - dropped
    found = {row["portrait_id"]: row for row in made.portraits if row["portrait_id"] in kept}
    assert len(found) > 6
    return found


def verdicts(made):
    ids = [row["portrait_id"] for row in made.screened if row["kept"]]
    return {ids[0]: "accept", ids[1]: "reject"}


def test_coco_reads_masks_boxes_and_keypoints(exported, rows, made):
    coco_module = pytest.importorskip("pycocotools.coco")
    found = coco_module.COCO(str(exported / "coco" / "annotations.json"))
    images = {one["portrait_id"]: one for one in found.loadImgs(found.getImgIds())}
    assert set(images) == set(rows)
    assert {one["name"] for one in found.dataset["licenses"]} == {"CC0-1.0", "unknown"}
    (person,) = found.loadCats(found.getCatIds(catNms=["person"]))
    assert len(person["keypoints"]) == 17 and person["keypoints"][5] == "left_shoulder"
    assert all(1 <= end <= 17 for pair in person["skeleton"] for end in pair)
    for name, row in rows.items():
        image = images[name]
        shown = Image.open(exported / "coco" / "images" / image["file_name"])
        assert shown.size == (image["width"], image["height"]) == (row["size"], row["size"])
        assert np.array_equal(np.asarray(shown), decode_struct(row["image"]))
        (one,) = found.loadAnns(found.getAnnIds(imgIds=[image["id"]]))
        mask = decode_struct(row["mask"]) > 127
        assert np.array_equal(found.annToMask(one).astype(bool), mask)
        from pycocotools import mask as runs

        encoded = found.annToRLE(one)
        assert runs.area(encoded) == one["area"] == mask.sum()
        assert np.array_equal(runs.toBbox(encoded), one["bbox"])
        points = np.array(one["keypoints"]).reshape(17, 3)
        seen = np.array(row["keypoints"]).reshape(17, 3)[:, 2] >= 0.3
        assert np.array_equal(points[:, 2] == 2, seen) and one["num_keypoints"] == seen.sum()
        assert one["camera"] == pytest.approx(row["camera"]) and one["verdict"] == verdicts(made).get(
            name, "undecided"
        )


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 16)])
def test_run_lengths_are_those_of_coco(shape):
    runs = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = random.random(shape) < share
        made = run_lengths(mask)
        assert np.array_equal(runs.decode(runs.frPyObjects(made, *shape)).astype(bool), mask)


def test_webdataset_reads_images_masks_and_labels(exported, rows, made, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(str(path) for path in (exported / "webdataset").iterdir())
    assert [path.rpartition("/")[2] for path in shards] == ["portraits-000000.tar"]
    read = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [one["__key__"] for one in read] == list(dict.fromkeys(one["__key__"] for one in read))
    assert {one["__key__"] for one in read} == set(rows)
    for one in read:
        row = rows[one["__key__"]]
        assert np.array_equal(one["png"], decode_struct(row["image"]))
        assert np.array_equal(one["mask.png"][..., 0], decode_struct(row["mask"]))
        assert one["json"]["camera"] == pytest.approx(row["camera"])
        assert set(one["json"]["degrees"]) == set(NUMBERS)
    again = tmp_path / "again"
    export(again, "webdataset", made.workspace)
    assert (again / "portraits-000000.tar").read_bytes() == (
        exported / "webdataset/portraits-000000.tar"
    ).read_bytes()


def test_fiftyone_finds_what_its_importer_asks_for(exported, rows, made):
    """A FiftyOneDataset: without a `version` in metadata.json, samples are read by their `_cls`."""
    folder = exported / "fiftyone"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["media_type"] == "image" and "version" not in metadata
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert {one["portrait_id"] for one in samples} == set(rows)
    for one in samples:
        row = rows[one["portrait_id"]]
        with Image.open(folder / one["filepath"]) as shown:
            assert shown.size == (row["size"], row["size"])
        assert one["verdict"] == {
            "_cls": "Classification", "label": verdicts(made).get(one["portrait_id"], "undecided")
        }  # fmt: skip
        (box,) = one["person"]["detections"]
        x, y, width, height = box["bounding_box"]
        assert min(x, y) >= 0 and x + width <= 1 and y + height <= 1 and width * height > 0
        (points,) = one["keypoints"]["keypoints"]
        assert len(points["points"]) == 6  # those whose score is at least 0.3
        assert one["yaw"] == pytest.approx(np.degrees(row["yaw"]), abs=1e-3)


def test_cvat_gets_labels_images_and_answers(exported, rows, made):
    folder = exported / "cvat"
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    declared = {label["name"]: label for label in json.loads((folder / "labels.json").read_text())}
    listed = {label.findtext("name"): label for label in root.iterfind("meta/task/labels/label")}
    assert set(declared) == set(listed) == {"portrait", "person"}
    names = [one["name"] for one in declared["portrait"]["attributes"]]
    assert names == ["verdict", "reason", "note", *NUMBERS]
    for one in listed["portrait"].iterfind("attributes/attribute"):
        assert {child.tag for child in one} == {"name", "mutable", "input_type", "default_value", "values"}
    images = root.findall("image")
    assert [int(one.get("id")) for one in images] == list(range(len(rows)))
    for image in images:
        name = image.get("name").removesuffix(".png")
        assert (folder / "images" / image.get("name")).is_file() and image.get("width") == image.get("height")
        (tag,) = image.findall("tag")
        answers = {one.get("name"): one.text or "" for one in tag}
        assert list(answers) == names
        assert answers["verdict"] == verdicts(made).get(name, "undecided")
        assert answers["verdict"] in declared["portrait"]["attributes"][0]["values"]
        (box,) = image.findall("box")
        assert float(box.get("xbr")) > float(box.get("xtl")) and float(box.get("ybr")) > float(box.get("ytl"))


def test_label_studio_gets_tasks_that_fit_its_interface(exported, rows, made):
    folder = exported / "label-studio"
    view = ElementTree.parse(folder / "config.xml").getroot()
    controls = {one.get("name"): one for one in view if one.get("toName")}
    assert view.find("Image").get("value") == "$image"
    tasks = json.loads((folder / "tasks.json").read_text())
    assert {task["data"]["portrait_id"] for task in tasks} == set(rows)
    kinds = {"Choices": "choices", "Number": "number", "TextArea": "textarea"}
    for task in tasks:
        path = task["data"]["image"].partition("?d=")[2]
        assert (folder / path).is_file()
        (prediction,) = task["predictions"]
        for item in prediction["result"]:
            control = controls[item["from_name"]]
            assert kinds[control.tag] == item["type"] and control.get("toName") == item["to_name"] == "image"
            if item["type"] == "choices":
                assert item["value"]["choices"][0] in {one.get("value") for one in control}
    chosen = {
        task["data"]["portrait_id"]: item["value"]["choices"][0]
        for task in tasks
        for item in task["predictions"][0]["result"]
        if item["type"] == "choices"
    }
    assert chosen == {name: verdict for name, verdict in verdicts(made).items() if name in rows}


def test_the_nine_numbers_are_the_label():
    label = camera.to_label(camera.from_angles(0.5, -0.2, 0.1))
    numbers = numbers_of(label, np.radians([10, 20, 30, -40, 0, 5]))
    assert list(numbers.values()) == pytest.approx(
        [28.6479, -11.4592, 5.7296, 10, 20, 30, -40, 0, 5], abs=2e-4
    )  # fmt: skip


def test_a_folder_is_whole_or_not_there_and_nothing_is_written_over(made, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ExchangeError, match="holds something already"):
        export(tmp_path / "full", "coco", made.workspace)

    def broken(folder):
        (folder / "half").write_text("half")
        raise ExchangeError("the disk is full")

    with pytest.raises(ExchangeError, match="disk is full"):
        into_folder(tmp_path / "new", broken)
    with pytest.raises(ExchangeError, match="no portrait to write"):
        into_folder(tmp_path / "new", lambda folder: 0)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    (tmp_path / "empty").mkdir()
    export(tmp_path / "empty", "coco", made.workspace)
    assert (tmp_path / "empty" / "annotations.json").is_file()
    with pytest.raises(ExchangeError, match="label-studio"):
        export(tmp_path / "other", "yolo", made.workspace)
