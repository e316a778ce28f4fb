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
anything, also for `/`, and nothing else does. A key may be written with the accents of another system, with
backslashes, or, where no file is spelled so, in other case; one that fits no file is named to the user. Later
entries win over earlier ones. `permission` may be a text or an object. `consent` of the people shown is yes,
no or unknown; where it is no, no release takes the photo.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phq_data.compatibility import PROVENANCE, notice, upgrade_provenance
from phq_data.files import read_written_text
from phq_data.foreign import parse_json, parse_toml
from phq_data.sources import Provenance, SourceError
from phq_data.sources.licenses import normalise
from phq_data.text import suggestion, wildcard

RIGHTS_NAMES = ("rights.json", "rights.toml")
CONSENT = ("yes", "no", "unknown")
"""Do the people shown agree. Where nothing is recorded, nobody has said."""
_FIELDS = tuple(field.name for field in dataclasses.fields(Provenance))


@dataclass(frozen=True)
class FolderRights:
    """What one rights file says. `base` holds for every file, `rules` for those that match a pattern."""

    path: Path
    base: Mapping[str, str]
    rules: tuple[tuple[str, Mapping[str, str]], ...]

    def apply(self, inherited: Provenance, numbers: Sequence[int]) -> Provenance:
        """`inherited` with this file's word about a file of which the rules of these numbers speak."""
        changes = dict(self.base)
        for number in numbers:
            changes.update(self.rules[number][1])
        return dataclasses.replace(inherited, **changes)

    def match(self, names: Collection[str]) -> tuple[dict[str, list[int]], list[str]]:
        """Which rules speak of each of `names`, paths below the folder with `/`, by the rules' numbers; and
        the patterns that fit none of them.
        """
        spelled = [_by(names, spelling) for spelling in (_composed, _folded)]
        numbers: dict[str, list[int]] = {}
        strangers = []
        for number, (pattern, _) in enumerate(self.rules):
            hits = next((hits for hits in _fitting(spelled, pattern) if hits), [])
            for name in hits:
                numbers.setdefault(name, []).append(number)
            if not hits:
                strangers.append(pattern)
        return numbers, strangers


def _composed(name: str) -> str:
    """A name with its accents in one letter each: a Mac writes them as two."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()


_Spelled = Mapping[str, Sequence[str]]


def _by(names: Collection[str], spelling: Callable[[str], str]) -> _Spelled:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(spelling(name), []).append(name)
    return found


def _fitting(spelled: Sequence[_Spelled], pattern: str) -> Iterator[list[str]]:
    """The names that `pattern` means: as written, with `/` for backslashes, in any case. The first counts."""
    as_written, in_any_case = spelled
    plain = _composed(pattern)
    yield _hits(as_written, plain)
    if "\\" in plain:
        yield _hits(as_written, plain.replace("\\", "/"))
    yield _hits(in_any_case, plain.replace("\\", "/").casefold())


def _hits(spelled: _Spelled, pattern: str) -> list[str]:
    if not {"*", "?"} & set(pattern):
        return list(spelled.get(pattern, ()))
    fits = wildcard([re.escape(piece).replace(r"\?", ".") for piece in pattern.split("*")]).fullmatch
    return [name for spelling, names in spelled.items() if fits(spelling) for name in names]


def read_rights(folder: Path) -> FolderRights | None:
    """The rights file of `folder`, None when there is none. Raises `SourceError` saying what is wrong."""
    present = [folder / name for name in RIGHTS_NAMES if (folder / name).is_file()]
    if not present:
        return None
    if len(present) > 1:
        raise SourceError(f"{folder} holds both {' and '.join(RIGHTS_NAMES)}: keep one of them")
    path = present[0]
    try:
        text = read_written_text(path)
        content = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} must hold an object of names and values")
    rules = content.pop("files", {})
    if not isinstance(rules, dict) or not all(isinstance(value, dict) for value in rules.values()):
        raise SourceError(f"{path}: 'files' maps file names to objects like {{'author': '...'}}")
    return FolderRights(
        path,
        _checked(content, path),
        tuple((pattern, _checked(value, path)) for pattern, value in rules.items()),
    )


def unstated(folder: Path) -> bool:
    """Is there no rights file in `folder` nor in any folder below it?"""
    return folder.is_dir() and not any(set(RIGHTS_NAMES) & set(names) for _, _, names in os.walk(folder))


def how_to_state(source: str) -> str:
    """What states the rights in the photos of a folder (or a file) that was given to `phq build`."""
    folder = Path(source).expanduser()
    folder = folder.parent if folder.is_file() else folder
    present = next((name for name in RIGHTS_NAMES if (folder / name).is_file()), "")
    return f"edit {folder / present}" if present else f"phq rights init {shlex.quote(str(folder))}"


def _checked(stated: Mapping[str, Any], path: Path) -> dict[str, str]:
    result: dict[str, str] = {}
    values = upgrade_provenance(stated)
    notice(f"{path}: names", {old: new for old, new in PROVENANCE.items() if old in stated})
    for name, value in values.items():
        if name not in _FIELDS:
            raise SourceError(f"{path}: there is no '{name}'; {suggestion(name, [*_FIELDS, 'files'])}")
        if name == "permission" and isinstance(value, dict | list):
            value = json.dumps(value, sort_keys=True, default=str)
        if isinstance(value, datetime.date):
            value = value.isoformat()
        if not isinstance(value, str):
            raise SourceError(f"{path}: '{name}' must be a text, not {value!r}")
        if name == "consent" and value not in CONSENT:
            raise SourceError(f"{path}: 'consent' is one of {', '.join(CONSENT)}, not {value!r}")
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
