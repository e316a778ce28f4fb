"""`rights.json` and `rights.toml`: who made the files of a folder, and what one may do with them.

Such a file speaks for its own folder and everything below; a folder further down overrides it field by field.

    {
      "license": "CC-BY-4.0",
      "author": "Ada Example",
      "rights_evidence": "written agreement of 2026-03-01",
      "files": {
        "studio/*.jpg": {"author": "Bo Example"},
        "portrait.png": {"license": "CC0-1.0", "title": "A portrait"}
      }
    }

The names are those of `Provenance`. A license may be spelled as one likes ("CC BY 4.0"): it is recorded under
its one name. `phq build` takes photos without a free license too, and a release stops at them; `phq scrape
folder` does not take them. Keys of `files` are paths below the folder; `*` and `?` stand for
anything, also for `/`. Later entries win over earlier ones. `permission` may be a text or an object.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phq_data.compatibility import PROVENANCE, notice, upgrade_provenance
from phq_data.foreign import parse_json, parse_toml
from phq_data.sources import Provenance, SourceError
from phq_data.sources.licenses import normalise
from phq_data.text import suggestion

RIGHTS_NAMES = ("rights.json", "rights.toml")
_FIELDS = tuple(field.name for field in dataclasses.fields(Provenance))


@dataclass(frozen=True)
class FolderRights:
    """What one rights file says. `base` holds for every file, `rules` for those that match a pattern."""

    base: Mapping[str, str]
    rules: tuple[tuple[str, Mapping[str, str]], ...]

    def apply(self, inherited: Provenance, relative: str) -> Provenance:
        """`inherited` with this file's word about `relative`, a path below the folder with `/` in it."""
        changes = dict(self.base)
        for pattern, values in self.rules:
            if fnmatch.fnmatchcase(relative, pattern):
                changes.update(values)
        return dataclasses.replace(inherited, **changes)


def read_rights(folder: Path) -> FolderRights | None:
    """The rights file of `folder`, None when there is none. Raises `SourceError` saying what is wrong."""
    present = [folder / name for name in RIGHTS_NAMES if (folder / name).is_file()]
    if not present:
        return None
    if len(present) > 1:
        raise SourceError(f"{folder} holds both {' and '.join(RIGHTS_NAMES)}: keep one of them")
    path = present[0]
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} must hold an object of names and values")
    rules = content.pop("files", {})
    if not isinstance(rules, dict) or not all(isinstance(value, dict) for value in rules.values()):
        raise SourceError(f"{path}: 'files' maps file names to objects like {{'author': '...'}}")
    return FolderRights(
        _checked(content, path), tuple((pattern, _checked(value, path)) for pattern, value in rules.items())
    )


def _checked(stated: Mapping[str, Any], path: Path) -> dict[str, str]:
    result: dict[str, str] = {}
    values = upgrade_provenance(stated)
    notice(f"{path}: names", {old: new for old, new in PROVENANCE.items() if old in stated})
    for name, value in values.items():
        if name not in _FIELDS:
            raise SourceError(f"{path}: there is no '{name}'; {suggestion(name, [*_FIELDS, 'files'])}")
        if name == "permission" and isinstance(value, dict):
            value = json.dumps(value, sort_keys=True, default=str)
        if isinstance(value, datetime.date):
            value = value.isoformat()
        if not isinstance(value, str):
            raise SourceError(f"{path}: '{name}' must be a text, not {value!r}")
        if name == "rights_checked_at":
            try:
                datetime.date.fromisoformat(value[:10])
            except ValueError:
                raise SourceError(f"{path}: '{name}' is a date like 2026-03-01, not {value!r}") from None
        result[name] = value
    if "license" in result:
        found = normalise(result["license"], result.get("license_url"))
        if found.name:
            result["license"] = found.name
        result.setdefault("rights_evidence", f"stated in {path.name} beside the files")
    return result
