"""Portraits for the annotation tools of others, in which people decide about them and correct their labels.

What people fill in is the same in all three: a verdict, a reason, a note, and the label's nine numbers, which
are filled in already. `phq review import` brings their answers back (`review.tool_answers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from phq_data.interchange.annotations import NUMBERS, SEEN, UNDECIDED, Annotated, images_into
from phq_data.text import printable

TOOLS = ("fiftyone", "cvat", "label-studio")
VERDICTS = (UNDECIDED, "accept", "reject", "flag")
_DEGREES = "degrees"


def write_fiftyone(portraits: Iterable[Annotated], out: Path, reasons: Mapping[str, str]) -> int:
    """`data/`, `metadata.json` and `samples.json`: what `fiftyone.types.FiftyOneDataset` is loaded from."""
    samples = []
    for one in images_into(out / "data", portraits):
        sample: dict[str, Any] = {
            "filepath": f"data/{one.file}", "tags": [], "portrait_id": one.portrait_id,
            "reason": "", "note": "",
            "verdict": {"_cls": "Classification", "label": one.verdict},
            "person": {"_cls": "Detections", "detections": [_fiftyone_box(one)]},
            "keypoints": {"_cls": "Keypoints", "keypoints": [_fiftyone_points(one)]},
            **one.numbers,
        }  # fmt: skip
        samples.append(sample)
    info = {"verdicts": list(VERDICTS), "reasons": dict(reasons), "numbers": _DEGREES}
    (out / "metadata.json").write_text(
        json.dumps({"name": "phq", "media_type": "image", "info": info}, indent=1)
    )
    (out / "samples.json").write_text(json.dumps({"samples": samples}))
    return len(samples)


def write_cvat(portraits: Iterable[Annotated], out: Path, reasons: Mapping[str, str]) -> int:
    """`images/`, `annotations.xml` (CVAT for images 1.1) and `labels.json` for the task's constructor."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = _cvat_labels(reasons)
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    listed = ElementTree.SubElement(task, "labels")
    for label in labels:
        _cvat_label(listed, label)
    count = 0
    for number, one in enumerate(images_into(out / "images", portraits)):
        count += 1
        side = str(one.side)
        image = ElementTree.SubElement(root, "image", id=str(number), name=one.file, width=side, height=side)
        tag = ElementTree.SubElement(image, "tag", label="portrait", source="manual")
        answers = {"verdict": one.verdict, "reason": "", "note": ""} | {
            n: str(v) for n, v in one.numbers.items()
        }
        for name, value in answers.items():
            ElementTree.SubElement(tag, "attribute", name=name).text = value
        x, y, width, height = one.box
        ElementTree.SubElement(
            image, "box", label="person", source="automatic", occluded="0", z_order="0",
            xtl=str(x), ytl=str(y), xbr=str(x + width), ybr=str(y + height),
        )  # fmt: skip
    ElementTree.indent(root)
    (out / "annotations.xml").write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    (out / "labels.json").write_text(json.dumps(labels, indent=1))
    return count


def write_label_studio(portraits: Iterable[Annotated], out: Path, reasons: Mapping[str, str]) -> int:
    """`images/`, `tasks.json` and `config.xml`, the labelling interface.

    Images are named as Label Studio's local storage names them when its document root is `out`.
    """
    tasks = []
    for one in images_into(out / "images", portraits):
        result = [_studio_item(name, "number", {"number": value}) for name, value in one.numbers.items()]
        if one.verdict != UNDECIDED:
            result.insert(0, _studio_item("verdict", "choices", {"choices": [one.verdict]}))
        data = {
            "image": f"/data/local-files/?d=images/{one.file}", "portrait_id": one.portrait_id,
            "title": printable(one.photo.get("title") or ""),
        }  # fmt: skip
        tasks.append({"data": data, "predictions": [{"model_version": "phq", "result": result}]})
    (out / "tasks.json").write_text(json.dumps(tasks))
    (out / "config.xml").write_text(_studio_config(reasons))
    return len(tasks)


def _fiftyone_box(one: Annotated) -> dict[str, Any]:
    relative = [value / one.side for value in one.box]
    return {"_cls": "Detection", "label": "person", "bounding_box": relative}


def _fiftyone_points(one: Annotated) -> dict[str, Any]:
    points = [[x / one.side, y / one.side] for x, y, score in one.keypoints.tolist() if score >= SEEN]
    return {"_cls": "Keypoint", "label": "person", "points": points}


def _cvat_labels(reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    def attribute(name: str, kind: str, values: list[str]) -> dict[str, Any]:
        return {
            "name": name, "mutable": False, "input_type": kind, "default_value": values[0], "values": values
        }  # fmt: skip

    portrait = [
        attribute("verdict", "select", list(VERDICTS)),
        attribute("reason", "select", ["", *reasons]),
        *(attribute(name, "text", [""]) for name in ("note", *NUMBERS)),
    ]
    return [
        {"name": "portrait", "type": "tag", "attributes": portrait},
        {"name": "person", "type": "rectangle", "attributes": []},
    ]


def _cvat_label(parent: ElementTree.Element, label: Mapping[str, Any]) -> None:
    made = ElementTree.SubElement(parent, "label")
    ElementTree.SubElement(made, "name").text = label["name"]
    ElementTree.SubElement(made, "type").text = label["type"]
    attributes = ElementTree.SubElement(made, "attributes")
    for one in label["attributes"]:
        attribute = ElementTree.SubElement(attributes, "attribute")
        for name in ("name", "mutable", "input_type", "default_value"):
            ElementTree.SubElement(attribute, name).text = str(one[name])
        ElementTree.SubElement(attribute, "values").text = "\n".join(one["values"])


def _studio_item(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "image", "type": kind, "value": dict(value)}


def _studio_config(reasons: Mapping[str, str]) -> str:
    """The labelling interface as Label Studio's own XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    for name, words in (("verdict", VERDICTS[1:]), ("reason", tuple(reasons))):
        choices = ElementTree.SubElement(view, "Choices", name=name, toName="image", choice="single-radio")
        for word in words:
            ElementTree.SubElement(choices, "Choice", value=word, hint=reasons.get(word, word))
    ElementTree.SubElement(view, "TextArea", name="note", toName="image", maxSubmissions="1", rows="1")
    for name in NUMBERS:
        ElementTree.SubElement(view, "Header", value=f"{name}, {_DEGREES}", size="6")
        ElementTree.SubElement(view, "Number", name=name, toName="image", min="-360", max="360")
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
