"""Finding what an id or a file name means, and collecting its rows from every table, up and downstream."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from phq_data import schema
from phq_data.records import Row
from phq_data.stages.base import plain
from phq_data.stages.sequence import STAGE_NAMES
from phq_data.text import printable
from phq_data.workspace import Workspace, WorkspaceError

Kind = Literal["file", "photo", "person", "fit", "portrait"]

_TABLES: tuple[tuple[Kind, str, str], ...] = (
    ("file", "plan", "item"),
    ("photo", "tables/photos", "photo_id"),
    ("person", "tables/people", "person_id"),
    ("fit", "tables/fits", "fit_id"),
    ("portrait", "tables/portraits", "portrait_id"),
)
_LEAST = 4
"""Digits that a part of an id must have; shorter words are looked for in file names."""
_TOLD = 8  # suggestions in an error
_HEX = re.compile(r"[0-9a-f]+")


class InspectionError(WorkspaceError):
    """Nothing, or more than one thing, goes by that name; the message says what does."""


@dataclass(frozen=True)
class _Hit:
    kind: Kind
    id: str
    part: int
    photo_id: str  # or the file's item
    uri: str


@dataclass(frozen=True)
class Inspection:
    """Rows of all tables that belong to one thing. Images are left out; `image.draw` reads them."""

    kind: Kind
    id: str
    part: int  # of every table
    files: tuple[Row, ...]  # of `plan`: all files with these bytes
    photo: Row | None
    people: tuple[Row, ...]  # everybody in the photo, left to right
    fits: tuple[Row, ...]
    portraits: tuple[Row, ...]  # without image and mask
    verdicts: tuple[Row, ...]  # of `screened`, without overlay
    duplicates: tuple[Row, ...]  # all members of the portraits' clusters
    decisions: tuple[Row, ...]
    ledger: tuple[Row, ...]  # in the order of the stages
    person_id: str  # whom this is about; "" = the whole photo

    @property
    def uri(self) -> str:
        """Where the photo came from."""
        return str(self.photo["uri"]) if self.photo else str(self.files[0]["uri"]) if self.files else ""

    def about(self, rows: Iterable[Row]) -> list[Row]:
        """Those of `rows` (people, fits or portraits) that this is about."""
        return [row for row in rows if not self.person_id or row["person_id"] == self.person_id]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON-able values."""
        names = ("files", "people", "fits", "portraits", "verdicts", "duplicates", "decisions", "ledger")
        rows = {name: [_json_row(row) for row in getattr(self, name)] for name in names}
        return {
            "kind": self.kind,
            "id": self.id,
            "part": self.part,
            "person_id": self.person_id,
            "uri": self.uri,
            "photo": _json_row(self.photo) if self.photo else None,
            **rows,
        }


def inspect(workspace: Workspace, text: str) -> Inspection:
    """Everything about what `text` names: an id or its first digits, or a part of a file's name or address.

    Raises `InspectionError` with suggestions when nothing or more than one thing goes by that name.
    """
    wanted = text.strip()
    if not wanted:
        raise InspectionError("name an id or a part of a file name")
    hit = _by_id(workspace, wanted.lower()) or _by_name(workspace, wanted)
    if hit is None:
        raise InspectionError(_nothing(workspace, wanted))
    return _collect(workspace, hit)


# ---- what is meant ---------------------------------------------------------------------------------------


def _by_id(workspace: Workspace, prefix: str) -> _Hit | None:
    if len(prefix) < _LEAST or not _HEX.fullmatch(prefix):
        return None
    hits: dict[str, _Hit] = {}
    for kind, folder, key in _TABLES:
        photo_key = "item" if kind == "file" else "photo_id"
        uri = ["uri"] if kind in ("file", "photo") else []
        for part, rows in workspace.search(folder, key, prefix, list({key, photo_key, *uri})):
            for row in rows.to_pylist():
                # A photo is also a file of the plan: the later table says more.
                hits[row[key]] = _Hit(kind, row[key], part, row[photo_key], row.get("uri", ""))
    if prefix in hits:
        return hits[prefix]
    return _only(list(hits.values()), f"ids start with '{prefix}'", "give more digits")


def _by_name(workspace: Workspace, text: str) -> _Hit | None:
    wanted = unquote(text).lower()
    found: dict[str, _Hit] = {}
    exact: dict[str, _Hit] = {}
    photos = {
        row["photo_id"]: part
        for part in workspace.parts("tables/photos")
        for row in workspace.read_part("tables/photos", part, ["photo_id"]).to_pylist()
    }
    for part in workspace.parts("plan"):
        for row in workspace.read_part("plan", part, ["item", "uri"]).to_pylist():
            name = unquote(row["uri"]).lower()
            if wanted not in name and text.lower() not in row["uri"].lower():
                continue
            item = row["item"]
            kind: Kind = "photo" if item in photos else "file"
            hit = _Hit(kind, item, photos.get(item, part), item, row["uri"])
            found.setdefault(item, hit)
            if name == wanted or name.rpartition("/")[2] == wanted:
                exact.setdefault(item, hit)
    if len(exact) == 1:
        return next(iter(exact.values()))
    return _only(list(found.values()), f"files match '{text}'", "give more of the name, or an id")


def _only(hits: Sequence[_Hit], what: str, advice: str) -> _Hit | None:
    if len(hits) <= 1:
        return hits[0] if hits else None
    lines = [f"  {hit.kind:<8} {hit.id[:12]}  {printable(unquote(hit.uri))}".rstrip() for hit in hits[:_TOLD]]
    more = [f"  and {len(hits) - _TOLD} more"] if len(hits) > _TOLD else []
    raise InspectionError("\n".join([f"{len(hits)} {what}: {advice}", *lines, *more]))


def _nothing(workspace: Workspace, text: str) -> str:
    names = {
        unquote(row["uri"]).rpartition("/")[2]: row["item"]
        for row in workspace.table("plan", ["item", "uri"]).to_pylist()
    }
    if not names:
        return f"there is nothing called '{text}': the workspace {workspace.url} is empty"
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    shown = close or sorted(names)[:3]
    words = ", ".join(f"{printable(name)} ({names[name][:8]})" for name in shown)
    hint = "the nearest file names are" if close else "there are, for example,"
    note = "" if len(text) >= _LEAST else f" (an id needs at least {_LEAST} digits)"
    return f"no id or file name matches '{text}'{note}; {hint} {words}. `phq report` shows ids"


# ---- its rows --------------------------------------------------------------------------------------------


def _collect(workspace: Workspace, hit: _Hit) -> Inspection:
    part, photo_id = hit.part, hit.photo_id

    def rows(
        folder: str, name: str, column: str, values: Iterable[str], drop: Iterable[str] = ()
    ) -> list[Row]:
        if workspace.part_info(folder, part) is None:
            return []
        columns = [c for c in schema.SCHEMAS[name].names if c not in drop]
        table = workspace.read_part(folder, part, columns)
        kept = table.filter(pc.is_in(table[column], value_set=pa.array(list(values), pa.string())))
        return list(kept.to_pylist())

    photos = rows("tables/photos", "photos", "photo_id", [photo_id])
    people = sorted(rows("tables/people", "people", "photo_id", [photo_id]), key=lambda row: row["order"])
    fits = rows("tables/fits", "fits", "photo_id", [photo_id])
    portraits = rows("tables/portraits", "portraits", "photo_id", [photo_id], drop=("image", "mask"))
    ids = [row["portrait_id"] for row in portraits]
    verdicts = rows("tables/screened", "screened", "portrait_id", ids, drop=("overlay",))
    person_id = _person_of(hit, people, fits, portraits)
    if person_id:
        fits = [row for row in fits if row["person_id"] == person_id]
        portraits = [row for row in portraits if row["person_id"] == person_id]
    if hit.kind == "portrait":
        portraits = [row for row in portraits if row["portrait_id"] == hit.id]
    ids = [row["portrait_id"] for row in portraits]
    about = {photo_id, *ids, *(row["fit_id"] for row in fits)}
    about |= {row["person_id"] for row in people if not person_id or row["person_id"] == person_id}
    duplicates = workspace.table("duplicates").to_pylist() if ids else []
    clusters = {row["cluster"] for row in duplicates if row["portrait_id"] in ids}
    ledger = [row for s in STAGE_NAMES for row in rows(f"ledger/{s}", "ledger", "item", about)]
    return Inspection(
        kind=hit.kind,
        id=hit.id,
        part=part,
        files=tuple(_files(workspace, photo_id)),
        photo=photos[0] if photos else None,
        people=tuple(people),
        fits=tuple(fits),
        portraits=tuple(portraits),
        verdicts=tuple(row for row in verdicts if row["portrait_id"] in ids),
        duplicates=tuple(row for row in duplicates if row["cluster"] in clusters),
        decisions=tuple(r for r in workspace.table("decisions").to_pylist() if r["portrait_id"] in ids),
        ledger=tuple(ledger),
        person_id=person_id,
    )


def _person_of(hit: _Hit, people: list[Row], fits: list[Row], portraits: list[Row]) -> str:
    if hit.kind == "person":
        return hit.id
    rows = fits if hit.kind == "fit" else portraits if hit.kind == "portrait" else []
    return next((str(row["person_id"]) for row in rows if row[f"{hit.kind}_id"] == hit.id), "")


def _files(workspace: Workspace, item: str) -> list[Row]:
    """All files of the plan with these bytes: copies of a photo may lie in other parts."""
    return [row for _, rows in workspace.search("plan", "item", item) for row in rows.to_pylist()]


def _json_row(row: Row) -> Row:
    """A row with times as text and numbers that are none as null."""
    return {
        name: plain(value.isoformat() if hasattr(value, "isoformat") else value)
        for name, value in row.items()
    }
