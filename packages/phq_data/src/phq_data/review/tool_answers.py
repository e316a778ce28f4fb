"""Answers of people in FiftyOne, CVAT and Label Studio: what each said of which portrait.

Read are files that these tools export after `phq export --format` gave them the portraits. They come from
other programs and machines, so their sizes are bounded, JSON is read strictly, and XML with a document type
(which could declare entities) is refused.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from phq_data.foreign import first_line, parse_json, read_member
from phq_data.interchange.annotations import NUMBERS, UNDECIDED
from phq_data.review.consensus import ReviewError

LARGEST = 1 << 28
"""Bytes of a file."""
MOST = 1_000_000
"""Answers in a file."""
_VERDICTS = ("accept", "reject", "flag")
_LONGEST = {"note": 4000, "reason": 500, "portrait_id": 64}
_CVAT_FILE, _FIFTYONE_FILE = "annotations.xml", "samples.json"


@dataclass(frozen=True)
class Answer:
    """What somebody said of a portrait in another tool."""

    portrait_id: str
    verdict: str | None = None  # accept, reject, flag; None: undecided
    reason: str = ""
    note: str = ""
    numbers: Mapping[str, float] = field(
        default_factory=dict
    )  # of the label, degrees, by annotations.NUMBERS


def read(file: Path, tool: str) -> list[Answer]:
    """The answers in an exported file (or folder, or CVAT's zip), one a portrait.

    Raises `ReviewError` naming what cannot be used; then nothing of the file is.
    """
    readers = {"fiftyone": _fiftyone, "cvat": _cvat, "label-studio": _label_studio}
    found: dict[str, Answer] = {}
    for number, one in enumerate(readers[tool](_content(file, tool), str(file)), 1):
        if number > MOST:
            raise ReviewError(f"{file} holds more than {MOST:,} answers")
        if one.portrait_id in found and found[one.portrait_id] != one:
            raise ReviewError(f"{file} answers twice for portrait {one.portrait_id:.32}, and differently")
        found[one.portrait_id] = one
    if not found:
        raise ReviewError(
            f"{file} holds no answers about portraits: was it made by phq export --format {tool}?"
        )
    return list(found.values())


def _content(file: Path, tool: str) -> bytes:
    """The bytes of the file that has the answers."""
    if file.is_dir():
        file = file / {"fiftyone": _FIFTYONE_FILE, "cvat": _CVAT_FILE, "label-studio": "tasks.json"}[tool]
    try:
        if tool == "cvat" and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return read_member(archive, _CVAT_FILE)
        if file.stat().st_size > LARGEST:
            raise ReviewError(f"{file} is larger than {LARGEST >> 20} MiB")
        return file.read_bytes()
    except KeyError:
        raise ReviewError(f"{file} has no {_CVAT_FILE} in it: export it as CVAT for images 1.1") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise ReviewError(f"cannot read {file}: {first_line(error)}") from error


def _fiftyone(data: bytes, where: str) -> Iterator[Answer]:
    document = _json(data, where)
    samples = document.get("samples") if isinstance(document, Mapping) else None
    if not isinstance(samples, list):
        raise ReviewError(f"{where} has no list of samples: export it as a FiftyOneDataset")
    for number, sample in enumerate(samples, 1):
        if not isinstance(sample, Mapping):
            raise ReviewError(f"{where}: sample {number} is no object")
        verdict = sample.get("verdict")
        given = verdict.get("label") if isinstance(verdict, Mapping) else verdict
        fields = {name: sample.get(name) for name in ("portrait_id", "reason", "note", *NUMBERS)}
        yield _answer({**fields, "verdict": given}, f"{where}: sample {number}")


def _label_studio(data: bytes, where: str) -> Iterator[Answer]:
    tasks = _json(data, where)
    if not isinstance(tasks, list):
        raise ReviewError(f"{where} is no list of tasks: export it as JSON, not JSON-MIN")
    for number, task in enumerate(tasks, 1):
        at = f"{where}: task {number}"
        if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
            raise ReviewError(f"{at} has no data")
        annotations = task.get("annotations") or []
        if not isinstance(annotations, list) or not all(isinstance(one, Mapping) for one in annotations):
            raise ReviewError(f"{at}: its annotations are no list of objects")
        given = [one for one in annotations if not one.get("was_cancelled")]
        if not given:
            continue
        last = max(given, key=lambda one: str(one.get("updated_at") or ""))
        fields: dict[str, Any] = {"portrait_id": task["data"].get("portrait_id")}
        result = last.get("result")
        for item in result if isinstance(result, list) else []:
            if not isinstance(item, Mapping) or not isinstance(item.get("value"), Mapping):
                raise ReviewError(f"{at}: an item of its result has no value")
            value = next(
                (item["value"][k] for k in ("choices", "text", "number") if k in item["value"]), None
            )
            fields[str(item.get("from_name"))] = value[0] if isinstance(value, list) and value else value
        yield _answer(fields, at)


def _cvat(data: bytes, where: str) -> Iterator[Answer]:
    class Refusing(ElementTree.TreeBuilder):
        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise ReviewError(
                f"{where} declares a document type, which no export of CVAT does: it is not read"
            )

    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=Refusing()))
    except ElementTree.ParseError as error:
        raise ReviewError(f"{where} is no XML: {first_line(error)}") from error
    for image in root.iter("image"):
        at = f"{where}: image {image.get('name', '')[:80]}"
        for tag in image.iterfind("tag[@label='portrait']"):
            fields: dict[str, Any] = {one.get("name", ""): one.text for one in tag.iterfind("attribute")}
            yield _answer({**fields, "portrait_id": Path(image.get("name", "")).stem}, at)


def _json(data: bytes, where: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise ReviewError(f"{where} is no JSON: {first_line(error)}") from error


def _answer(fields: Mapping[str, Any], at: str) -> Answer:
    """An answer whose every field is of its kind. Raises `ReviewError` that begins with `at`."""
    texts = {}
    for name in ("portrait_id", "verdict", "reason", "note"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise ReviewError(f"{at}: '{name}' must be text, not {type(value).__name__}")
        texts[name] = (value or "").strip()
    if not texts["portrait_id"]:
        raise ReviewError(f"{at} names no portrait (portrait_id)")
    if texts["verdict"] not in ("", UNDECIDED, *_VERDICTS):
        raise ReviewError(f"{at}: a verdict is one of {', '.join(_VERDICTS)}, not {texts['verdict'][:40]!r}")
    for name, most in _LONGEST.items():
        if len(texts[name]) > most:
            raise ReviewError(f"{at}: its {name} has more than {most} letters")
    verdict = texts["verdict"] if texts["verdict"] in _VERDICTS else None
    numbers = {
        name: _number(fields[name], name, at) for name in NUMBERS if fields.get(name) not in (None, "")
    }
    return Answer(texts["portrait_id"], verdict, texts["reason"], texts["note"], numbers)


def _number(value: Any, name: str, at: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found) or abs(found) > 360:
        raise ReviewError(f"{at}: '{name}' must be degrees between -360 and 360, not {str(value)[:40]!r}")
    return found
